from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.sleep_depth import (
    EVERY_S,
    FORECAST_EVERY_S,
    RESTORE_AFTER_S,
    DepthMemory,
    DepthPlan,
    choose_depths,
    without_deep,
)
from steppe.control.policy.sleep_need import DepthSettings, Forecast
from steppe.control.reconcile import Deepen, DrainRule, Start, reconcile
from steppe.control.sleep_ladder import SleepDepth, SleepLadder, SleepRung
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP, GONE = ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.GONE
PAUSED, STOPPED, OFF = SleepDepth.PAUSED, SleepDepth.STOPPED, SleepDepth.OFF
LADDER = SleepLadder(
    paused_w=100.0,
    waking_w=100.0,
    lost_w=0.0,
    rungs=(SleepRung(STOPPED, 60.0, 20.0, 0.0), SleepRung(OFF, 0.0, 200.0, 0.0)),
)
STOPPED_S, OFF_S = LADDER.pays_after_s
POINT = OperatingPoint(600, 1, 1.0, 300.0)


@dataclass
class Needs:
    """Has so many replicas awake in its plans."""

    awake: int
    asked: list[Observation] = field(default_factory=list)

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        self.asked.append(observation)
        return Plan((POINT,) * self.awake, usable_w)


@dataclass
class Stage:
    """The stage with its memory, over replicas that change their depth at once."""

    observation: Observation
    goal: Needs
    memory: DepthMemory = field(default_factory=DepthMemory)
    forecast: Forecast | None = None
    changes: list[DepthPlan] = field(default_factory=list)

    def go_on(self, seconds: float) -> None:
        end_s = self.observation.now_s + seconds
        while self.observation.now_s < end_s:
            settings = DepthSettings(LADDER, self.goal, 0.0, self.forecast)
            change, self.memory = choose_depths(self.observation, self.memory, settings)
            self.changes.append(change)
            replicas = tuple(_after(r, change) for r in self.observation.replicas)
            now_s = self.observation.now_s + EVERY_S
            self.observation = replace(self.observation, now_s=now_s, replicas=replicas)

    def depths(self) -> list[SleepDepth]:
        return [r.depth for r in self.observation.replicas if r.state == ASLEEP]


def _after(replica: ReplicaObservation, change: DepthPlan) -> ReplicaObservation:
    if replica.id in change.restore:
        return replace(replica, state=AWAKE, depth=PAUSED, deep_w=0.0)
    depth = dict(change.deepen).get(replica.id)
    if depth is None:
        return replica
    return replace(replica, depth=depth, deep_w=LADDER.by_depth[depth].asleep_w)


def stage(
    states: Sequence[ReplicaState], needed: int, nodes: Sequence[str] = (), outstanding: int = 0
) -> Stage:
    observation = FakeFleet.of(states, 2000.0).observation
    replicas = tuple(
        replace(
            r, node=nodes[i] if nodes else "", outstanding=outstanding if r.state == ASLEEP else 3
        )
        for i, r in enumerate(observation.replicas)
    )
    return Stage(replace(observation, replicas=replicas), Needs(needed))


def test_a_replica_that_is_not_needed_stops_once_that_pays_and_not_before() -> None:
    one = stage([AWAKE, ASLEEP], needed=1)
    one.go_on(STOPPED_S - EVERY_S)
    assert one.depths() == [PAUSED]
    one.go_on(2 * EVERY_S)
    assert one.depths() == [STOPPED]


def test_a_replica_that_is_not_needed_for_long_goes_all_the_way_down() -> None:
    one = stage([AWAKE, ASLEEP, ASLEEP], needed=2)
    one.go_on(OFF_S + 2 * EVERY_S)
    assert sorted(one.depths()) == [OFF, PAUSED]


def test_a_replica_that_was_needed_lately_stays_paused() -> None:
    one = stage([AWAKE, ASLEEP], needed=2)
    one.go_on(STOPPED_S)
    one.goal.awake = 1
    one.go_on(STOPPED_S - EVERY_S)
    assert one.depths() == [PAUSED]


def test_a_replica_with_requests_is_never_deeper_than_paused() -> None:
    one = stage([AWAKE, ASLEEP], needed=1, outstanding=4)
    one.go_on(10 * OFF_S)
    assert one.depths() == [PAUSED]


def test_a_node_is_switched_off_only_with_all_its_replicas() -> None:
    shared = stage([AWAKE, ASLEEP, ASLEEP], needed=1, nodes=["one", "one", "two"])
    shared.go_on(OFF_S + 2 * EVERY_S)
    assert shared.depths() == [STOPPED, OFF]


def test_a_stopped_replica_comes_back_once_it_has_been_needed_for_a_while() -> None:
    one = stage([AWAKE, ASLEEP], needed=1)
    one.go_on(STOPPED_S + 2 * EVERY_S)
    one.goal.awake = 2
    one.go_on(RESTORE_AFTER_S)
    assert one.depths() == [STOPPED], "a gust is shorter than a wake"
    one.go_on(2 * EVERY_S)
    assert one.depths() == []


def test_of_two_depths_the_shallower_comes_back_first() -> None:
    one = stage([AWAKE, ASLEEP, ASLEEP], needed=2, nodes=["a", "b", "c"])
    one.observation = replace(
        one.observation,
        replicas=(
            one.observation.replicas[0],
            replace(one.observation.replicas[1], depth=OFF),
            replace(one.observation.replicas[2], depth=STOPPED, deep_w=60.0),
        ),
    )
    one.go_on(RESTORE_AFTER_S + 2 * EVERY_S)
    assert one.depths() == [OFF]


