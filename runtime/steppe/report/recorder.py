"""Writes a run down as it goes."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from steppe.errors import UsageError
from steppe.report.figures import run_figure
from steppe.report.records import RequestRecord, RunTotals, Slo, TickRecord
from steppe.report.run import (
    FIGURE_FILE,
    RECORD_FILE,
    REQUESTS_FILE,
    SUMMARY_FILE,
    read_requests,
    read_ticks,
)
from steppe.report.summary import Summary, summarise


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
    does not grow with the run. `finish` adds `summary.json` and `figure.png`.
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
            self._ticks: BinaryIO = (folder / RECORD_FILE).open("xb")
            self._requests: BinaryIO = (folder / REQUESTS_FILE).open("xb")
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
        _write_line(self._ticks, record)

    def request(self, record: RequestRecord) -> None:
        """Write one request that has ended."""
        _write_line(self._requests, record)

    def finish(self, totals: RunTotals, slo: Slo) -> Summary:
        """Close the lines and write the summary and the figure of what they hold.

        Returns:
            What `summary.json` holds.
        """
        self.close()
        ticks = read_ticks(self._folder)
        summary = summarise(ticks, read_requests(self._folder), totals, slo)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        (self._folder / SUMMARY_FILE).write_bytes(orjson.dumps(summary, option=options))
        run_figure(ticks, summary, self._folder / FIGURE_FILE)
        return summary

    def close(self) -> None:
        """Close the two files; closing twice is harmless."""
        self._ticks.close()
        self._requests.close()


def _write_line(file: BinaryIO, record: TickRecord | RequestRecord) -> None:
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    file.write(orjson.dumps(record, option=options))
    file.flush()
