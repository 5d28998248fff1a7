"""Options for output folders: a new one, or that of a sweep to continue."""

from __future__ import annotations

from pathlib import Path

from steppe.measure.sweep.store import RESULTS_FILE, read_results
from steppe.outputs import OutPath, refuse_unwritable
from steppe.report.record_folder import refuse_full_folder


class NewFolder(OutPath):
    """A folder that is new or empty."""

    def refuse(self, path: Path) -> None:
        """Refuse a folder that is not empty or cannot be written."""
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
