"""Reads records and writes the page of one of them, or of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from steppe.errors import UsageError
from steppe.page.record import RecordReader, ShownRun
from steppe.page.record_html import record_files
from steppe.report.record_folder import CHANGES_FILE, RECORD_FILE, REQUESTS_FILE, SUMMARY_FILE

MOST_RUNS = 2


def page_of(folders: Sequence[Path]) -> Mapping[str, bytes]:
    """Return the files of the page of one run, or of two side by side, by their names.

    Args:
        folders: Their records.

    Raises:
        UsageError: A folder has no record, or a line of it cannot be read.
    """
    return record_files([read_shown_run(folder, _names(folders)[folder]) for folder in folders])


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the page into a folder, and return the file to open.

    Raises:
        UsageError: As `page_of`; or the folder cannot be written.
    """
    files = page_of(folders)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (out / name).write_bytes(body)
    except OSError as error:
        raise UsageError(f"{out}: cannot write the page here: {error.strerror}") from error
    return out / "index.html"


def read_shown_run(folder: Path, name: str) -> ShownRun:
    """Return a run as its page shows it; one that goes on, too.

    Args:
        folder: Its record.
        name: What it is called on the page.

    Raises:
        UsageError: The folder has no record, or a line of it cannot be read.
    """
    if not (folder / RECORD_FILE).is_file():
        raise UsageError(f"{folder}: asked for the folder of a record, found no {RECORD_FILE}")
    reader = RecordReader()
    _read_lines(folder / RECORD_FILE, reader.add_tick)
    _read_lines(folder / REQUESTS_FILE, reader.add_request)
    _read_lines(folder / CHANGES_FILE, reader.add_change)
    return reader.shown(name, _summary(folder / SUMMARY_FILE))


def _names(folders: Sequence[Path]) -> Mapping[Path, str]:
    """Return the shortest names that distinguish the folders."""
    resolved = {folder: folder.resolve() for folder in folders}
    short = {folder: path.name or str(path) for folder, path in resolved.items()}
    if len(set(short.values())) == len(short):
        return short
    return {folder: f"{path.parent.name}/{path.name}" for folder, path in resolved.items()}


def _summary(path: Path) -> Mapping[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{path}: asked for a summary, found {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: asked for a summary, found {type(found).__name__}")
    return found


def _read_lines(path: Path, add: Callable[[Mapping[str, Any]], None]) -> None:
    """Give each line to `add`; a last one that is not whole yet is left out."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return  # the run writes it now, or was killed while it did
            try:
                add(orjson.loads(line))
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                found = f"found {type(error).__name__}: {error}"
                raise UsageError(
                    f"{path}:{number}: asked for a line of a record, {found}"
                ) from error
