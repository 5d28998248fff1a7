"""Options for output folders: a new one, or that of a sweep to continue."""

from __future__ import annotations

from pathlib import Path

from steppe.errors import UsageError
from steppe.measure.sweep.store import RESULTS_FILE, read_results
from steppe.outputs import OutPath, refuse_unwritable
from steppe.report.broken_off import close_broken_record
from steppe.report.record_folder import (
    RECORD_FILE,
    earlier_run,
    is_being_recorded,
    refuse_full_folder,
)


class NewFolder(OutPath):
    """A folder that is new or empty."""

    def refuse(self, path: Path) -> None:
        """Refuse a folder that is not empty or cannot be written."""
        refuse_full_folder(path)
        refuse_unwritable(path)


def refuse_record(folder: Path, *, resume: bool) -> None:
    """Check, before a run starts, that it could be recorded in a folder.

    A run there whose process was killed is closed first if this one is to go on with it.

    Args:
        folder: The folder.
        resume: Whether it may hold an earlier run.

    Raises:
        UsageError: It holds something else, or cannot be read or written.
    """
    if not resume:
        refuse_full_folder(folder)
        return
    if is_being_recorded(folder):
        raise UsageError(f"{folder}: asked to go on with a run, found it still recording")
    try:
        close_broken_record(folder)
    except OSError as error:
        raise UsageError(f"{folder}: its run cannot be closed: {error.strerror}") from error
    if earlier_run(folder) is None:
        refuse_full_folder(folder)


class RunFolder(OutPath):
    """A folder that is new or empty, or holds a record; see `refuse_record` for the rest."""

    def refuse(self, path: Path) -> None:
        """Refuse a folder that holds anything but a record, or cannot be written."""
        if not (path / RECORD_FILE).is_file():
            refuse_full_folder(path)
        refuse_unwritable(path)


class SweepFolder(OutPath):
    """A folder that is new or empty, or holds a sweep."""

    def refuse(self, path: Path) -> None:
        """Refuse a folder that holds anything but a sweep, or cannot be written."""
        if (path / RESULTS_FILE).is_file():
            read_results(path)
        else:
            refuse_full_folder(path)
        refuse_unwritable(path)
