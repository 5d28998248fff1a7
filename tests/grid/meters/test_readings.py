"""Which readings of a meter that lies are used."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import ConfigError
from steppe.grid.meters.readings import Measured, Readings, Used
from steppe.grid.meters.settings import MeterSettings, settings_of


def after(watts: list[float], **settings: Any) -> Readings:
    """Return what is known after one reading a second."""
    readings = Readings()
    for second, reading in enumerate(watts):
        readings = readings.with_reading(
            Measured(reading), float(second), MeterSettings(**settings)
        )
    return readings


def test_a_reading_is_as_old_as_the_meter_says() -> None:
    readings = Readings().with_reading(Measured(500.0, age_s=4.0), 10.0, MeterSettings())
    assert readings.used == Used(500.0, 6.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_leaves_the_last_reading(wrong: float) -> None:
    readings = after([500.0, wrong])
    assert readings.used == Used(500.0, 0.0)
    assert readings.refusal == f"asked for a number, found {wrong} W"


def test_an_age_that_is_no_number_leaves_the_last_reading() -> None:
    readings = after([500.0]).with_reading(Measured(400.0, math.nan), 1.0, MeterSettings())
    assert readings.used == Used(500.0, 0.0)


def test_a_reading_outside_the_range_of_the_meter_is_refused() -> None:
    low = after([500.0, -80.0], least_w=0.0)
    assert low.used == Used(500.0, 0.0)
    assert low.refusal == "asked for at least 0 W, found -80 W"
    high = after([500.0, 9e9], most_w=2000.0)
    assert high.used == Used(500.0, 0.0)
    assert high.refusal == "asked for at most 2000 W, found 9e+09 W"


def test_a_negative_reading_is_used_where_no_range_is_stated() -> None:
    assert after([500.0, -80.0]).used == Used(-80.0, 1.0)


def test_a_sudden_rise_is_used_when_the_next_reading_confirms_it() -> None:
    assert after([500.0, 1500.0], step_w=200.0).used == Used(500.0, 0.0)
    assert after([500.0, 1500.0, 1490.0], step_w=200.0).used == Used(1490.0, 2.0)


def test_a_single_peak_is_never_used() -> None:
    assert after([500.0, 1500.0, 510.0], step_w=200.0).used == Used(510.0, 2.0)


def test_two_peaks_with_a_normal_reading_between_them_confirm_nothing() -> None:
    assert after([500.0, 1500.0, 510.0, 1500.0], step_w=200.0).used == Used(510.0, 2.0)


def test_a_sudden_fall_is_used_at_once() -> None:
    assert after([1500.0, 100.0], step_w=200.0).used == Used(100.0, 1.0)


def test_a_reading_that_never_changes_is_refused_after_the_stated_time() -> None:
    readings = after([500.0] * 5, frozen_s=3.0)
    assert readings.used == Used(500.0, 2.0)
    assert readings.refusal == "asked for readings that change, found the same one for 4 s"


def test_a_meter_that_was_frozen_is_used_again_when_it_changes() -> None:
    readings = after([500.0] * 5 + [501.0], frozen_s=3.0)
    assert (readings.used, readings.refusal) == (Used(501.0, 5.0), "")


@given(
    st.lists(st.floats(-1e4, 1e4) | st.just(math.nan), max_size=20),
    st.floats(1.0, 5e3),
    st.floats(1.0, 10.0),
)
def test_what_is_used_was_read_and_is_in_range(
    watts: list[float], step_w: float, frozen_s: float
) -> None:
    readings = after(watts, least_w=-100.0, most_w=5000.0, step_w=step_w, frozen_s=frozen_s)
    if readings.used is not None:
        assert readings.used.watts == watts[int(readings.used.at_s)]
        assert -100.0 <= readings.used.watts <= 5000.0
    assert bool(readings.refusal) == (
        bool(watts) and (readings.used is None or readings.used.at_s < len(watts) - 1)
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"period": 1}, "period: unknown key, did you mean period_s?"),
        ({"period_s": 0}, "period_s: asked for a number of at least 0.1, found 0"),
        ({"stale_s": "30"}, "stale_s: asked for a number, found '30'"),
        ({"least_w": 5, "most_w": 5}, "most_w: asked for more than 5, found 5"),
        ({"watts_per_unit": 0}, "watts_per_unit: asked for a number other than 0, found 0"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings_of(MeterSettings, settings)
    assert str(error.value) == line
