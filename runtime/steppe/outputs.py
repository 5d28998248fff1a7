"""Output paths: checked before a command starts, and never overwritten."""

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
    """A path to write to; not empty."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path.

        Raises:
            UsageError: The path cannot be written.
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
        """Refuse a path that must not be written; subclasses decide."""
        raise NotImplementedError


class NewFile(OutPath):
    """A file that does not exist, in a folder that does; or a device or pipe."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; refuse one that ends with a slash, which `Path` would drop."""
        if str(value).endswith("/"):
            raise UsageError(f"{value}: asked for a new file, found the name of a folder")
        return super().convert(value, param, ctx)

    def refuse(self, path: Path) -> None:
        """Refuse a file that exists, and a folder that cannot be written."""
        if is_stream(path):
            return
        if path.exists():
            raise UsageError(f"{path}: asked for a new file, found one that exists")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: asked for a new file, found no folder {path.parent}")
        refuse_unwritable(path.parent)


def is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe."""
    return path.is_char_device() or path.is_fifo()


def refuse_unwritable(folder: Path) -> None:
    """Check that a folder, which need not exist yet, can be written; leaves nothing behind.

    Raises:
        UsageError: It cannot be made or written.
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
    """Write a file completely or not at all.

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
