"""Writes a run down as it goes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from steppe.errors import UsageError
from steppe.report.figures import run_figure
from steppe.report.lines import Lines
from steppe.report.records import RequestRecord, RunTotals, Slo, TickRecord
from steppe.report.run import (
    FIGURE_FILE,
    RECORD_FILE,
    REQUESTS_FILE,
    SUMMARY_FILE,
    each_request,
    read_ticks,
)
from steppe.report.summary import Summary, summarise

_log = logging.getLogger(__name__)


def refuse_full_folder(folder: Path) -> None:
    """Make sure, before a run is started, that it could be recorded there.

    Raises:
        UsageError: The folder holds something, or is none.
    """
    try:
        is_full = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: cannot record here: {error.strerror}") from error
    if is_full:
        raise UsageError(f"{folder}: asked for a new or empty folder, found a full one")


class Recorder:
    """Writes `record.jsonl` and `requests.jsonl` line by line; a context manager.

    Every line leaves the process at once, so a crash loses at most the last one, and memory
    does not grow with the run. `finish` adds `summary.json` and `figure.png`. What a full disk
    does not take is left out with a warning, and the summary counts the lines: the run goes on.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder and its two files.

        Args:
            folder: Where to record; must not exist or must be empty.

        Raises:
            UsageError: The folder holds something, or cannot be written.
        """
        self._folder = folder
        refuse_full_folder(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ticks = Lines(folder / RECORD_FILE)
            self._requests = Lines(folder / REQUESTS_FILE)
        except OSError as error:
            raise UsageError(f"{folder}: cannot record here: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tick(self, record: TickRecord) -> None:
        """Write one tick."""
        self._ticks.write(record)

    def request(self, record: RequestRecord) -> None:
        """Write one request that has ended."""
        self._requests.write(record)

    def leave(self, name: str, write: Callable[[Path], object]) -> None:
        """Add a file that `write` writes: a whole one or, with a warning, none."""
        path = self._folder / name
        try:
            write(path)
        except OSError as error:
            _log.warning("%s: cannot be written: %s", path, error.strerror)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def finish(self, totals: RunTotals, slo: Slo) -> Summary:
        """Close the lines and write the summary and the figure of what they hold.

        Returns:
            What `summary.json` holds.
        """
        self.close()
        ticks, lost = read_ticks(self._folder), self._ticks.lost + self._requests.lost
        whole = replace(totals, lost_lines=lost)
        summary = summarise(ticks, each_request(self._folder), whole, slo)
        text = summary_text(summary)
        self.leave(SUMMARY_FILE, lambda path: path.write_text(text))
        self.leave(FIGURE_FILE, lambda path: run_figure(ticks, summary, path))
        return summary

    def close(self) -> None:
        """Close the two files; closing twice is harmless."""
        self._ticks.close()
        self._requests.close()


def summary_text(summary: Summary) -> str:
    """Return a summary as one JSON document."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(summary, option=options).decode()
