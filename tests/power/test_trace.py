from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from steppe.config import TraceSupply
from steppe.errors import TraceError
from steppe.power.trace import YEAR_S, SupplyTrace, load_trace, year_trace

WriteTrace = Callable[..., TraceSupply]
HOURS = [f"2014-01-01T0{hour}:00:00Z" for hour in range(10)]


def test_a_csv_trace_is_linear_between_its_rows(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace(f"{HOURS[0]},1", f"{HOURS[1]},2", f"{HOURS[2]},0.5"))
    assert trace.start == datetime(2014, 1, 1, tzinfo=UTC)
    assert trace.times_s == (0.0, 3600.0, 7200.0)
    assert [trace.at(t) for t in (0.0, 900.0, 3600.0, 5400.0, 7200.0)] == pytest.approx(
        [1000.0, 1250.0, 2000.0, 1250.0, 500.0]
    )


def test_a_compressed_csv_reads_like_a_plain_one(write_trace: WriteTrace, tmp_path: Path) -> None:
    plain = write_trace(f"{HOURS[0]},1", f"{HOURS[1]},2")
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(plain.path.read_bytes()))
    assert load_trace(plain.model_copy(update={"path": packed})) == load_trace(plain)


def test_a_damaged_compressed_csv_is_read_or_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"time_utc,p_kw\n" + b"".join(b"%d,1\n" % row for row in range(50)))
    section, refused = TraceSupply(kind="trace", path=tmp_path / "trace.csv.gz"), 0
    for at in range(len(whole)):
        section.path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load_trace(section)
        except TraceError:
            refused += 1
    assert refused > len(whole) / 2


def test_eight_digit_days_are_read_as_dates(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace("20240130,1", "20240131,2", "20240201,3"))
    assert trace.start == datetime(2024, 1, 30, tzinfo=UTC)
    assert trace.times_s == (0.0, 86400.0, 2 * 86400.0)


def test_eight_digit_seconds_are_read_as_seconds(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace("20240100,1", "20240700,2", "20241300,3"))
    assert (trace.start, trace.times_s) == (None, (0.0, 600.0, 1200.0))


@pytest.mark.parametrize(
    "days",
    [
        pa.array([20240130.0, 20240131.0, 20240201.0]),
        pa.array([date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1)], pa.date32()),
    ],
    ids=["float", "date32"],
)
def test_a_column_of_days_is_read_as_dates_in_any_type(tmp_path: Path, days: pa.Array) -> None:
    path = tmp_path / "trace.parquet"
    parquet.write_table(pa.table({"time_utc": days, "p_kw": [1.0, 2.0, 3.0]}), path)
    trace = load_trace(TraceSupply(kind="trace", path=path))
    assert trace.start == datetime(2024, 1, 30, tzinfo=UTC)
    assert trace.times_s == (0.0, 86400.0, 2 * 86400.0)


@pytest.mark.parametrize(
    ("first", "second", "instead"),
    [
        ("2024013123", "2024020100", "found 2024013123; write 2024-01-31T23:00:00"),
        ("202401312345", "202402010000", "found 202401312345; write 2024-01-31T23:45:00"),
        ("20240131234500", "20240201000000", "found 20240131234500; write 2024-01-31T23:45:00"),
        ("1706745600000", "1706749200000", "found 1706745600000; write seconds, at most 1e+11"),
        (
            "1706745600000000",
            "1706749200000000",
            "found 1706745600000000; write seconds, at most 1e+11",
        ),
    ],
)
def test_numbers_that_cannot_be_seconds_are_refused_with_a_hint(
    write_trace: WriteTrace, first: str, second: str, instead: str
) -> None:
    section = write_trace(f"{first},1", f"{second},2")
    with pytest.raises(TraceError) as refusal:
        load_trace(section)
    assert str(refusal.value).startswith(f"{section.path}: row 1: ")
    assert instead in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_seconds_since_1970_are_read_as_seconds(write_trace: WriteTrace) -> None:
    rows = [f"{1_893_455_999 + 3600 * hour},1" for hour in range(48)]
    assert load_trace(write_trace(*rows)).times_s == tuple(3600.0 * hour for hour in range(48))


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_parquet_trace_reads_like_a_csv_trace(
    write_trace: WriteTrace, tmp_path: Path, zone: str | None
) -> None:
    first = datetime(2014, 1, 1, tzinfo=UTC if zone else None)
    times = pa.array([first, first + timedelta(hours=1)], pa.timestamp("us", tz=zone))
    path = tmp_path / "trace.parquet"
    parquet.write_table(pa.table({"time_utc": times, "p_kw": [1.0, 2.0]}), path)
    csv_trace = load_trace(write_trace(f"{HOURS[0]},1", f"{HOURS[1]},2"))
    trace = load_trace(TraceSupply(kind="trace", path=path))
    assert (str(trace.zone), replace(trace, zone=UTC)) == ("UTC", csv_trace)


