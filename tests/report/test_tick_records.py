from __future__ import annotations

from dataclasses import replace

import pytest

from steppe.control.shortage_forecast import Shortage, ShortageForecast, ShortagePoints
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Charge
from steppe.power.budget import Budget
from steppe.report.records import ReplicaTick, ShortageTick
from steppe.report.tick_records import FleetWindow, ReplicaWindow, TickRecords, bound_of
from steppe.roofline.point import OperatingPoint

LOW = OperatingPoint(600, 4, 40.0, 30.0, 0.1)
HIGH = OperatingPoint(1200, 16, 200.0, 70.0, 0.1)
POINTS = ShortagePoints.of(Frontier.of((LOW, HIGH), 10.0, 15.0, "modelled"), tpot_s=0.2)
NO_SHORTAGE = ShortageForecast(None, None, None)
WIND = Budget(120.0, 0.0, 120.0, 100.0, "wind", stale=False)
BATTERY = Budget(40.0, 30.0, 70.0, 70.0, "wind+battery", stale=False, charge=Charge(0.5, 30.0))


def replica(
    state: ReplicaState, clock_mhz: int = 1200, batch_limit: int = 16, outstanding: int = 0
) -> ReplicaObservation:
    return ReplicaObservation("replica", state, 0.0, clock_mhz, batch_limit, outstanding)


AWAKE = replica(ReplicaState.AWAKE)
AT_LOWEST = replica(ReplicaState.AWAKE, 600, 4)
STARTING = replica(ReplicaState.STARTING)
ASLEEP = replica(ReplicaState.ASLEEP, 210, 1)


def observation(now_s: float, *replicas: ReplicaObservation, waiting: int = 0) -> Observation:
    return Observation(now_s, 100.0, 90.0, 300.0, waiting, replicas)


def window(*replicas: ReplicaWindow) -> FleetWindow:
    draw_w = sum(replica.draw_w for replica in replicas)
    tokens = sum(replica.output_tokens for replica in replicas)
    return FleetWindow(draw_w, 2 * draw_w, tokens, 7, replicas)


def test_a_window_is_governed_by_the_budget_of_the_tick_that_began_it() -> None:
    records = TickRecords()
    first = observation(1.0, AWAKE, ASLEEP)
    nothing = window(ReplicaWindow(0.0, 0), ReplicaWindow(0.0, 0))
    assert records.record(first, WIND, nothing, NO_SHORTAGE, POINTS) is None
    frozen = replace(ASLEEP, outstanding=3)
    did = window(ReplicaWindow(60.0, 40), ReplicaWindow(10.0, 0))
    short = ShortageForecast(None, None, Shortage(5.0, 0.0, 9.0))
    second = replace(observation(3.0, AWAKE, frozen, waiting=2), engine_queue=4)
    record = records.record(second, BATTERY, did, short, POINTS)
    assert record is not None
    assert (record.t_s, record.budget_w, record.budget_source) == (3.0, 100.0, "wind")
    assert (record.supply_w, record.draw_w, record.energy_j) == (120.0, 70.0, 140.0)
    assert (record.output_tokens, record.output_tps) == (40, 20.0)
    assert (record.waiting, record.running) == (5, 7), "frozen requests wait"
    assert record.engine_queue == 4
    assert record.shortages == (ShortageTick("demand", 5.0, 0.0, 9.0),)
    assert record.battery == Charge(0.5, 30.0)
    assert record.replicas == (
        ReplicaTick("replica", "awake", 1200, 16, 60.0, 20.0),
        ReplicaTick("replica", "asleep", 210, 1, 10.0, 0.0, "paused"),
    )
    third = records.record(observation(4.0, AWAKE, ASLEEP), WIND, did, NO_SHORTAGE, POINTS)
    assert third is not None
    assert (third.budget_source, third.output_tps) == ("wind+battery", 40.0)
    assert third.supply_w < third.draw_w <= third.budget_w, "the battery gave the difference"


@pytest.mark.parametrize(
    ("replicas", "draw_w", "bound"),
    [
        ((AWAKE, AWAKE), 90.0, "ceiling"),
        ((AWAKE, replace(AWAKE, batch_limit=64)), 90.0, "ceiling"),
        ((AWAKE, AWAKE), 110.0, None),
        ((AWAKE, replace(AWAKE, clock_mhz=1100)), 90.0, None),
        ((AWAKE, replace(AWAKE, batch_limit=8)), 90.0, None),
        ((AWAKE, ASLEEP), 90.0, None),
        ((ASLEEP, ASLEEP), 20.0, "floor"),
        ((ASLEEP, ASLEEP), 110.0, "floor"),
        ((ASLEEP, replica(ReplicaState.GONE)), 20.0, "floor"),
        ((ASLEEP, replica(ReplicaState.DRAINING)), 110.0, None),
        ((AT_LOWEST, ASLEEP), 110.0, "floor"),
        ((AT_LOWEST, ASLEEP), 90.0, None),
        ((AT_LOWEST, AT_LOWEST), 110.0, None),
    ],
)
def test_a_fleet_at_the_end_of_its_range_is_bound(
    replicas: tuple[ReplicaObservation, ...], draw_w: float, bound: str | None
) -> None:
    assert bound_of(observation(1.0, *replicas), draw_w, 100.0, POINTS) == bound


@pytest.mark.parametrize(
    ("replicas", "one_awake_w"),
    [((ASLEEP, ASLEEP), 10.0 + 30.0), ((AWAKE, ASLEEP), None), ((ASLEEP, STARTING), None)],
)
def test_a_record_says_what_one_awake_replica_would_draw_while_all_are_asleep(
    replicas: tuple[ReplicaObservation, ...], one_awake_w: float | None
) -> None:
    records = TickRecords()
    records.begin(0.0, WIND)
    did = window(*(ReplicaWindow(10.0, 0) for _ in replicas))
    record = records.record(observation(1.0, *replicas), WIND, did, NO_SHORTAGE, POINTS)
    assert record is not None
    assert record.one_awake_w == one_awake_w


def test_the_ceiling_is_the_highest_point_that_keeps_the_slo() -> None:
    fast = OperatingPoint(1980, 16, 300.0, 90.0, 0.3)
    frontier = Frontier.of((LOW, HIGH, fast), 10.0, 15.0, "modelled")
    kept = ShortagePoints.of(frontier, tpot_s=0.2)
    assert bound_of(observation(1.0, AWAKE), 90.0, 100.0, kept) == "ceiling"
    assert bound_of(observation(1.0, AWAKE), 90.0, 100.0, ShortagePoints.of(frontier, 0.4)) is None


@pytest.mark.parametrize(
    ("waiting", "bound"), [((1, 0), "ceiling"), ((0, 1), None), ((1, 1), None), ((0, 0), None)]
)
def test_pools_are_at_the_ceiling_once_those_are_whose_work_waits(
    waiting: tuple[int, int], bound: str | None
) -> None:
    full = observation(1.0, replace(AWAKE, clock_mhz=HIGH.clock_mhz, batch_limit=HIGH.batch_limit))
    parts = {
        "full": replace(full, waiting=waiting[0]),
        "low": replace(observation(1.0, AWAKE, ASLEEP), waiting=waiting[1]),
    }
    whole = replace(full, pools=parts)
    points = ShortagePoints.of_pools({"full": POINTS, "low": POINTS})
    assert bound_of(whole, 50.0, 100.0, points) == bound
