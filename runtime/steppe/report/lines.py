"""A file of JSON lines that takes what it can."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import orjson

from steppe.report.records import RequestRecord, TickRecord

_log = logging.getLogger(__name__)


class Lines:
    """A new file of records, one a line, each on disk at once.

    A line that cannot be written, as on a full disk, is counted and left out as a whole; those
    that can be come after it.
    """

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            OSError: It is there already, or cannot be.
        """
        self._path, self._file = path, path.open("xb", buffering=0)
        self._end = 0
        self.lost = 0
        """Lines that could not be written."""

    def write(self, record: TickRecord | RequestRecord) -> None:
        """Write a line, or count it as lost; the first one that is gets a warning."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        try:
            self._cut()
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            self._end += len(line)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                _log.warning("%s: lines are lost: %s", self._path, error.strerror)
            with contextlib.suppress(OSError):
                self._cut()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _cut(self) -> None:
        """Take away what there is of a line whose end could not be written."""
        if self._file.tell() != self._end:
            self._file.truncate(self._end)
            self._file.seek(self._end)
