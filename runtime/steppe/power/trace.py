"""Supply traces: watts over time from a file, or a year of hourly values."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from steppe.config import TraceSupply
from steppe.config.section import LARGEST
from steppe.errors import TraceError

HOUR_S = 3600.0
YEAR_S = 8760 * HOUR_S
MAX_GAP_SPACINGS = 3.0
"""Rows further apart than this many median spacings are a gap."""
LARGEST_S = 1e11
"""Larger times are not seconds but milliseconds, or less, since 1970."""
_HOURS_IN_DIGITS = ("%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
_LIKELY_YEARS = range(1900, 2200)


@dataclass(frozen=True, slots=True)
class SupplyTrace:
    """Watts at increasing times, linear between them.

    Attributes:
        times_s: Seconds since the trace's start, increasing, at least two.
        watts: Supply at those times, W, never negative.
        start: Calendar time of second 0, UTC; None for a file of plain seconds and for a weather
            year, which applies to any year.
        zone: Time zone of all rows; None if they have several, or no dates.
    """

    times_s: tuple[float, ...]
    watts: tuple[float, ...]
    start: datetime | None
    zone: tzinfo | None = None

    @property
    def end_s(self) -> float:
        """Time of the last row, s since the start."""
        return self.times_s[-1]

    @property
    def end(self) -> datetime | None:
        """Calendar time of the last row, UTC, where the trace has one."""
        return None if self.start is None else self.start + timedelta(seconds=self.end_s)

    def at(self, trace_s: float) -> float:
        """Return the supply at a time of the trace, W.

        Raises:
            TraceError: The time is outside the trace.
        """
        if not self.times_s[0] <= trace_s <= self.end_s:
            covered = f"{self.times_s[0]:g} to {self.end_s:g} s"
            raise TraceError(f"asked for the supply at {trace_s:g} s, the trace covers {covered}")
        after = min(bisect_right(self.times_s, trace_s), len(self.times_s) - 1)
        before = after - 1
        width_s = self.times_s[after] - self.times_s[before]
        share = (trace_s - self.times_s[before]) / width_s
        return (1.0 - share) * self.watts[before] + share * self.watts[after]


def year_trace(first_s: float, hourly_w: Sequence[float]) -> SupplyTrace:
    """Return a year of hourly values as a trace with equal first and last value.

    Args:
        first_s: Time of the first value, s after the turn of the year, more than 0 and at
            most an hour.
        hourly_w: 8760 values, W.
    """
    last_s = first_s - HOUR_S
    share = (0.0 - last_s) / HOUR_S
    turn_w = (1.0 - share) * hourly_w[-1] + share * hourly_w[0]
    inner = [
        (first_s + HOUR_S * hour, watts)
        for hour, watts in enumerate(hourly_w)
        if first_s + HOUR_S * hour < YEAR_S
    ]
    samples = [(0.0, turn_w), *inner, (YEAR_S, turn_w)]
    return SupplyTrace(tuple(t for t, _ in samples), tuple(w for _, w in samples), None)


def load_trace(section: TraceSupply) -> SupplyTrace:
    """Read a supply trace from `.csv`, `.csv.gz` or `.parquet`.

    Times are ISO 8601 (UTC without an offset) or plain seconds. A column of days such as 20240131
    is read as dates, not seconds; one of hours such as 2024013123 is refused. Negative power, a
    plant's own use at standstill, is read as 0 W.

    Raises:
        TraceError: The file or a column is missing, a value is not a time or not a finite number,
            times are unsorted or repeated, or there is a gap. The message is one line.
    """
    rows = _read_rows(section)
    if len(rows) < 2:
        raise TraceError(f"{section.path}: asked for at least two rows, found {len(rows)}")
    start, zone, times_s = _times(section, [time for time, _ in rows])
    _check_spacing(section.path, times_s, [time for time, _ in rows])
    watts = [_power_w(section, row, value) for row, (_, value) in enumerate(rows, start=1)]
    return SupplyTrace(tuple(times_s), tuple(_scaled(section, watts)), start, zone)


def _read_rows(section: TraceSupply) -> list[tuple[Any, Any]]:
    """Return the raw time and power of each row."""
    path = section.path
    kind = path.name.lower()
    if not path.is_file():
        raise TraceError(f"{path}: no such file")
    try:
        if kind.endswith(".csv"):
            with path.open(newline="", encoding="utf-8-sig") as file:
                return _csv_rows(section, file)
        if kind.endswith(".csv.gz"):
            with gzip.open(path, "rt", newline="", encoding="utf-8-sig") as file:
                return _csv_rows(section, file)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    if kind.endswith(".parquet"):
        return _parquet_rows(section)
    raise TraceError(f"{path}: asked for .csv, .csv.gz or .parquet, found {path.suffix!r}")


def _csv_rows(section: TraceSupply, file: TextIO) -> list[tuple[Any, Any]]:
    reader = csv.DictReader(file)
    _check_columns(section, reader.fieldnames or ())
    return [(row[section.time_column], row[section.power_column]) for row in reader]


def _parquet_rows(section: TraceSupply) -> list[tuple[Any, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        file = parquet.ParquetFile(section.path)
        _check_columns(section, file.schema_arrow.names)
        table = file.read(columns=[section.time_column, section.power_column])
        times, watts = (
            table.column(name).to_pylist() for name in (section.time_column, section.power_column)
        )
        return list(zip(map(_in_named_zone, times), watts, strict=True))
    except (OSError, ArrowException, LookupError, OverflowError, ValueError) as error:
        # Also raised for unknown time zones and for dates out of Python's range.
        problem = " ".join(str(error).split())
        raise TraceError(f"{section.path}: cannot be read: {problem}") from error


def _in_named_zone(time: Any) -> Any:
    """Return a date with one zone for summer and winter, where pytz has two.

    pyarrow before release 26 uses pytz when that is installed.
    """
    name = getattr(getattr(time, "tzinfo", None), "zone", None)
    return time.astimezone(ZoneInfo(name)) if name else time


def _check_columns(section: TraceSupply, found: Sequence[str]) -> None:
    for name in (section.time_column, section.power_column):
        if name not in found:
            names = ", ".join(map(repr, found)) or "none"
            raise TraceError(f"{section.path}: asked for column {name!r}, found {names}")
        if found.count(name) > 1:
            times = f"{found.count(name)} of that name"
            raise TraceError(f"{section.path}: asked for one column {name!r}, found {times}")


def _times(
    section: TraceSupply, raw: Sequence[Any]
) -> tuple[datetime | None, tzinfo | None, list[float]]:
    """Return the calendar start and the zone, if any, and the seconds since the start."""
    moments = [_moment(section, row, value) for row, value in enumerate(_days(raw), start=1)]
    seconds = [moment for moment in moments if isinstance(moment, float)]
    dates = [moment for moment in moments if isinstance(moment, datetime)]
    if seconds and dates:
        raise TraceError(f"{section.path}: {section.time_column} mixes dates and plain seconds")
    if seconds:
        _check_seconds(section, seconds)
        return None, None, [second - seconds[0] for second in seconds]
    # Within one zone Python subtracts local times, which is wrong across daylight saving.
    in_utc = [_in_utc(section, row, date) for row, date in enumerate(dates, start=1)]
    zones = {date.tzinfo for date in dates}
    zone = zones.pop() if len(zones) == 1 else None
    return in_utc[0], zone, [(date - in_utc[0]).total_seconds() for date in in_utc]


def _days(raw: Sequence[Any]) -> Sequence[Any]:
    """Return eight-digit days, such as 20240131, as dates; other times unchanged."""
    return _stamps(raw, "%Y%m%d") or raw


def _stamps(raw: Sequence[Any], pattern: str) -> list[datetime] | None:
    """Return numbers that are all dates without separators as dates; None if one is not."""
    stamps: list[datetime] = []
    for number in map(_number, raw):
        try:
            stamp = datetime.strptime(f"{number:.0f}", pattern)
        except (TypeError, ValueError):
            return None
        if float(stamp.strftime(pattern)) != number:
            return None
        stamps.append(stamp)
    return stamps


def _check_seconds(section: TraceSupply, seconds: Sequence[float]) -> None:
    """Refuse plain seconds that must be dates in digits, or smaller units."""
    asked = f"asked for an ISO 8601 time or seconds in {section.time_column}"
    for pattern in _HOURS_IN_DIGITS:
        stamps = _stamps(seconds, pattern)
        if stamps and all(stamp.year in _LIKELY_YEARS for stamp in stamps):
            found = f"found {seconds[0]:.0f}; write {stamps[0].isoformat()}"
            raise TraceError(f"{section.path}: row 1: {asked}, {found}")
    for row, second in enumerate(seconds, start=1):
        if abs(second) > LARGEST_S:
            found = f"found {second:.0f}; write seconds, at most {LARGEST_S:g}"
            raise TraceError(f"{section.path}: row {row}: {asked}, {found}")


def _moment(section: TraceSupply, row: int, value: Any) -> datetime | float:
    """Return a date, in UTC if it has no zone, or plain seconds."""
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        seconds = _number(value)
        if seconds is not None and math.isfinite(seconds):
            return seconds
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        asked = f"asked for an ISO 8601 time or seconds in {section.time_column}"
        raise TraceError(f"{section.path}: row {row}: {asked}, found {value!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_utc(section: TraceSupply, row: int, date: datetime) -> datetime:
    try:
        return date.astimezone(UTC)
    except OverflowError as error:
        asked = f"asked for a time of the years 1 to 9999 in UTC in {section.time_column}"
        raise TraceError(f"{section.path}: row {row}: {asked}, found {date}") from error


def _power_w(section: TraceSupply, row: int, value: Any) -> float:
    number = _number(value)
    if number is None or not math.isfinite(number * section.watts_per_unit):
        asked = f"asked for a finite number in {section.power_column}"
        raise TraceError(f"{section.path}: row {row}: {asked}, found {value!r}")
    if number * section.watts_per_unit > LARGEST:
        asked = f"asked for at most {LARGEST:g} W in {section.power_column}"
        raise TraceError(f"{section.path}: row {row}: {asked}, found {value!r}")
    return max(0.0, number * section.watts_per_unit)


def _number(value: Any) -> float | None:
    """Return a cell as a number; None if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _check_spacing(path: Path, times_s: Sequence[float], raw: Sequence[Any]) -> None:
    spacings_s = [after - before for before, after in pairwise(times_s)]
    for row, spacing_s in enumerate(spacings_s, start=2):
        where = f"{path}: row {row}: {raw[row - 1]}"
        if spacing_s == 0:
            raise TraceError(f"{where} repeats the time of the row before")
        if spacing_s < 0:
            raise TraceError(f"{where} is {-spacing_s:g} s before the row before: unsorted")
    usual_s = median(spacings_s)
    for row, spacing_s in enumerate(spacings_s, start=2):
        if spacing_s > MAX_GAP_SPACINGS * usual_s:
            gap = f"gap of {spacing_s:g} s before {raw[row - 1]}"
            raise TraceError(f"{path}: row {row}: {gap}; rows are {usual_s:g} s apart")


def _scaled(section: TraceSupply, watts: Sequence[float]) -> Sequence[float]:
    """Return the watts scaled so that their largest value is the rated power, if one is set."""
    if section.rated_w is None:
        return watts
    peak_w = max(watts)
    if peak_w == 0:
        raise TraceError(f"{section.path}: asked for {section.rated_w:g} W at most, found only 0 W")
    return [section.rated_w * (value / peak_w) for value in watts]