def test_the_need_is_that_of_a_fleet_with_every_replica_at_hand() -> None:
    one = stage([AWAKE, ASLEEP], needed=1)
    one.go_on(STOPPED_S + 2 * EVERY_S)
    one.goal.asked.clear()
    one.go_on(EVERY_S)
    assert one.goal.asked[0].counts.asleep == 1
    assert not any(r.is_deep for r in one.goal.asked[0].replicas)


@dataclass
class NeedsWatts(Needs):
    """Has one replica awake for each 300 W."""

    def best_plan(self, observation: Observation, usable_w: float, bounds: AwakeBounds) -> Plan:
        return Plan((POINT,) * int(usable_w // 300.0), usable_w)


def steps_of(*levels: tuple[float, float]) -> Forecast:
    """Return the forecast of a budget that changes at these times, s, to these watts."""

    def forecast(now_s: float, horizon_s: float, step_s: float) -> list[tuple[float, float]]:
        times_s = [now_s + n * step_s for n in range(int(horizon_s / step_s))]
        return [(t, next(w for at_s, w in reversed(levels) if at_s <= t)) for t in times_s]

    return forecast


def test_by_a_forecast_of_a_long_shortage_replicas_go_deep_at_once() -> None:
    one = stage([AWAKE, ASLEEP], needed=1)
    one.goal, one.forecast = NeedsWatts(0), steps_of((0.0, 300.0))
    one.observation = replace(one.observation, gpu_budget_w=300.0)
    one.go_on(2 * EVERY_S)
    assert one.depths() == [OFF]


def test_by_a_forecast_of_a_short_shortage_replicas_stay_paused() -> None:
    one = stage([AWAKE, ASLEEP], needed=1)
    one.goal, one.forecast = NeedsWatts(0), steps_of((0.0, 300.0), (0.8 * STOPPED_S, 600.0))
    one.observation = replace(one.observation, gpu_budget_w=300.0)
    one.go_on(0.7 * STOPPED_S)
    assert one.depths() == [PAUSED]


def test_by_a_forecast_a_replica_comes_back_before_it_is_needed() -> None:
    rises_s = 3 * OFF_S
    one = stage([AWAKE, ASLEEP], needed=1)
    one.goal, one.forecast = NeedsWatts(0), steps_of((0.0, 300.0), (rises_s, 600.0))
    one.observation = replace(one.observation, gpu_budget_w=300.0)
    one.go_on(rises_s - LADDER.deepest.wake_s - 60.0)
    assert one.depths() == [OFF]
    one.go_on(60.0 + RESTORE_AFTER_S + FORECAST_EVERY_S)
    assert one.depths() == [], "it is back by the time of the rise"
    assert one.observation.now_s < rises_s


def test_the_other_stages_see_neither_deep_replicas_nor_their_watts() -> None:
    one = stage([AWAKE, ASLEEP, ASLEEP], needed=1)
    deep = replace(one.observation.replicas[1], depth=STOPPED, deep_w=60.0)
    replicas = (one.observation.replicas[0], deep, one.observation.replicas[2])
    whole = replace(one.observation, replicas=replicas, gpu_budget_w=1000.0, draw_w=500.0)
    settings = DepthSettings(LADDER, one.goal, 0.0)
    seen = without_deep(whole, DepthPlan(), settings)
    assert [r.id for r in seen.replicas] == ["replica-0", "replica-2"]
    assert (seen.gpu_budget_w, seen.draw_w) == (940.0, 440.0)
    waking = without_deep(whole, DepthPlan(restore=("replica-1",)), settings)
    assert (waking.gpu_budget_w, waking.draw_w) == (900.0, 440.0), "a wake draws more from now on"
    leaving = without_deep(whole, DepthPlan(deepen=(("replica-2", STOPPED),)), settings)
    assert [r.id for r in leaving.replicas] == ["replica-0"]
    assert (leaving.gpu_budget_w, leaving.draw_w) == (840.0, 340.0)


def test_a_node_that_is_off_gives_its_watts_to_the_others_until_it_comes_back() -> None:
    rungs = (LADDER.rungs[0], replace(LADDER.rungs[1], node_w=500.0))
    settings = DepthSettings(replace(LADDER, rungs=rungs), Needs(1), 0.0)
    one = stage([AWAKE, ASLEEP, ASLEEP], needed=1, nodes=["a", "b", "b"])
    off = [replace(r, depth=OFF) for r in one.observation.replicas[1:]]
    replicas = (one.observation.replicas[0], *off)
    whole = replace(one.observation, replicas=replicas, gpu_budget_w=3000.0)
    assert without_deep(whole, DepthPlan(), settings).gpu_budget_w == 3000.0
    seen = without_deep(whole, DepthPlan(restore=("replica-1",)), settings)
    assert seen.gpu_budget_w == 3000.0 - LADDER.waking_w - 2 * 500.0


def test_a_plan_that_changes_depths_becomes_actions_and_nothing_else_moves_those_replicas() -> None:
    one = stage([AWAKE, ASLEEP, ASLEEP], needed=1)
    deep = replace(one.observation.replicas[1], depth=STOPPED, deep_w=60.0)
    replicas = (one.observation.replicas[0], deep, one.observation.replicas[2])
    observation = replace(one.observation, replicas=replicas)
    point = replace(POINT, clock_mhz=replicas[0].clock_mhz, batch_limit=replicas[0].batch_limit)
    plan = Plan((point,), 300.0, deepen=(("replica-2", OFF),), restore=("replica-1",))
    actions = reconcile(observation, plan, DrainRule(point, 30.0))
    assert actions == [Deepen("replica-2", OFF), Start("replica-1")]
