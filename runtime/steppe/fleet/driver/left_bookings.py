"""The steps that a run could not hand over before it ended: files in the folder of the ledger.

The next run with that folder hands them over before its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking

FOLDER = "left"
"""Name of their folder in that of the ledger."""


def leave_bookings(folder: Path, bookings: Sequence[Booking]) -> Path:
    """Write the steps of a run to a file, whole or not at all; return it.

    Args:
        folder: Folder of the ledger.
        bookings: The steps, in their order.

    Raises:
        UsageError: It cannot be written.
    """
    path = folder / FOLDER / f"{bookings[0].run}.jsonl"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            for booking in bookings:
                file.write(orjson.dumps(booking, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    return path


def left_files(folder: Path) -> list[Path]:
    """Return the files that earlier runs have left, oldest first: names begin with a time."""
    return sorted((folder / FOLDER).glob("*.jsonl"))


def read_bookings(path: Path) -> list[Booking]:
    """Return the steps that a run has left.

    Raises:
        UsageError: The file cannot be read, or a line is no step.
    """
    with disk_errors(path):
        lines = path.read_bytes().splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_booking(orjson.loads(line)))
        except (TypeError, KeyError, AttributeError, orjson.JSONDecodeError) as error:
            raise UsageError(
                f"{path}: line {number}: asked for a booking, found {error}"
            ) from error
    return found


def _booking(values: dict[str, Any]) -> Booking:
    requests = tuple(BookedRequest(**each) for each in values.pop("requests"))
    totals = BookedTotals(**values.pop("totals"))
    return Booking(**values, requests=requests, totals=totals)
