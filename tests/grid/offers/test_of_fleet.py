from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet, modelled_frontier

from steppe.control.batch_work import BatchWork
from steppe.control.sleep_ladder import SleepDepth, SleepRung, ladder_of
from steppe.control.state import DeferrableWork, Observation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.grid.events.comply import CannotComply, Complies, can_comply
from steppe.grid.events.event import GridEvent, Share
from steppe.grid.offers.of_fleet import (
    FleetNow,
    PoolNow,
    StoredEnergy,
    Worth,
    flexibility_of,
    sources_of,
)
from steppe.grid.offers.sources import Source
from steppe.grid.verify.delivery import Direction
from steppe.power.battery import Battery

AWAKE, ASLEEP = ReplicaState.AWAKE, ReplicaState.ASLEEP
REPLICAS = 4
OFFLOADED = SleepRung(SleepDepth.OFFLOADED, 0.0, 6.0, 4.0)


@pytest.fixture(scope="module")
def frontier() -> Frontier:
    return modelled_frontier()


def seen_of(
    frontier: Frontier, draw_share: float, firm_share: float, later_share: float = 0.0
) -> Observation:
    """Return four awake replicas; shares are those of the full draw and of the full output."""
    full_w, full_tps = REPLICAS * frontier.full.draw_w, REPLICAS * frontier.full.output_tps
    later_tps = later_share * full_tps
    return replace(
        FakeFleet.of([AWAKE] * REPLICAS, full_w, waiting=0).observation,
        draw_w=draw_share * full_w,
        demand_tps=firm_share * full_tps + later_tps,
        deferrable=DeferrableWork(later_tps, 0, 0.0),
    )


def fleet_of(frontier: Frontier, seen: Observation, **terms: object) -> FleetNow:
    return replace(FleetNow((PoolNow(frontier, seen, "m"),)), **terms)  # type: ignore[arg-type]


def down_w(sources: tuple[Source, ...], hold_s: float) -> float:
    return sum(s.sustained_w(hold_s) for s in sources if s.direction is Direction.LESS)


def job(tokens: float, due_s: float | None) -> BatchWork:
    return BatchWork("j", "t", "m", 100, 0, tokens, due_s)


shares = st.tuples(st.floats(0.0, 1.2), st.floats(0.0, 1.0), st.floats(0.0, 1.0))


@settings(deadline=None, max_examples=50)
@given(shares, st.floats(1.0, 1e8), st.floats(0.0, 1e5), st.floats(1.0, 1e6))
def test_what_can_be_given_is_the_draw_above_the_floor_for_any_length_of_a_call(
    found: tuple[float, float, float], tokens: float, due_s: float, hold_s: float
) -> None:
    frontier = modelled_frontier()
    seen = seen_of(frontier, *found)
    sources = sources_of(fleet_of(frontier, seen, jobs=(job(tokens, due_s),), pue=1.2))
    floor_w = REPLICAS * min(frontier.asleep_w, frontier.floor.draw_w)
    above_w = 1.2 * max(0.0, (seen.draw_w or 0.0) - floor_w)
    assert down_w(sources, hold_s) == pytest.approx(above_w, rel=1e-6, abs=1e-6)


def test_work_that_can_wait_stops_before_streams_and_is_late_after_its_slack(
    frontier: Frontier,
) -> None:
    tps = 0.9 * REPLICAS * frontier.full.output_tps
    work = job(0.25 * tps * 3600.0, 3600.0)  # with half of the output for streams: 1800 s of it
    sources = sources_of(fleet_of(frontier, seen_of(frontier, 1.0, 0.45, 0.5), jobs=(work,)))
    names = [s.name for s in sources if s.direction is Direction.LESS]
    assert names[:2] == ["work that can wait", "work that is late"]
    waits, late = sources[0], sources[1]
    assert late.after_s == pytest.approx(1800.0, rel=0.01)
    assert waits.sustained_w(late.after_s) == pytest.approx(waits.watts)
    assert late.sustained_w(late.after_s) == 0.0


def test_idle_watts_cost_nothing_and_streams_cost_their_tokens(frontier: Frontier) -> None:
    worth = Worth(token_value=2.0)
    sources = sources_of(fleet_of(frontier, seen_of(frontier, 1.0, 0.5), worth=worth))
    names = [s.name for s in sources]
    assert names[0] == "what nothing needs"
    assert sources[0].price == 0.0
    assert names[-1] == "stopped streams"
    prices = [s.price for s in sources]
    assert prices == sorted(prices)
    assert sources[-1].price == pytest.approx(2.0 * sources[-1].tokens_per_j)


def test_nothing_is_offered_where_no_meter_answers(frontier: Frontier) -> None:
    seen = replace(seen_of(frontier, 1.0, 0.5), draw_w=None)
    assert sources_of(fleet_of(frontier, seen)) == ()


