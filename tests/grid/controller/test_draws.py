"""What the site drew, and its mean without the time of events."""

from __future__ import annotations

import pytest

from steppe.grid.controller.draws import MOST_KEPT, Draws


def draws_of(*ticks: tuple[float, bool], span_s: float = 10.0) -> Draws:
    """Return draws of so many watts, each within an event or not."""
    draws = Draws()
    for number, (watts, in_event) in enumerate(ticks, start=1):
        draws.add(span_s * number, watts, span_s, "emulated", in_event=in_event)
    return draws


def test_the_baseline_is_the_mean_of_the_last_time() -> None:
    draws = draws_of((900.0, False), (100.0, False), (200.0, False))
    assert draws.baseline_w(20.0) == 150.0
    assert draws.baseline_w(25.0) == pytest.approx((200 + 100 + 900 / 2) / 2.5)
    assert draws.baseline_w(1000.0) == 400.0, "since the begin"


def test_the_time_of_events_is_left_out_of_the_baseline() -> None:
    draws = draws_of((100.0, False), (10.0, True), (10.0, True), (200.0, False))
    assert draws.baseline_w(40.0) == 150.0
    assert draws.baseline_w(20.0) == 200.0


def test_there_is_no_baseline_without_time_outside_of_events() -> None:
    assert Draws().baseline_w(600.0) is None
    assert draws_of((100.0, False), (10.0, True)).baseline_w(10.0) is None


def test_ticks_are_read_after_a_number_and_only_the_last_ones_are_kept() -> None:
    draws = draws_of(*[(100.0, False)] * (MOST_KEPT + 5))
    assert [each.number for each in draws.since(0)][:2] == [6, 7]
    assert [each.number for each in draws.since(MOST_KEPT + 3)] == [MOST_KEPT + 4, MOST_KEPT + 5]
    assert draws.since(MOST_KEPT + 5) == ()


def test_numbers_go_on_after_those_of_another_process() -> None:
    draws = Draws(after=41)
    draws.add(1.0, 100.0, 1.0, "emulated", in_event=False)
    (sample,) = draws.since(41)
    assert (sample.number, sample.site_w, sample.energy_source) == (42, 100.0, "emulated")
