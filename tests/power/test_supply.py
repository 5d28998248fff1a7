from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from steppe.config import PowerSection, TraceSupply
from steppe.errors import ConfigError
from steppe.power.signal import Fresh, Missing, Stale
from steppe.power.supply import (
    Steady,
    Supply,
    TraceClock,
    TraceReplay,
    WeatherYear,
    offered,
    source_of,
    supply_from_config,
    total,
)
from steppe.power.trace import YEAR_S, SupplyTrace

WriteTrace = Callable[..., TraceSupply]
CLOCK = TraceClock(started_s=50.0, speedup=360.0)
RAMP = SupplyTrace((0.0, 7200.0), (0.0, 72.0), None)


def offered_w(supply: Supply, now_s: float) -> float:
    """Return the power of a supply whose reading is fresh, W."""
    reading = offered(supply, now_s, CLOCK, stale_s=1.0)
    assert isinstance(reading, Fresh)
    return reading.watts


def started(section: TraceSupply, start: str | None) -> TraceReplay:
    """Return a recorded supply that starts at `start`."""
    moment = None if start is None else datetime.fromisoformat(start)
    power = PowerSection(supply=(section,), start=moment)
    supply = supply_from_config(section, power, lambda: 0.0)
    assert isinstance(supply, TraceReplay)
    return supply


def test_a_speedup_scales_run_time_to_trace_time() -> None:
    supply = TraceReplay(RAMP, offset_s=720.0)
    assert offered_w(supply, 0.0) == pytest.approx(7.2)
    assert offered_w(supply, 50.0) == pytest.approx(7.2)
    assert offered_w(supply, 60.0) == pytest.approx(43.2)


def test_a_trace_that_ended_keeps_its_last_value_until_that_is_stale() -> None:
    supply = TraceReplay(RAMP, offset_s=0.0)
    assert offered(supply, 70.0, CLOCK, stale_s=5.0) == Fresh(72.0, 0.0)
    assert offered(supply, 75.0, CLOCK, stale_s=5.0) == Fresh(72.0, 5.0)
    assert offered(supply, 76.0, CLOCK, stale_s=5.0) == Stale(6.0)


@pytest.mark.parametrize(
    ("section", "source"),
    [
        ({"kind": "wind", "rated_w": 50.0}, "wind"),
        ({"kind": "solar", "rated_w": 50.0}, "sun"),
        ({"kind": "constant", "watts": 50.0}, "grid"),
        ({"kind": "signal", "path": "p"}, "other"),
        ({"kind": "signal", "path": "p", "firm": True}, "grid"),
        ({"kind": "signal", "path": "p", "source": "wind"}, "wind"),
    ],
)
def test_the_books_have_a_name_for_the_source_of_each_supply(
    section: dict[str, object], source: str
) -> None:
    power = PowerSection.model_validate({"supply": [section]})
    assert source_of(supply_from_config(power.supply[0], power, lambda: 0.0)) == source


def test_a_weather_year_repeats() -> None:
    trace = SupplyTrace((0.0, 3600.0, YEAR_S), (5.0, 10.0, 5.0), None)
    supply = WeatherYear(trace, offset_s=YEAR_S - 1800.0)
    assert offered_w(supply, 50.0 + 5400.0 / 360.0) == pytest.approx(10.0)


def test_sources_add_up_and_are_as_old_as_the_oldest() -> None:
    assert total([Fresh(10.0, 0.0), Fresh(5.0, 3.0)]) == Fresh(15.0, 3.0)


@pytest.mark.parametrize("lost", [Stale(99.0), Missing("gone")])
def test_one_stale_or_missing_source_makes_the_sum_so(lost: Stale | Missing) -> None:
    assert total([Fresh(10.0, 0.0), lost, Fresh(5.0, 0.0)]) == lost


def test_a_recorded_trace_starts_at_the_given_date(write_trace: WriteTrace) -> None:
    section = write_trace("2014-01-01T00:00:00Z,1", "2014-01-01T01:00:00Z,2")
    assert started(section, None).offset_s == 0.0
    assert started(section, "2014-01-01T00:30:00").offset_s == 1800.0
    assert started(section, "2014-01-01T01:30:00+01:00").offset_s == 1800.0


def test_a_date_without_an_offset_is_in_the_zone_of_the_trace(write_trace: WriteTrace) -> None:
    section = write_trace("2014-01-01T00:00:00+01:00,1", "2014-01-01T01:00:00+01:00,2")
    assert started(section, "2014-01-01T00:30:00").offset_s == 1800.0


def test_a_date_without_an_offset_is_refused_for_a_trace_with_several_offsets(
    write_trace: WriteTrace,
) -> None:
    section = write_trace(
        "2024-03-31T01:00:00+01:00,1", "2024-03-31T03:00:00+02:00,1", "2024-03-31T04:00:00+02:00,1"
    )
    with pytest.raises(ConfigError, match=r"power\.start: asked for .* without an offset"):
        started(section, "2024-03-31T04:00:00")
    assert started(section, "2024-03-31T04:00:00+02:00").offset_s == 7200.0


def test_a_date_without_an_offset_follows_the_daylight_saving_of_a_named_zone(
    tmp_path: Path,
) -> None:
    hours = [datetime(2024, 3, 31, hour, tzinfo=UTC) for hour in range(4)]
    times = pa.array(hours, pa.timestamp("us", tz="Europe/Berlin"))
    parquet.write_table(pa.table({"time_utc": times, "p_kw": [1.0] * 4}), tmp_path / "t.parquet")
    section = TraceSupply(kind="trace", path=tmp_path / "t.parquet")
    assert started(section, "2024-03-31T04:00:00").offset_s == 7200.0


def test_a_date_outside_a_recorded_trace_is_refused(write_trace: WriteTrace) -> None:
    section = write_trace("2014-01-01T00:00:00Z,1", "2014-01-01T01:00:00Z,2")
    with pytest.raises(ConfigError, match=r"power\.start: asked for 2015.* covers 2014-01-01"):
        started(section, "2015-01-01T00:00:00")


def test_a_date_in_a_trace_of_plain_seconds_is_refused(write_trace: WriteTrace) -> None:
    with pytest.raises(ConfigError, match=r"power\.start: .*plain seconds, no dates"):
        started(write_trace("0,1", "60,2"), "2014-01-01T00:00:00")


@pytest.mark.parametrize("year", [1990, 2024])
def test_a_weather_year_starts_at_the_same_time_in_any_year(year: int) -> None:
    values = {"supply": [{"kind": "solar", "rated_w": 1.0}], "start": f"{year}-03-01T06:00:00Z"}
    power = PowerSection.model_validate(values)
    supply = supply_from_config(power.supply[0], power, lambda: 0.0)
    assert isinstance(supply, WeatherYear)
    assert supply.offset_s == (31 + 28) * 86400.0 + 6 * 3600.0


def test_a_leap_day_is_refused_for_a_weather_year() -> None:
    values = {"supply": [{"kind": "wind", "rated_w": 1.0}], "start": "2024-02-29T00:00:00"}
    power = PowerSection.model_validate(values)
    with pytest.raises(ConfigError, match="no 29 February"):
        supply_from_config(power.supply[0], power, lambda: 0.0)


def test_a_steady_supply_never_changes() -> None:
    assert offered(Steady(7.0), 1e9, CLOCK, 1.0) == Fresh(7.0, 0.0)