def test_more_is_drawn_while_there_is_work_and_within_the_connection(frontier: Frontier) -> None:
    seen = seen_of(frontier, 0.5, 0.3)
    work = job(1e6, None)
    up = sources_of(fleet_of(frontier, seen, jobs=(work,)))[-1]
    assert up.direction is Direction.MORE
    assert up.watts == pytest.approx(0.5 * REPLICAS * frontier.full.draw_w)
    assert up.energy_j < math.inf
    bounded = sources_of(fleet_of(frontier, seen, jobs=(work,), import_w=10.0))[-1]
    assert bounded.watts == pytest.approx(10.0)
    without = sources_of(fleet_of(frontier, seen))
    assert all(s.direction is Direction.LESS for s in without)


def test_only_replicas_without_requests_sleep_deeper_once_that_pays(frontier: Frontier) -> None:
    ladder = ladder_of((OFFLOADED,), frontier)
    assert ladder is not None
    seen = seen_of(frontier, 0.5, 0.0)
    first, *others = (replace(r, outstanding=0) for r in seen.replicas)
    seen = replace(seen, replicas=(first, *others))
    busy = replace(seen, replicas=(replace(first, outstanding=3), *others))
    found = [
        next(
            s
            for s in sources_of(FleetNow((PoolNow(frontier, each, "m", ladder),)))
            if s.name == "deeper sleep"
        )
        for each in (seen, busy)
    ]
    assert found[1].watts == pytest.approx(found[0].watts * 3 / 4)
    assert found[0].notice_s == pytest.approx(1.0 + ladder.pays_after_s[0])
    assert found[0].recovery_s == pytest.approx(10.0)


def test_a_battery_counts_only_if_the_meter_sees_it(frontier: Frontier) -> None:
    seen = seen_of(frontier, 0.5, 0.3)
    stored = StoredEnergy(Battery(7200.0, 5.0, 3.0), 3600.0)
    names = [s.name for s in sources_of(fleet_of(frontier, seen, stored=stored))]
    assert names.count("battery") == 2
    assert "battery" not in [s.name for s in sources_of(fleet_of(frontier, seen))]


def test_two_pools_give_the_sum_of_both(frontier: Frontier) -> None:
    seen = seen_of(frontier, 0.8, 0.4)
    one = sources_of(fleet_of(frontier, seen))
    pool = PoolNow(frontier, seen, "m")
    both = sources_of(FleetNow((pool, replace(pool, model="n"))))
    assert down_w(both, 60.0) == pytest.approx(2 * down_w(one, 60.0))


def event_of(share: float, hold_s: float, notice_s: float) -> GridEvent:
    return GridEvent(
        id="e1",
        program="p",
        priority=0,
        issued_s=0.0,
        starts_s=notice_s,
        ramp_down_s=10.0,
        hold_until_s=notice_s + 10.0 + hold_s,
        ramp_up_s=10.0,
        target=Share(share),
        kind="relative",
        source="test",
    )


def test_the_site_complies_down_to_its_floor_and_not_below(frontier: Frontier) -> None:
    seen = seen_of(frontier, 1.0, 0.8)
    draw_w = seen.draw_w or 0.0
    flexibility = flexibility_of(sources_of(fleet_of(frontier, seen)))
    assert isinstance(can_comply(event_of(0.7, 10_800.0, 40.0), draw_w, flexibility, 0.0), Complies)
    below = event_of(0.0, 180.0, 40.0)
    verdict = can_comply(below, draw_w, flexibility, 0.0)
    assert isinstance(verdict, CannotComply)
    floor_w = REPLICAS * min(frontier.asleep_w, frontier.floor.draw_w)
    assert verdict.short_w == pytest.approx(floor_w)


def test_work_that_is_late_does_not_end_what_a_limit_forces(frontier: Frontier) -> None:
    seen = seen_of(frontier, 1.0, 0.1, 0.8)
    flexibility = flexibility_of(sources_of(fleet_of(frontier, seen, jobs=(job(1e9, 60.0),))))
    event = event_of(0.5, 86_000.0, 40.0)
    assert isinstance(can_comply(event, seen.draw_w or 0.0, flexibility, 0.0), Complies)


def test_a_baseline_above_the_draw_is_reached_already(frontier: Frontier) -> None:
    seen = seen_of(frontier, 0.5, 0.3)
    draw_w = seen.draw_w or 0.0
    sources = sources_of(fleet_of(frontier, seen))
    baseline_w = 2 * draw_w
    above = flexibility_of(sources, above_w=baseline_w - draw_w)
    verdict = can_comply(event_of(0.5, 600.0, 0.0), baseline_w, above, 0.0)
    assert isinstance(verdict, Complies)
    most_w = max(reach.down_w for reach in above.reaches)
    assert most_w == pytest.approx(draw_w + down_w(sources, 60.0))