@pytest.mark.parametrize(
    "turn", [datetime(2024, 3, 31, tzinfo=UTC), datetime(2024, 10, 27, tzinfo=UTC)]
)
def test_a_trace_is_continuous_across_daylight_saving_changes(
    tmp_path: Path, turn: datetime
) -> None:
    quarters = [turn + timedelta(minutes=15 * quarter) for quarter in range(16)]
    times = pa.array(quarters, pa.timestamp("us", tz="Europe/Berlin"))
    path = tmp_path / "trace.parquet"
    parquet.write_table(pa.table({"time_utc": times, "p_kw": [1.0] * 16}), path)
    trace = load_trace(TraceSupply(kind="trace", path=path))
    assert trace.times_s == tuple(900.0 * quarter for quarter in range(16))
    assert (trace.start, trace.end, str(trace.zone)) == (turn, quarters[-1], "Europe/Berlin")


def test_plain_seconds_count_from_the_first_row(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace("100,1", "160,2", "220,3"))
    assert trace.start is None
    assert trace.end is None
    assert trace.times_s == (0.0, 60.0, 120.0)


def test_dates_without_an_offset_are_utc(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace("2014-01-01T00:00:00,1", "2014-01-01T01:00:00,1"))
    assert trace.start == datetime(2014, 1, 1, tzinfo=UTC)


def test_negative_power_is_read_as_zero(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace(f"{HOURS[0]},-0.05", f"{HOURS[1]},2"))
    assert trace.watts == (0.0, 2000.0)


def test_the_largest_value_is_scaled_to_the_rated_power(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace(f"{HOURS[0]},2", f"{HOURS[1]},8", rated_w=100.0))
    assert trace.watts == pytest.approx((25.0, 100.0))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([f"{HOURS[0]},1"], "asked for at least two rows, found 1"),
        ([f"{HOURS[1]},1", f"{HOURS[0]},1"], "row 2: 2014-01-01T00:00:00Z is 3600 s before"),
        ([f"{HOURS[0]},1", f"{HOURS[0]},1"], "row 2: 2014-01-01T00:00:00Z repeats the time"),
        (
            [f"{HOURS[hour]},1" for hour in (0, 1, 2, 6)],
            "row 4: gap of 14400 s before 2014-01-01T06:00:00Z; rows are 3600 s apart",
        ),
        ([f"{HOURS[0]},1", f"{HOURS[1]},nan"], "row 2: asked for a finite number in p_kw"),
        ([f"{HOURS[0]},1", f"{HOURS[1]},"], "row 2: asked for a finite number in p_kw, found ''"),
        ([f"{HOURS[0]},1e308", f"{HOURS[1]},1"], "row 1: asked for a finite number in p_kw"),
        ([f"{HOURS[0]},inf", f"{HOURS[1]},1"], "row 1: asked for a finite number in p_kw"),
        ([f"{HOURS[0]},1", f"{HOURS[1]}"], "row 2: asked for a finite number in p_kw, found None"),
        (["soon,1", f"{HOURS[1]},1"], "row 1: asked for an ISO 8601 time or seconds in time_utc"),
        (["nan,1", "60,1"], "row 1: asked for an ISO 8601 time or seconds in time_utc"),
        ([f"{HOURS[0]},1e290", f"{HOURS[1]},1"], "row 1: asked for at most 1e+12 W in p_kw, found"),
        (
            ["9999-12-31T22:00-05:00,1", "9999-12-31T23:00-05:00,1"],
            "row 1: asked for a time of the years 1 to 9999 in UTC in time_utc",
        ),
        (["0,1", f"{HOURS[1]},1"], "time_utc mixes dates and plain seconds"),
    ],
)
def test_a_bad_trace_is_refused_in_one_line_that_names_the_row(
    write_trace: WriteTrace, rows: list[str], problem: str
) -> None:
    section = write_trace(*rows)
    with pytest.raises(TraceError) as refusal:
        load_trace(section)
    assert str(refusal.value).startswith(f"{section.path}: ")
    assert problem in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_three_spacings_are_not_a_gap(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace(*(f"{HOURS[hour]},1" for hour in (0, 1, 2, 5))))
    assert trace.end_s == 5 * 3600.0


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv: no such file"):
        load_trace(TraceSupply(kind="trace", path=tmp_path / "absent.csv"))


