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
    """A file with one line of JSON after a line with its SHA-256; it is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read yet."""
        self.path = path

    def read(self) -> Kept | None:
        """Return what was kept; None if there is no file.

        Raises:
            UsageError: It cannot be read, or is not what was written.
        """
        try:
            digest, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or error}") from error
        if digest.decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
            raise UsageError(f"{self.path}: asked for the limits that were kept, found other bytes")
        try:
            return _CONTENT.validate_json(body)
        except ValidationError as error:
            found = " ".join(str(error).split())[:200]
            raise UsageError(f"{self.path}: asked for limits, found {found}") from error

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
            draft.replace(self.path)
            sync_folder(self.path.parent)

    def remove(self) -> None:
        """Remove the file, if that is possible."""
        with contextlib.suppress(OSError):
            self.path.unlink()
            sync_folder(self.path.parent)
