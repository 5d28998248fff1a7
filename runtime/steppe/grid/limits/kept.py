"""The file in which the limits of all links are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.grid.limits.held import Held
from steppe.grid.limits.steady_clock import Stamp


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of the file.

    Attributes:
        stamp: When it was written.
        held: What was held then.
    """

    stamp: Stamp
    held: Held


_CONTENT: TypeAdapter[Kept] = TypeAdapter(Kept)


class KeptFile:
    """A file with one line of JSON after a line with its SHA-256; it is replaced as a whole.

    The version before it stays beside it, for the case that it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read yet."""
        self.path = path
        self._before = path.with_name(path.name + ".before")
        self._is_sound = False

    def read(self) -> Kept | None:
        """Return what was kept; None if there is no file.

        Raises:
            UsageError: It cannot be read, or is not what was written.
        """
        self._is_sound = False
        kept = _read(self.path)
        self._is_sound = kept is not None
        return kept

    def read_before(self) -> Kept | None:
        """Return the version before, or what was set aside; None if there is none to be read."""
        with contextlib.suppress(UsageError):
            return _read(self._before)
        return None

    def write(self, kept: Kept) -> None:
        """Replace the file, and wait until it is on disk.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        body = _CONTENT.dump_json(kept)
        draft = self.path.with_name(self.path.name + ".draft")
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            if self._is_sound:
                self._keep_version()
            draft.replace(self.path)
            sync_folder(self.path.parent)
        self._is_sound = True

    def set_aside(self) -> None:
        """Make it the version before, if that is possible, since something newer holds."""
        if self._is_sound:
            with contextlib.suppress(OSError):
                self.path.replace(self._before)
                sync_folder(self.path.parent)
        self._is_sound = False

    def _keep_version(self) -> None:
        """Give the present version a second name, if there is one."""
        second = self.path.with_name(self.path.name + ".second")
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)
            os.link(self.path, second)
            second.replace(self._before)


def _read(path: Path) -> Kept | None:
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if digest.decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        raise UsageError(f"{path}: asked for the limits that were kept, found other bytes")
    try:
        return _CONTENT.validate_json(body)
    except ValidationError as error:
        found = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: asked for limits, found {found}") from error
