"""When a replica's GPUs go from one pool to another: unload one model, load the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations

from steppe.control.plan import Plan
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.planner import Planner
from steppe.control.policy.policy import Policy
from steppe.control.state import COMING, Observation, ReplicaObservation, ReplicaState
from steppe.frontier.group import ReplicaGroup, TokenDemand
from steppe.frontier.mix import best_counts
from steppe.frontier.pareto import Frontier

MEMORY_S = 60.0
"""Time over which demand and budget are smoothed, s: a gust or a burst must not move GPUs."""
UPDATE_S = 5.0
"""Time between two looks at what moves would gain, s."""
RETURN_COSTS = 2.0
"""A move has to earn its cost this many times: it may have to be undone."""
LEAST_DWELL_LOADS = 2.0
"""Least time between two moves, load times of the model that was loaded last."""
LEAST_GAIN = 0.01
"""Gain below which a move is not worth considering, share of what all pools serve."""


@dataclass(frozen=True, slots=True)
class MovablePool:
    """What a move needs to know of a pool.

    Attributes:
        frontier: Operating points of one of its replicas.
        drain_w: Draw of a replica that drains, W.
        value: Value of an output token, in the unit of all pools.
        gpus: What a replica runs on: kind and number of GPUs. Replicas move between equal ones.
        least: Least number of replicas; 0: the pool may be empty.
        most: Largest number of replicas.
        load_s: Time to load its model, s.
        load_w: Draw of a replica meanwhile, W.
    """

    frontier: Frontier
    drain_w: float
    value: float
    gpus: tuple[str, int]
    least: int
    most: int
    load_s: float
    load_w: float


@dataclass(frozen=True, slots=True)
class Leaving:
    """Where a replica goes.

    Attributes:
        replica: Its name.
        source: The pool that gives it.
        target: The pool that gets it.
    """

    replica: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class MoveMemory:
    """What is kept between ticks.

    Attributes:
        now_s: Time of the last tick, s; None before the first.
        demands: Smoothed demand of each pool, tokens/s.
        budget_w: Smoothed budget, W.
        earned: What each pair of pools would have gained by now, in value.
        leaving: The replica that is to move once its requests have ended; None if there is none.
        rests_until_s: No other move before this time, s.
    """

    now_s: float | None = None
    demands: Mapping[str, float] = field(default_factory=dict)
    budget_w: float = 0.0
    earned: Mapping[tuple[str, str], float] = field(default_factory=dict)
    leaving: Leaving | None = None
    rests_until_s: float = -math.inf


@dataclass(slots=True)
class MovePools:
    """A policy that moves replicas between pools where that buys more.

    A move gains the value that all pools serve with one replica more here and one less there, on
    the smoothed budget and demand. It costs the value that is lost while the model loads, and the
    energy of the load at the value of a joule. It is made once it would have earned twice its cost:
    without knowledge of the time to come, waiting that long never costs more than twice the best
    choice in hindsight, as with the depths of sleep. One replica moves at a time.

    Attributes:
        policy: Plans for the pools as they are.
        pools: What is known of each pool.
        memory: What is kept between ticks.
    """

    policy: Policy
    pools: Mapping[str, MovablePool]
    memory: MoveMemory = field(default_factory=MoveMemory)

    def decide(self, observation: Observation) -> Plan:
        """Return a plan, with the replica that is to move."""
        memory = self._noted(observation)
        leaving = self._still_leaving(observation, memory)
        if leaving is None and self._may_move(observation, memory):
            leaving = self._best(observation, memory)
        if memory.leaving is not None and leaving is None:
            rests_s = LEAST_DWELL_LOADS * self.pools[memory.leaving.target].load_s
            memory = replace(memory, rests_until_s=observation.now_s + rests_s, earned={})
        self.memory = replace(memory, leaving=leaving)
        if leaving is None:
            return self.policy.decide(observation)
        plan = self.policy.decide(self._without(observation, leaving))
        own = replace(plan.pools[leaving.source], moves=((leaving.replica, leaving.target),))
        held_w = self._held_w(observation, leaving)
        return replace(plan, draw_w=plan.draw_w + held_w, pools={**plan.pools, leaving.source: own})

    def _noted(self, observation: Observation) -> MoveMemory:
        """Return the memory with the demand, the budget and the earnings of this tick."""
        memory, parts = self.memory, observation.pools
        now_s, budget_w = observation.now_s, observation.gpu_budget_w
        demands = {name: part.demand_tps for name, part in parts.items()}
        if memory.now_s is None:
            return replace(memory, now_s=now_s, demands=demands, budget_w=budget_w)
        since_s = now_s - memory.now_s
        if since_s < UPDATE_S:
            return memory
        new = 1 - math.exp(-since_s / MEMORY_S)
        known = memory.demands
        smooth = {
            n: known.get(n, tps) + new * (tps - known.get(n, tps)) for n, tps in demands.items()
        }
        watts = memory.budget_w + new * (budget_w - memory.budget_w)
        memory = replace(memory, now_s=now_s, demands=smooth, budget_w=watts)
        return replace(memory, earned=self._earned(observation, memory, since_s))

    def _earned(
        self, observation: Observation, memory: MoveMemory, since_s: float
    ) -> dict[tuple[str, str], float]:
        """Return what each move would have earned by now; one that gains nothing starts anew."""
        counts = _counts(observation)
        now = self._served(counts, memory)
        found = {}
        for pair in self._possible(counts):
            gain = self._served(_moved(counts, pair), memory) - now
            if gain > LEAST_GAIN * now:
                found[pair] = memory.earned.get(pair, 0.0) + gain * since_s
        return found

    def _possible(self, counts: Mapping[str, int]) -> list[tuple[str, str]]:
        """Return the pairs of pools between which a replica may move."""
        pools = self.pools
        return [
            (source, target)
            for source, target in permutations(counts, 2)
            if pools[source].gpus == pools[target].gpus
            and counts[source] > pools[source].least
            and counts[target] < pools[target].most
        ]

    def _served(self, counts: Mapping[str, int], memory: MoveMemory) -> float:
        """Return the value per second that all pools serve with so many replicas each."""
        groups = []
        for name, replicas in counts.items():
            pool, demand_tps = self.pools[name], memory.demands.get(name, 0.0)
            demand = TokenDemand(pool.value, demand_tps * (1 + SPARE_SHARE))
            groups.append(ReplicaGroup.awake_or_asleep(pool.frontier, replicas, [demand]))
        best = best_counts(groups, memory.budget_w)
        if best is None:
            return 0.0
        return sum(g.worth(g.output_tps(c)) for g, c in zip(groups, best, strict=True))

    def _cost(self, pair: tuple[str, str], counts: Mapping[str, int], memory: MoveMemory) -> float:
        """Return what a move costs in value: service lost while loading, and the joules of it."""
        source, target = pair
        pool, now = self.pools[target], self._served(counts, memory)
        meanwhile = self._served({**counts, source: counts[source] - 1}, memory)
        full = self.pools[source].frontier.full
        value_per_j = self.pools[source].value * full.output_tps / full.draw_w
        return (now - meanwhile + pool.load_w * value_per_j) * pool.load_s

    def _best(self, observation: Observation, memory: MoveMemory) -> Leaving | None:
        """Return the move that has earned most beyond its cost; None if none has."""
        counts = _counts(observation)
        worth = {
            pair: earned - RETURN_COSTS * self._cost(pair, counts, memory)
            for pair, earned in memory.earned.items()
        }
        for source, target in sorted(worth, key=lambda pair: -worth[pair]):
            replica = _leaver(observation.pools[source])
            if worth[source, target] >= 0 and replica is not None:
                return Leaving(replica.id, source, target)
        return None

    @staticmethod
    def _may_move(observation: Observation, memory: MoveMemory) -> bool:
        """Return whether no replica starts or has just moved."""
        starting = any(replica.state in COMING for replica in observation.replicas)
        return not starting and observation.now_s >= memory.rests_until_s

    @staticmethod
    def _still_leaving(observation: Observation, memory: MoveMemory) -> Leaving | None:
        """Return the move that has not been made yet; None if it has, or if the replica is lost."""
        move = memory.leaving
        if move is None:
            return None
        found = (r for r in observation.pools[move.source].replicas if r.id == move.replica)
        return move if any(replica.state not in COMING for replica in found) else None

    def _held_w(self, observation: Observation, move: Leaving) -> float:
        """Return the draw of a replica that is leaving, W."""
        part = observation.pools[move.source]
        (replica,) = (r for r in part.replicas if r.id == move.replica)
        pool = self.pools[move.source]
        if not replica.outstanding:
            return self.pools[move.target].load_w
        drains = replace(part, replicas=(replace(replica, state=ReplicaState.DRAINING),))
        return Planner(pool.frontier, pool.drain_w).others_w(drains, may_drain=True)

    def _without(self, observation: Observation, move: Leaving) -> Observation:
        """Return what the other replicas are, on the budget that the leaving one leaves."""
        part = observation.pools[move.source]
        others = tuple(replica for replica in part.replicas if replica.id != move.replica)
        left_w = max(0.0, observation.gpu_budget_w - self._held_w(observation, move))
        parts = {**observation.pools, move.source: replace(part, replicas=others)}
        return replace(
            observation,
            gpu_budget_w=left_w,
            replicas=tuple(r for r in observation.replicas if r.id != move.replica),
            pools={name: each.with_budget(left_w) for name, each in parts.items()},
        )


def _counts(observation: Observation) -> dict[str, int]:
    """Return the number of replicas of each pool, without those that are quarantined."""
    return {
        name: len([r for r in part.replicas if r.state != ReplicaState.QUARANTINED])
        for name, part in observation.pools.items()
    }


def _moved(counts: Mapping[str, int], pair: tuple[str, str]) -> dict[str, int]:
    source, target = pair
    return {**counts, source: counts[source] - 1, target: counts[target] + 1}


def _leaver(part: Observation) -> ReplicaObservation | None:
    """Return the replica that a pool misses least; one with frozen requests does not leave."""
    order = {ReplicaState.ASLEEP: 0, ReplicaState.DRAINING: 1, ReplicaState.AWAKE: 2}
    able = [
        replica
        for replica in part.replicas
        if replica.state in order
        and not (replica.state == ReplicaState.ASLEEP and replica.outstanding)
    ]
    return min(able, key=lambda r: (order[r.state], r.outstanding, r.id), default=None)
