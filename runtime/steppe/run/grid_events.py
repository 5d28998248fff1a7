"""The events of a run on disk: its folder of the grid, one of its events, and their check."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from steppe.errors import UsageError
from steppe.grid.reports.checking import CheckedEvent, checked_event
from steppe.grid.reports.event_folder import EventFolder, event_folders
from steppe.grid.reports.record import EventRecord
from steppe.ledger.service_entry import GRID_EVENT
from steppe.report.record_folder import GRID_FOLDER
from steppe.run.ledger_folder import ledger_folder

EVENTS = "events"
"""Folder of the events in that of the grid."""


def events_of(run: Path) -> list[tuple[EventFolder, EventRecord]]:
    """Return the events of a record, or of a folder of the grid, by their start.

    Raises:
        UsageError: It has no folder of the grid, or an event cannot be read.
    """
    return [(each, each.record()) for each in event_folders(_folder_of(run))]


def find_event(run: Path, name: str) -> tuple[EventFolder, EventRecord]:
    """Return the newest event of an id, of `LINK/ID`, or of the name of its folder.

    Raises:
        UsageError: There is none.
    """
    found = events_of(run)
    for folder, record in reversed(found):
        if name in (record.event.id, f"{record.event.source}/{record.event.id}", folder.name):
            return folder, record
    known = ", ".join(dict.fromkeys(record.event.id for _, record in found)) or "none"
    raise UsageError(f"{run}: asked for event {name[:60]}, found {known}")


def check_events(run: Path) -> list[CheckedEvent]:
    """Return what the check of all events of a run finds.

    Raises:
        UsageError: It has no folder of the grid, or its ledger cannot be read.
    """
    logged = _logged(run)
    return [checked_event(folder, logged) for folder in event_folders(_folder_of(run))]


def _folder_of(run: Path) -> Path:
    for folder in (run / GRID_FOLDER / EVENTS, run / EVENTS):
        if folder.is_dir():
            return folder
    if (run / GRID_FOLDER).is_dir():
        return run / GRID_FOLDER / EVENTS
    asked = "asked for the record of a run with a grid, or for a folder of the grid"
    raise UsageError(f"{run}: {asked}, found no {GRID_FOLDER}/{EVENTS} and no {EVENTS}")


def _logged(run: Path) -> Collection[bytes] | None:
    """Return the entries of events in the ledger of a run; None without a ledger."""
    try:
        ledger = ledger_folder(run)
    except UsageError:
        return None
    if not ledger.store:
        return None
    with ledger.opened() as store:
        return frozenset(store.of_kind(GRID_EVENT))
