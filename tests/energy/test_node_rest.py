from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.energy.node_rest import STATED_ERROR, NodeRest, RestHistory
from steppe.energy.window import Quality


def test_without_a_meter_the_stated_figure_counts_as_an_estimate() -> None:
    history = RestHistory(1500.0)
    assert history.at(0.0) == NodeRest(1500.0, STATED_ERROR * 1500.0, "stated")
    window = history.window(10.0, 12.0)
    assert (window.energy_j, window.quality) == (3000.0, Quality.ESTIMATED)
    assert window.error_j == pytest.approx(STATED_ERROR * 3000.0)
    assert history.covered_until_s == math.inf


def test_a_reading_replaces_the_stated_figure_until_it_is_stale() -> None:
    history = RestHistory(1500.0, error=0.1, stale_s=60.0)
    history.add(100.0, 1000.0)
    assert history.at(99.0).source == "stated"
    assert history.at(100.0) == NodeRest(1000.0, 100.0, "measured")
    assert history.at(159.9).source == "measured"
    assert history.at(160.0) == NodeRest(1500.0, STATED_ERROR * 1500.0, "stale")


def test_what_a_meter_may_read_too_low_is_deducted_but_the_margin_of_a_statement_is_not() -> None:
    history = RestHistory(1500.0, error=0.1)
    assert history.at(0.0).most_w == 1500.0
    history.add(0.0, 1000.0)
    assert history.at(0.0).most_w == 1100.0


def test_a_window_adds_each_figure_for_as_long_as_it_held() -> None:
    history = RestHistory(1500.0, error=0.1, stale_s=20.0)
    history.add(10.0, 1000.0)
    history.add(20.0, 1200.0)
    measured = history.window(12.0, 25.0)
    assert measured.energy_j == pytest.approx(8 * 1000.0 + 5 * 1200.0)
    assert measured.error_j == pytest.approx(1400.0)
    assert measured.quality is Quality.INTEGRATED
    stale = history.window(20.0, 50.0)
    assert stale.energy_j == pytest.approx(20 * 1200.0 + 10 * 1500.0)
    assert stale.quality is Quality.ESTIMATED
    assert history.window(5.0, 15.0).quality is Quality.ESTIMATED


def test_a_meter_of_the_processors_is_beside_the_stated_figure() -> None:
    history = RestHistory(800.0, replaces=False, error=0.0, stale_s=10.0)
    history.add(0.0, 400.0)
    assert history.at(1.0).rest_w == 1200.0
    assert history.window(0.0, 5.0).quality is Quality.ESTIMATED
    stale = history.at(100.0)
    assert (stale.rest_w, stale.source) == (1200.0, "stale")
    alone = RestHistory(0.0, replaces=False, error=0.0)
    alone.add(0.0, 400.0)
    assert alone.window(0.0, 5.0).quality is Quality.INTEGRATED


@pytest.mark.parametrize("watts", [-1.0, math.nan, math.inf])
def test_what_is_no_power_is_left_out(watts: float) -> None:
    history = RestHistory(1500.0)
    assert not history.add(0.0, watts)
    assert history.at(0.0).source == "stated"


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 3000.0)), max_size=8),
    st.lists(st.floats(0.0, 200.0), min_size=2, max_size=6),
)
def test_adjacent_windows_add_up_also_when_readings_come_between_them(
    readings: list[tuple[float, float]], ends_s: list[float]
) -> None:
    history, edges_s = RestHistory(1500.0, stale_s=30.0), sorted(ends_s)
    waiting, sum_j = sorted(readings), 0.0
    for begin_s, end_s in pairwise(edges_s):
        while waiting and waiting[0][0] <= end_s:
            history.add(*waiting.pop(0))
        sum_j += history.window(begin_s, end_s).energy_j
    whole_j = history.window(edges_s[0], edges_s[-1]).energy_j
    assert sum_j == pytest.approx(whole_j, rel=1e-9, abs=1e-6)
