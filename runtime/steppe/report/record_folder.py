"""A record folder: written line by line while a run goes, and read back."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import orjson

from steppe.errors import UsageError
from steppe.power.battery import Charge
from steppe.report.continued import EarlierRun
from steppe.report.figures import run_figure
from steppe.report.records import (
    BatchTick,
    ConfigChangeRecord,
    GpuEvent,
    GridTick,
    PoolTick,
    ReplicaTick,
    RequestRecord,
    RunTotals,
    ShortageTick,
    Slo,
    TickRecord,
)
from steppe.report.sites_records import SiteCall
from steppe.report.sites_summary import SitesSummary
from steppe.report.summary import RequestSums, Summary, summarise

Record = TypeVar("Record")

RECORD_FILE = "record.jsonl"
REQUESTS_FILE = "requests.jsonl"
CHANGES_FILE = "config_changes.jsonl"
SUMMARY_FILE = "summary.json"
FIGURE_FILE = "figure.png"
FRONTIER_FILE = "frontier.yaml"
LEDGER_FOLDER = "ledger"
"""The ledger of a run that has no other place; it may be there before the record."""
GRID_FOLDER = "grid"
"""What is kept of the grid where it has no other place; it may be there before the record."""
SITES_FOLDER = "sites"
"""What was sent to other sites, where it has no other place; it may be there before the record."""
BOOKS_FILE = "books.json"
"""The totals of a run that goes on, in case it is killed; see `report.broken_off`."""

_log = logging.getLogger(__name__)


def frontier_file(model: str) -> str:
    """Return the name of the file of the operating points of one of several models."""
    return f"frontier-{model.replace('/', '-')}.yaml"


def refuse_full_folder(folder: Path) -> None:
    """Check, before a run starts, that it could be recorded in a folder.

    Raises:
        UsageError: The folder holds something else than a ledger and what is kept of the grid and
            of other sites, or is not a folder.
    """
    try:
        names = {each.name for each in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise UsageError(f"{folder}: cannot record here: {error.strerror}") from error
    if names - {LEDGER_FOLDER, GRID_FOLDER, SITES_FOLDER}:
        raise UsageError(f"{folder}: asked for a new or empty folder, found a full one")


@dataclass(frozen=True, slots=True)
class RecordPosition:
    """How far a run is recorded, for another process that goes on from there.

    Attributes:
        ends: Length of each file in bytes, by name.
        lost: Lines that could not be written, by name.
        ended: Sums over the requests.
        earlier: The run before it in the same folder; None without one.
    """

    ends: Mapping[str, int]
    lost: Mapping[str, int]
    ended: RequestSums
    earlier: EarlierRun | None


class Recorder:
    """Writes `record.jsonl` and `requests.jsonl` line by line; a context manager.

    Every line leaves the process at once, so a crash loses at most the last one, and memory
    does not grow with the run. `finish` adds `summary.json` and `figure.png`. Lines that do not
    fit a full disk are left out with a warning and counted in the summary; the run goes on.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        """Create the folder and its two files, or go on with those of an earlier run.

        Args:
            folder: Where to record; must not exist or must be empty.
            resume: Whether the folder may hold an earlier run that has ended; this one is then
                added to it, and the summary is that of both.

        Raises:
            UsageError: The folder holds something, or cannot be written.
        """
        self._folder, self._ended = folder, RequestSums()
        self._earlier = earlier_run(folder) if resume else None
        if self._earlier is None:
            refuse_full_folder(folder)
        else:
            self._ended = RequestSums.of(self._earlier.summary)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._ticks = JsonLines(folder / RECORD_FILE, resume=self._earlier is not None)
            self._requests = JsonLines(folder / REQUESTS_FILE, resume=self._earlier is not None)
            if self._earlier is not None:
                self._ticks.write(self._earlier.gap)
                (folder / SUMMARY_FILE).unlink()
        except OSError as error:
            raise UsageError(f"{folder}: cannot record here: {error.strerror}") from error

    @classmethod
    def go_on(cls, folder: Path, position: RecordPosition) -> Self:
        """Go on with the record of a process that has died; what it wrote later is cut off.

        Raises:
            UsageError: A file cannot be written.
        """
        made = cls.__new__(cls)
        made._folder, made._ended, made._earlier = folder, position.ended, position.earlier
        try:
            for name, end in position.ends.items():
                if (folder / name).is_file():
                    os.truncate(folder / name, end)
            made._ticks = JsonLines(folder / RECORD_FILE, resume=True)
            made._requests = JsonLines(folder / REQUESTS_FILE, resume=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot record here: {error.strerror}") from error
        made._ticks.lost = position.lost[RECORD_FILE]
        made._requests.lost = position.lost[REQUESTS_FILE]
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def position(self) -> RecordPosition:
        """How far the run is recorded."""
        changes = self._folder / CHANGES_FILE
        return RecordPosition(
            ends={
                RECORD_FILE: self._ticks.end,
                REQUESTS_FILE: self._requests.end,
                CHANGES_FILE: changes.stat().st_size if changes.is_file() else 0,
            },
            lost={RECORD_FILE: self._ticks.lost, REQUESTS_FILE: self._requests.lost},
            ended=self._ended.whole(),
            earlier=self._earlier,
        )

    def tick(self, record: TickRecord) -> None:
        """Write one tick."""
        if self._earlier is not None:
            record = replace(record, t_s=record.t_s + self._earlier.offset_s)
        self._ticks.write(record)

    def request(self, record: RequestRecord) -> None:
        """Write one request that has ended."""
        if self._earlier is not None:
            record = replace(record, arrival_s=record.arrival_s + self._earlier.offset_s)
        self._ended.add(record)
        self._requests.write(record)

    def config_change(self, record: ConfigChangeRecord) -> None:
        """Write down a change of the configuration; the file begins with the first one."""
        if self._earlier is not None:
            record = replace(record, t_s=record.t_s + self._earlier.offset_s)
        path = self._folder / CHANGES_FILE
        try:
            with path.open("ab") as file:
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            _log.warning("%s: a line is lost: %s", path, error.strerror)

    def add_file(self, name: str, write: Callable[[Path], object]) -> None:
        """Add a file that `write` writes; if that fails, warn and leave no part of it."""
        path = self._folder / name
        try:
            write(path)
        except OSError as error:
            _log.warning("%s: cannot be written: %s", path, error.strerror)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def checkpoint(self, totals: RunTotals, slo: Slo) -> None:
        """Write down the totals so far; if the disk is full, the ones before stay."""
        totals = totals if self._earlier is None else self._earlier.before(totals)
        draft = self._folder / f"{BOOKS_FILE}.draft"
        with contextlib.suppress(OSError):
            draft.write_bytes(orjson.dumps({"totals": totals, "slo": slo}))
            draft.replace(self._folder / BOOKS_FILE)

    def finish(self, totals: RunTotals, slo: Slo) -> Summary:
        """Sum up the lines, and write the summary and the figure.

        Returns:
            What `summary.json` holds.
        """
        self.close()
        ticks = read_ticks(self._folder)
        whole = replace(totals, lost_ticks=self._ticks.lost, lost_requests=self._requests.lost)
        whole = whole if self._earlier is None else self._earlier.before(whole)
        summary = summarise(ticks, each_request(self._folder), whole, slo, self._ended)
        self.conclude(ticks, summary)
        return summary

    def conclude(self, ticks: Sequence[TickRecord], summary: Summary) -> None:
        """Write a summary and the figure of these ticks."""
        text = summary_text(summary)
        self.add_file(SUMMARY_FILE, lambda path: path.write_text(text))
        self.add_file(FIGURE_FILE, lambda path: run_figure(ticks, summary, path))
        if (self._folder / SUMMARY_FILE).is_file():
            (self._folder / BOOKS_FILE).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the two files; closing twice is harmless."""
        self._ticks.close()
        self._requests.close()


def is_being_recorded(folder: Path) -> bool:
    """Return whether a run records in a folder now."""
    try:
        with (folder / RECORD_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def earlier_run(folder: Path) -> EarlierRun | None:
    """Return the run that a folder has already; None if it has none.

    Raises:
        UsageError: It has one that has not ended, that this Steppe cannot go on with, or a file
            cannot be read.
    """
    if not (folder / RECORD_FILE).is_file():
        return None
    if not (folder / SUMMARY_FILE).is_file():
        raise UsageError(f"{folder}: asked for a run that has ended, found no {SUMMARY_FILE}")
    ticks = read_ticks(folder)
    try:
        last_s = ticks[-1].t_s if ticks else 0.0
        return EarlierRun.read(folder / SUMMARY_FILE, folder / RECORD_FILE, last_s)
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{folder}: its run cannot be read: {error}") from error


def summary_text(summary: Summary | SitesSummary) -> str:
    """Return a summary as one JSON document."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(summary, option=options).decode()


class JsonLines:
    """A new file of records, one a line, each on disk at once.

    A line that cannot be written, as on a full disk, is counted and left out as a whole; later
    lines are still written.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Create the file, or go on after the last complete line of the one that is there.

        Raises:
            OSError: It exists already, or cannot be created.
        """
        self._path, self._file = path, path.open("r+b" if resume else "xb", buffering=0)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._end = sum(map(len, _lines(path))) if resume else 0
        self._file.seek(0, os.SEEK_END)
        self.lost = 0
        """Lines that could not be written."""

    def write(self, record: TickRecord | RequestRecord | SiteCall) -> None:
        """Write a line, or count it as lost and warn at the first."""
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

    @property
    def end(self) -> int:
        """Length of all whole lines, bytes."""
        return self._end

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _cut(self) -> None:
        """Remove the begin of a line whose end could not be written."""
        if self._file.tell() != self._end:
            self._file.truncate(self._end)
            self._file.seek(self._end)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A record folder, read back.

    Attributes:
        ticks: One record a tick, in time.
        requests: One record a request, in the order they ended.
        summary: What the run achieved; None if it never finished.
    """

    ticks: tuple[TickRecord, ...]
    requests: tuple[RequestRecord, ...]
    summary: Summary | None


def read_run(folder: Path) -> RunRecord:
    """Read a record folder, including one of a run that broke off.

    Raises:
        UsageError: A file is missing, or a line is not a record; the message names it.
    """
    summary_path = folder / SUMMARY_FILE
    summary = _parsed(summary_path.read_bytes(), summary_path) if summary_path.is_file() else None
    return RunRecord(
        ticks=read_ticks(folder),
        requests=read_requests(folder),
        summary=cast("Summary | None", summary),
    )


def read_ticks(folder: Path) -> tuple[TickRecord, ...]:
    """Read the ticks of a record folder.

    Raises:
        UsageError: The file is missing, or a line is not a tick.
    """
    return tuple(_records(folder / RECORD_FILE, _tick))


def read_requests(folder: Path) -> tuple[RequestRecord, ...]:
    """Read the requests of a record folder.

    Raises:
        UsageError: The file is missing, or a line is not a request.
    """
    return tuple(each_request(folder))


def each_request(folder: Path) -> Iterator[RequestRecord]:
    """Read the requests of a record folder one by one: a long run has more than fit in memory.

    Raises:
        UsageError: The file is missing, or a line is not a request.
    """
    return _records(folder / REQUESTS_FILE, lambda values: RequestRecord(**values))


def _tick(values: dict[str, Any]) -> TickRecord:
    replicas = tuple(
        ReplicaTick(**replica | {"conditions": tuple(replica.get("conditions", ()))})
        for replica in values.pop("replicas")
    )
    # Older record folders lack these fields.
    events = tuple(GpuEvent(**event) for event in values.pop("gpu_events", ()))
    pools = tuple(PoolTick(**pool) for pool in values.pop("pools", ()))
    shortages = tuple(ShortageTick(**shortage) for shortage in values.pop("shortages", ()))
    battery, batch = values.pop("battery", None), values.pop("batch", None)
    grid = values.pop("grid", None)
    charge = None if battery is None else Charge(**battery)
    return TickRecord(
        **values,
        shortages=shortages,
        battery=charge,
        batch=None if batch is None else BatchTick(**batch),
        grid=None if grid is None else GridTick(**grid),
        gpu_events=events,
        pools=pools,
        replicas=replicas,
    )


def _records(path: Path, record_of: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
    """Read the complete lines; a crash may have cut the last one short."""
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}: line {number}"
        values = _parsed(line, place)
        try:
            record = record_of(values)
        except (TypeError, KeyError) as error:
            raise UsageError(f"{place}: not a record of this file: {error}") from error
        yield record


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _parsed(text: bytes, place: Path | str) -> dict[str, Any]:
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{place}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{place}: asked for a mapping, found {type(values).__name__}")
    return values
