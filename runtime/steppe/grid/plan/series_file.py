"""A file of values over calendar time, read strictly: prices, wind and sun, tokens."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from steppe.errors import UsageError
from steppe.grid.plan.series import Series

LONGEST_S = 3600.0
"""Longest time between two rows, s: more is a gap."""


@dataclass(frozen=True, slots=True)
class Columns:
    """How a file is read.

    Attributes:
        time: Column with the time at which a value begins, ISO 8601.
        value: Column with the value.
        zone: Time zone of times without an offset; None refuses such times.
        least: Lowest value that can be meant.
        most: Highest one.
    """

    time: str
    value: str
    zone: tzinfo | None = None
    least: float = -math.inf
    most: float = math.inf


def zone_of(name: str) -> tzinfo:
    """Return a time zone of the IANA database, such as `Europe/Paris`.

    Raises:
        UsageError: There is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        wanted = "asked for a time zone such as Europe/Paris"
        raise UsageError(f"{wanted}, found {name[:60]!r}") from error


def read_series(path: Path, columns: Columns) -> Series:
    """Read a `.csv` or `.csv.gz` file with a time and a value in each row.

    Each row holds until the next one; the last one as long as the one before it. On the day on
    which clocks are set back, a local time comes twice: its first row is the earlier one.

    Raises:
        UsageError: The file or a column is missing, a value is no number or cannot be meant, a
            time is none, does not exist or has no zone, times do not increase, or there is a gap.
    """
    starts_s: list[float] = []
    values: list[float] = []
    for number, (time, value) in enumerate(_rows(path, columns), start=2):
        where = f"{path}, line {number}"
        starts_s.append(_time_s(where, time, columns.zone, starts_s[-1] if starts_s else -math.inf))
        values.append(_value(where, value, columns))
    if len(values) < 2:
        raise UsageError(f"{path}: asked for at least two rows, found {len(values)}")
    for number, (before_s, after_s) in enumerate(pairwise(starts_s), start=3):
        if after_s - before_s > LONGEST_S:
            wanted = f"asked for a row at least every {LONGEST_S:g} s"
            raise UsageError(f"{path}, line {number}: {wanted}, found {after_s - before_s:g} s")
    return Series(tuple(starts_s), tuple(values), 2 * starts_s[-1] - starts_s[-2])


def _rows(path: Path, columns: Columns) -> Iterable[tuple[str, str]]:
    """Return time and value of each row, as they are written."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            for name in (columns.time, columns.value):
                if name not in (reader.fieldnames or ()):
                    found = ", ".join(reader.fieldnames or ()) or "none"
                    raise UsageError(f"{path}: asked for a column {name!r}, found {found[:200]}")
            return [(row[columns.time] or "", row[columns.value] or "") for row in reader]
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _time_s(where: str, text: str, zone: tzinfo | None, after_s: float) -> float:
    """Return a time that is later than the one before, s since the Unix epoch."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        wanted = "asked for a time such as 2026-12-01T12:00"
        raise UsageError(f"{where}: {wanted}, found {text[:40]!r}") from error
    found_s = time.timestamp() if time.tzinfo else _local_s(where, time, zone, after_s)
    if found_s <= after_s:
        raise UsageError(f"{where}: asked for a time after the one before, found {text[:40]!r}")
    return found_s


def _local_s(where: str, time: datetime, zone: tzinfo | None, after_s: float) -> float:
    """Return a local time, s since the Unix epoch; the later one of two if it has to be."""
    if zone is None:
        raise UsageError(f"{where}: asked for an offset or a zone of the times, found {time}")
    times = [time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    if times[0].astimezone(zone).replace(tzinfo=None) != time:
        raise UsageError(f"{where}: asked for a time that exists in {zone}, found {time}")
    return next((t.timestamp() for t in times if t.timestamp() > after_s), times[0].timestamp())


def _value(where: str, text: str, columns: Columns) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (columns.least <= value <= columns.most and math.isfinite(value)):
        wanted = f"asked for a number from {columns.least:g} to {columns.most:g}"
        raise UsageError(f"{where}: {wanted} in {columns.value}, found {text[:40]!r}")
    return value
