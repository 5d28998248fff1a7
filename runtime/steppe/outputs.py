"""Where may a command write? What exists stays; what cannot be is said before anything starts."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from steppe.errors import UsageError


def cache_folder() -> Path:
    """Return steppe's folder in the user's cache: `$XDG_CACHE_HOME/steppe` or `~/.cache/steppe`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steppe"


class OutPath(click.ParamType[Path]):
    """A path to write at; empty text names none."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            UsageError: Nothing can be written there.
        """
        if not str(value):
            self.fail("asked for a path, found an empty one", param, ctx)
        path = Path(value)
        try:
            self.refuse(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot write here: {error.strerror}") from error
        return path

    def refuse(self, path: Path) -> None:
        """Refuse what may not be written, see the kinds of paths."""
        raise NotImplementedError


class NewFile(OutPath):
    """A file that is not there yet, in a folder that is; or a device or pipe."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; one that ends in a slash, which `Path` forgets, is that of a folder."""
        if str(value).endswith("/"):
            raise UsageError(f"{value}: asked for a new file, found the name of a folder")
        return super().convert(value, param, ctx)

    def refuse(self, path: Path) -> None:
        """Refuse a file that exists, and a folder that takes none."""
        if is_stream(path):
            return
        if path.exists():
            raise UsageError(f"{path}: asked for a new file, found one that exists")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: asked for a new file, found no folder {path.parent}")
        refuse_unwritable(path.parent)


def is_stream(path: Path) -> bool:
    """Tell a device or a pipe, which keeps nothing, from a file."""
    return path.is_char_device() or path.is_fifo()


def refuse_unwritable(folder: Path) -> None:
    """Make sure that a folder, which need not be there yet, takes files; leaves nothing behind.

    Raises:
        UsageError: It cannot be made, or takes none.
    """
    made: list[Path] = []
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder}: cannot write here: {error.strerror}") from error
    finally:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file that is either whole or not there.

    Raises:
        UsageError: It cannot be written.
    """
    draft = path if is_stream(path) else path.with_name(path.name + ".draft")
    try:
        try:
            with draft.open("wb") as file:
                file.writelines(lines)
            if draft != path:
                draft.replace(path)
        except OSError:
            if draft != path:
                draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot write: {error.strerror}") from error