def test_a_missing_column_is_refused_with_those_found(write_trace: WriteTrace) -> None:
    section = write_trace(f"{HOURS[0]},1", f"{HOURS[1]},1")
    with pytest.raises(TraceError, match="asked for column 'p_w', found 'time_utc', 'p_kw'"):
        load_trace(section.model_copy(update={"power_column": "p_w"}))


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time_utc,p_kw,p_kw\n0,1,5\n1,1,5\n")
    columns = [pa.array([0.0, 1.0])] * 3
    table = pa.Table.from_arrays(columns, names=["time_utc", "p_kw", "p_kw"])
    parquet.write_table(table, tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(TraceError, match="asked for one column 'p_kw', found 2 of that name"):
            load_trace(TraceSupply(kind="trace", path=tmp_path / name))


@pytest.mark.parametrize(
    ("times", "kind"),
    [
        ([0, 3600], pa.timestamp("s", tz="Mars/Olympus")),
        ([2**40, 2**40 + 3600], pa.timestamp("s")),
    ],
    ids=["unknown zone", "beyond the year 9999"],
)
def test_times_out_of_range_are_refused(
    tmp_path: Path, times: list[int], kind: pa.DataType
) -> None:
    path = tmp_path / "trace.parquet"
    parquet.write_table(pa.table({"time_utc": pa.array(times, kind), "p_kw": [1.0, 2.0]}), path)
    with pytest.raises(TraceError, match="cannot be read"):
        load_trace(TraceSupply(kind="trace", path=path))


def test_an_upper_case_file_extension_is_accepted(write_trace: WriteTrace) -> None:
    trace = load_trace(write_trace(f"{HOURS[0]},1", f"{HOURS[1]},1", name="trace.CSV"))
    assert trace.end_s == 3600.0


@pytest.mark.parametrize("name", ["trace.txt", "trace.csv.gz", "trace.parquet"])
def test_a_file_of_another_format_is_refused(write_trace: WriteTrace, name: str) -> None:
    with pytest.raises(TraceError, match=name) as refusal:
        load_trace(write_trace(f"{HOURS[0]},1", f"{HOURS[1]},1", name=name))
    assert "\n" not in str(refusal.value)


def test_a_trace_of_zeros_cannot_be_scaled(write_trace: WriteTrace) -> None:
    with pytest.raises(TraceError, match="asked for 50 W at most, found only 0 W"):
        load_trace(write_trace(f"{HOURS[0]},0", f"{HOURS[1]},-1", rated_w=50.0))


@pytest.mark.parametrize("trace_s", [-1.0, 61.0, float("nan")])
def test_times_outside_a_trace_are_refused(trace_s: float) -> None:
    with pytest.raises(TraceError, match="the trace covers 0 to 60 s"):
        SupplyTrace((0.0, 60.0), (1.0, 2.0), None).at(trace_s)


@given(
    watts=st.lists(st.floats(0.0, 1e6), min_size=2, max_size=20),
    share=st.floats(0.0, 1.0),
)
def test_a_value_between_two_rows_lies_between_theirs(watts: list[float], share: float) -> None:
    times_s = tuple(60.0 * row for row in range(len(watts)))
    trace = SupplyTrace(times_s, tuple(watts), None)
    at_s = share * trace.end_s
    row = min(int(at_s // 60.0), len(watts) - 2)
    low, high = sorted(watts[row : row + 2])
    assert low * (1 - 1e-9) <= trace.at(at_s) <= high * (1 + 1e-9)


@pytest.mark.parametrize("first_s", [1800.0, 3600.0])
def test_a_year_trace_ends_with_its_first_value(first_s: float) -> None:
    trace = year_trace(first_s, [float(hour % 24) for hour in range(8760)])
    assert trace.times_s[0] == 0.0
    assert trace.end_s == YEAR_S
    assert trace.at(0.0) == trace.at(YEAR_S)
    assert all(before < after for before, after in pairwise(trace.times_s))
    assert trace.at(first_s + 5 * 3600.0) == 5.0


def test_the_recorded_wind_farm_loads_whole(wind_farm: Path) -> None:
    trace = load_trace(TraceSupply(kind="trace", path=wind_farm))
    assert len(trace.times_s) == 52_560
    assert trace.start == datetime(2014, 1, 1, tzinfo=UTC)
    assert max(trace.watts) == pytest.approx(8_007_000, rel=1e-3)
    assert min(trace.watts) == 0.0
    assert 0.14 < sum(trace.watts) / len(trace.watts) / 8.2e6 < 0.18
