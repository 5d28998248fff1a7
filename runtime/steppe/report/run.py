"""A record folder, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson

from steppe.errors import UsageError
from steppe.power.battery import Charge
from steppe.report.records import ReplicaTick, RequestRecord, ShortageTick, TickRecord
from steppe.report.summary import Summary

Record = TypeVar("Record")

RECORD_FILE = "record.jsonl"
REQUESTS_FILE = "requests.jsonl"
SUMMARY_FILE = "summary.json"
FIGURE_FILE = "figure.png"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run wrote down.

    Attributes:
        ticks: One record a tick, in time.
        requests: One record a request, in the order they ended.
        summary: What the run achieved; None if it never finished.
    """

    ticks: tuple[TickRecord, ...]
    requests: tuple[RequestRecord, ...]
    summary: Summary | None


def read_run(folder: Path) -> RunRecord:
    """Read a record folder, also that of a run that broke off.

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
    replicas = tuple(ReplicaTick(**replica) for replica in values.pop("replicas"))
    # Runs that were recorded before some fields were have none to read.
    shortages = tuple(ShortageTick(**shortage) for shortage in values.pop("shortages", ()))
    battery = values.pop("battery", None)
    charge = None if battery is None else Charge(**battery)
    return TickRecord(**values, shortages=shortages, battery=charge, replicas=replicas)


def _records(path: Path, record_of: Callable[[dict[str, Any]], Record]) -> Iterator[Record]:
    """Read the complete lines; what follows the last newline was cut short by a crash."""
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
