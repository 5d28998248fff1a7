from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import modelled_frontier

from steppe.config import SleepSection
from steppe.control.sleep_ladder import (
    LEAST_CONTEXT_W,
    SleepDepth,
    SleepLadder,
    SleepRung,
    ladder_of,
    rungs_of,
)

STOPPED = SleepRung(SleepDepth.STOPPED, 280.0, 60.0, 0.0)
OFF = SleepRung(SleepDepth.OFF, 0.0, 300.0, 0.0)


def ladder(*rungs: SleepRung, paused_w: float = 480.0) -> SleepLadder:
    return SleepLadder(paused_w, waking_w=480.0, lost_w=0.0, rungs=rungs)


def test_a_rung_pays_once_what_it_saves_is_worth_its_wake() -> None:
    (after_s,) = ladder(STOPPED).pays_after_s
    assert after_s == pytest.approx(60 * 480 / 200)


def test_a_deeper_rung_pays_later_than_a_shallower_one() -> None:
    stopped_s, off_s = ladder(STOPPED, OFF).pays_after_s
    assert stopped_s == pytest.approx(144.0)
    assert off_s == pytest.approx((300 - 60) * 480 / 280)


def test_a_rung_that_saves_nothing_never_pays() -> None:
    offloaded = SleepRung(SleepDepth.OFFLOADED, 480.0, 6.0, 6.0)
    first_s, second_s = ladder(offloaded, STOPPED).pays_after_s
    assert math.isinf(first_s)
    assert second_s == pytest.approx(144.0)


def test_a_rung_that_a_deeper_one_beats_at_all_times_is_left_out() -> None:
    slow = SleepRung(SleepDepth.STOPPED, 400.0, 290.0, 0.0)
    first_s, second_s = ladder(slow, OFF).pays_after_s
    assert math.isinf(first_s)
    assert second_s == pytest.approx(300.0)


rungs = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0, 500), min_size=n, max_size=n).map(lambda w: sorted(w, reverse=True)),
        st.lists(st.floats(0.1, 600), min_size=n, max_size=n).map(sorted),
    )
)


@given(rungs)
def test_whenever_a_rung_pays_no_other_costs_less(found: tuple[list[float], list[float]]) -> None:
    depths = list(SleepDepth)[1:]
    made = [SleepRung(d, w, s, 0.0) for d, w, s in zip(depths, *found, strict=False)]
    own = ladder(*made)
    for rung, after_s in zip(made, own.pays_after_s, strict=True):
        if math.isinf(after_s):
            continue
        cost_j = own.cost_j(rung) + after_s * rung.asleep_w
        assert cost_j <= after_s * own.paused_w * (1 + 1e-6) + 1e-6
        for other in made:
            assert cost_j <= (own.cost_j(other) + after_s * other.asleep_w) * (1 + 1e-6) + 1e-6


def test_watts_and_times_that_the_configuration_leaves_out_are_stated() -> None:
    sections = [
        SleepSection(kind="offloaded"),
        SleepSection(kind="stopped"),
        SleepSection(kind="node_off"),
    ]
    offloaded, stopped, off = rungs_of(sections, gpus=4, paused_w=480.0)
    assert (offloaded.asleep_w, off.asleep_w) == (480.0, 0.0)
    assert stopped.asleep_w == 480.0 - 4 * LEAST_CONTEXT_W
    assert offloaded.wake_s < stopped.wake_s < off.wake_s
    assert {rung.source for rung in (offloaded, stopped, off)} == {"stated"}


def test_a_stopped_replica_draws_what_its_gpus_draw_without_a_context() -> None:
    (stopped,) = rungs_of([SleepSection(kind="stopped", wake_s=20.0)], 4, 480.0, bare_w=70.0)
    assert (stopped.asleep_w, stopped.wake_s) == (280.0, 20.0)


def test_a_node_that_is_off_saves_what_it_draws_beside_its_gpus() -> None:
    sections = [SleepSection(kind="stopped"), SleepSection(kind="node_off")]
    stopped, off = rungs_of(sections, 4, 480.0, node_w=600.0)
    assert (stopped.net_w, off.net_w) == (stopped.asleep_w, -600.0)
    alone = ladder(STOPPED, OFF).pays_after_s[1]
    assert ladder(stopped, off).pays_after_s[1] < alone


def test_a_pool_without_depths_has_no_ladder() -> None:
    assert ladder_of((), modelled_frontier()) is None
