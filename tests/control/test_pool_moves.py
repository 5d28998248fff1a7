"""When a replica's GPUs go to another model: bounds, break-even, and no oscillation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.policy.goals import FollowBudget
from steppe.control.pool_moves import LEAST_DWELL_LOADS, MovablePool, MovePools
from steppe.control.pools import Pool, ShareBudget
from steppe.control.reconcile import Drain, DrainRule, Move, reconcile
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier

LOAD_S, PERIOD_S = 30.0, 15.0
ONE: ReplicaObservation = FakeFleet.of([ReplicaState.AWAKE], 0.0, 0).observation.replicas[0]


class World:
    """Pools whose replicas sleep at once and load in `LOAD_S`; each has a demand."""

    def __init__(
        self, frontier: Frontier, counts: dict[str, int], bounds: dict[str, tuple[int, int]]
    ) -> None:
        self.frontier, self.now_s = frontier, 0.0
        numbers = iter(range(1, 1 + sum(counts.values())))
        self.homes = {f"replica-{next(numbers)}": n for n, of in counts.items() for _ in range(of)}
        self.loading: dict[str, float] = {}
        self.moves: list[tuple[float, Move]] = []
        drain_w = frontier.floor.draw_w
        pools = {n: Pool(frontier, drain_w, FollowBudget(frontier, drain_w)) for n in counts}
        movable = {
            name: MovablePool(
                frontier, drain_w, 1.0, ("h100", 1), *bounds[name], LOAD_S, frontier.idle_w
            )
            for name in counts
        }
        self.policy = MovePools(ShareBudget(pools), movable)
        self.rule = DrainRule(frontier.drain, 30.0)

    def count(self, pool: str) -> int:
        return list(self.homes.values()).count(pool)

    def observe(self, budget_w: float, demands: dict[str, float]) -> Observation:
        parts = {n: self._part(n, budget_w, tps) for n, tps in demands.items()}
        first = next(iter(parts.values()))
        replicas = tuple(r for part in parts.values() for r in part.replicas)
        return replace(first, replicas=replicas, pools=parts)

    def tick(self, budget_w: float, demands: dict[str, float]) -> None:
        seen = self.observe(budget_w, demands)
        plan = self.policy.decide(seen)
        assert plan.draw_w <= budget_w + 1e-6 or not plan.feasible
        for name, part in seen.pools.items():
            for action in reconcile(part, plan.pools[name], self.rule):
                if isinstance(action, Move):
                    self.homes[action.replica] = action.pool
                    self.loading[action.replica] = self.now_s + LOAD_S
                    self.moves.append((self.now_s, action))
        self.now_s += PERIOD_S

    def run(self, seconds: float, budget_w: float, demands: dict[str, float]) -> None:
        for _ in range(int(seconds / PERIOD_S)):
            self.tick(budget_w, demands)

    def _part(self, pool: str, budget_w: float, tps: float) -> Observation:
        replicas = tuple(
            replace(ONE, id=name, pool=pool, outstanding=0, state=self._state(name))
            for name, home in self.homes.items()
            if home == pool
        )
        whole = FakeFleet.of([ReplicaState.AWAKE], budget_w, 0).observation
        return replace(whole, now_s=self.now_s, replicas=replicas, demand_tps=tps, waiting=0)

    def _state(self, name: str) -> ReplicaState:
        loads = self.loading.get(name, -1.0) > self.now_s
        return ReplicaState.STARTING if loads else ReplicaState.ASLEEP


def many_w(frontier: Frontier) -> float:
    return 50 * frontier.full.draw_w


def test_a_replica_goes_where_demand_is_that_nobody_serves(frontier: Frontier) -> None:
    world = World(frontier, {"a": 3, "b": 1}, {"a": (1, 4), "b": (0, 4)})
    world.run(1200.0, many_w(frontier), {"a": 1.0, "b": 2.5 * frontier.full.output_tps})
    assert (world.count("a"), world.count("b")) == (1, 3)
    assert all(move.pool == "b" for _, move in world.moves)


def test_it_first_waits_until_the_move_would_have_paid_and_moves_one_at_a_time(
    frontier: Frontier,
) -> None:
    world = World(frontier, {"a": 3, "b": 1}, {"a": (0, 4), "b": (0, 4)})
    world.run(1200.0, many_w(frontier), {"a": 0.0, "b": 2.5 * frontier.full.output_tps})
    times_s = [at_s for at_s, _ in world.moves]
    assert times_s[0] > PERIOD_S
    assert all(b - a >= LEAST_DWELL_LOADS * LOAD_S for a, b in itertools.pairwise(times_s))


def test_an_empty_pool_gets_a_replica_once_it_is_asked_for(frontier: Frontier) -> None:
    world = World(frontier, {"a": 2, "b": 1}, {"a": (1, 3), "b": (0, 3)})
    tps = frontier.full.output_tps
    world.run(1200.0, many_w(frontier), {"a": 3.5 * tps, "b": 0.0})
    assert world.count("b") == 0
    world.run(1200.0, many_w(frontier), {"a": 0.5 * tps, "b": 0.5 * tps})
    assert world.count("b") == 1


def test_scarce_watts_move_nothing(frontier: Frontier) -> None:
    world = World(frontier, {"a": 3, "b": 1}, {"a": (0, 4), "b": (0, 4)})
    one_w = 3 * frontier.asleep_w + frontier.floor.draw_w
    world.run(600.0, one_w, {"a": 0.0, "b": 3 * frontier.full.output_tps})
    assert world.moves == []


@settings(deadline=None, max_examples=6)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=3
    ),
    st.lists(st.floats(0, 5), min_size=3, max_size=3),
    st.floats(1, 12),
)
def test_a_steady_demand_leads_to_no_oscillation_and_bounds_hold(
    frontier: Frontier, sizes: list[tuple[int, int, int]], loads: list[float], watts: float
) -> None:
    names = ["a", "b", "c"][: len(sizes)]
    counts = {n: size[0] for n, size in zip(names, sizes, strict=True)}
    bounds = {
        n: (max(0, number - fewer), number + more)
        for n, (number, fewer, more) in zip(names, sizes, strict=True)
    }
    world = World(frontier, counts, bounds)
    demands = {n: load * frontier.full.output_tps for n, load in zip(names, loads, strict=False)}
    for _ in range(40):
        world.tick(watts * frontier.full.draw_w, demands)
        for name, (least, most) in bounds.items():
            assert least <= world.count(name) <= most
    assert len(world.homes) == sum(counts.values())
    gave = {name for name in names if world.count(name) < counts[name]}
    assert not gave & {move.pool for _, move in world.moves}


def test_a_replica_with_requests_drains_before_it_moves(frontier: Frontier) -> None:
    whole = FakeFleet.of([ReplicaState.AWAKE] * 2, 1000.0, 0).observation
    name = whole.replicas[0].id
    plan = replace(FollowBudget(frontier, 50.0).decide(whole), moves=((name, "other"),))
    rule = DrainRule(frontier.drain, 30.0)
    mine = [action for action in reconcile(whole, plan, rule) if action.replica == name]
    assert [type(action) for action in mine] == [Drain]
    drained = replace(whole.replicas[0], state=ReplicaState.DRAINING, outstanding=0)
    later = replace(whole, replicas=(drained, whole.replicas[1]))
    assert Move(name, "other") in reconcile(later, plan, rule)
    busy = replace(drained, outstanding=3)
    still = reconcile(replace(whole, replicas=(busy, whole.replicas[1])), plan, rule)
    assert not [action for action in still if action.replica == name]


@pytest.mark.parametrize("gpus", [("h100", 2), ("l4", 1)])
def test_replicas_move_between_equal_gpus_only(frontier: Frontier, gpus: tuple[str, int]) -> None:
    world = World(frontier, {"a": 3, "b": 1}, {"a": (0, 4), "b": (0, 4)})
    pools = dict(world.policy.pools)
    world.policy.pools = pools | {"b": replace(pools["b"], gpus=gpus)}
    world.run(600.0, many_w(frontier), {"a": 0.0, "b": 2.5 * frontier.full.output_tps})
    assert world.moves == []
