from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steppe.energy.attribution import BusyStep, attribute, share_out

weights = st.dictionaries(st.integers(0, 1000), st.floats(0.001, 100), min_size=1, max_size=20)
steps = st.lists(st.builds(BusyStep, st.just(0.0) | st.floats(0.001, 0.5), weights), max_size=20)


@given(st.integers(0, 10**12), weights)
def test_parts_sum_to_the_whole_to_the_microjoule(total: int, by_key: dict[int, float]) -> None:
    parts = share_out(total, by_key)
    assert sum(parts.values()) == total
    assert all(part >= 0 for part in parts.values())


@given(st.floats(0, 1e5), st.floats(0, 100), st.floats(0, 200), steps)
@example(9.85e-05, 0.2, 200.0, [BusyStep(1e-20, {7: 1.0})])  # the pause alone rounds up to more
def test_requests_and_idle_sum_to_the_metered_energy_and_nobody_is_charged_less_than_nothing(
    energy_j: float, window_s: float, idle_w: float, done: list[BusyStep]
) -> None:
    shares = attribute(energy_j, window_s, idle_w, done)
    assert shares.requests_uj.total() + shares.idle_uj == round(energy_j * 1e6)
    assert min([shares.idle_uj, *shares.requests_uj.values()]) >= 0


def test_a_window_without_steps_is_idle() -> None:
    shares = attribute(30.0, 1.0, 12.0, [])
    assert shares.idle_uj == 30_000_000
    assert not shares.requests_uj


def test_steps_that_took_no_time_leave_a_window_idle() -> None:
    shares = attribute(30.0, 1.0, 12.0, [BusyStep(0.0, {7: 1.0})])
    assert (shares.idle_uj, shares.requests_uj.total()) == (30_000_000, 0)


def test_a_request_alone_in_a_busy_window_pays_for_all_of_it() -> None:
    shares = attribute(50.0, 1.0, 12.0, [BusyStep(1.0, {7: 3.0})])
    assert shares.requests_uj[7] == 50_000_000


def test_time_between_steps_is_charged_at_the_idle_draw() -> None:
    shares = attribute(40.0, 1.0, 10.0, [BusyStep(0.6, {7: 1.0})])
    assert shares.idle_uj == pytest.approx(4_000_000, abs=1)


def test_a_pause_costs_no_more_than_the_mean_draw() -> None:
    shares = attribute(15.0, 1.0, 100.0, [BusyStep(0.2, {7: 1.0})])
    assert (shares.idle_uj, shares.requests_uj[7]) == (12_000_000, 3_000_000)


def test_a_longer_step_costs_its_requests_more() -> None:
    shares = attribute(30.0, 0.3, 0.0, [BusyStep(0.1, {1: 1.0}), BusyStep(0.2, {2: 1.0})])
    assert shares.requests_uj[2] == pytest.approx(2 * shares.requests_uj[1], abs=2)
