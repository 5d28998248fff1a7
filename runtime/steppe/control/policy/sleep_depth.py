"""Depth stage: replicas that are not needed for long sleep deeper, and come back when they are.

The other stages plan with the replicas that are awake or paused. This one decides how many those
are. How many the fleet needs is the number that the best plan would have awake if all others slept
at the deepest rung. A replica goes to a rung once it was not needed for as long as `SleepLadder`
says the rung takes to pay, and comes back once it has been needed for `RESTORE_AFTER_S`. With a
forecast, it goes there as soon as it will not be needed for so long, and comes back one wake time
before it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from steppe.control.policy.sleep_need import (
    DepthSettings,
    NeedAhead,
    need_ahead,
    replicas_needed,
    saved_by_nodes_w,
)
from steppe.control.sleep_ladder import SleepDepth, SleepLadder
from steppe.control.state import Observation, ReplicaObservation, ReplicaState

EVERY_S = 2.0
"""Least time between two looks at the need, s."""
FORECAST_EVERY_S = 30.0
"""Least time between two looks at the forecast, s."""
RESTORE_AFTER_S = 10.0
"""How long more replicas must have been needed before one comes back, s: a gust that is shorter
than a wake gains nothing."""

LOST = frozenset({ReplicaState.GONE, ReplicaState.QUARANTINED})
"""States of replicas that have no depth."""


@dataclass(frozen=True, slots=True)
class DepthMemory:
    """What the stage keeps between ticks.

    Attributes:
        began_s: Time of the first look, s; None before it.
        looked_s: Time of the last look, s.
        needed: Times, s, and numbers of replicas that were needed then. Only those that can still
            be the maximum of a rung's time are kept, the largest number first.
        short_since_s: Since when more are needed than are there, s; None if they are not.
        short_least: The least number that was needed since then.
        ahead: The need by the forecast; None without one.
    """

    began_s: float | None = None
    looked_s: float = 0.0
    needed: tuple[tuple[float, int], ...] = ()
    short_since_s: float | None = None
    short_least: int = 0
    ahead: NeedAhead | None = None


@dataclass(frozen=True, slots=True)
class DepthPlan:
    """Which replicas change their depth.

    Attributes:
        deepen: Replicas that go deeper, each with its depth.
        restore: Replicas that come back.
    """

    deepen: tuple[tuple[str, SleepDepth], ...] = ()
    restore: tuple[str, ...] = ()


NO_CHANGE = DepthPlan()


def choose_depths(
    observation: Observation, memory: DepthMemory, settings: DepthSettings | None
) -> tuple[DepthPlan, DepthMemory]:
    """Return which replicas change their depth of sleep.

    Args:
        observation: The fleet, the deep replicas included.
        memory: What was kept at the last tick.
        settings: The pool; None if it has no depth below a pause.
    """
    if settings is None:
        return NO_CHANGE, memory
    now_s = observation.now_s
    if memory.began_s is not None and now_s - memory.looked_s < EVERY_S:
        return NO_CHANGE, memory
    needed = replicas_needed(observation, settings)
    memory = _remember(memory, now_s, needed, settings.ladder)
    if memory.ahead is None or now_s - memory.ahead.from_s >= FORECAST_EVERY_S:
        memory = replace(memory, ahead=need_ahead(observation, settings))
    if memory.ahead is not None:
        needed = max(needed, memory.ahead.at(now_s + _next_wake_s(observation, settings.ladder)))
    there = sum(not r.is_deep and r.state not in LOST for r in observation.replicas)
    if needed <= there:
        memory = replace(memory, short_since_s=None)
        return DepthPlan(deepen=_deepen(observation, memory, settings.ladder)), memory
    least = needed if memory.short_since_s is None else min(memory.short_least, needed)
    since_s = now_s if memory.short_since_s is None else memory.short_since_s
    memory = replace(memory, short_since_s=since_s, short_least=least)
    if now_s - since_s < RESTORE_AFTER_S:
        return NO_CHANGE, memory
    return DepthPlan(restore=_restore(observation, least - there)), memory


def without_deep(
    observation: Observation, changes: DepthPlan, settings: DepthSettings | None
) -> Observation:
    """Return what the other stages see: no deep replicas, and a budget and draw without theirs.

    A replica that comes back draws that of a wake from now on, and its node is on.
    """
    if settings is None:
        return observation
    ladder, leaving = settings.ladder, {replica for replica, _ in changes.deepen}
    others = [r for r in observation.replicas if r.is_deep or r.id in leaving]
    if not others:
        return observation
    drawn_w = sum(_drawn_w(replica, ladder) for replica in others)
    restored = set(changes.restore)
    planned_w = sum(ladder.waking_w if r.id in restored else _drawn_w(r, ladder) for r in others)
    nodes_on = {r.node or r.id for r in others if r.id in restored}
    coming_on = (r for r in others if (r.node or r.id) in nodes_on)
    planned_w += saved_by_nodes_w(coming_on, ladder)
    return replace(
        observation,
        replicas=tuple(r for r in observation.replicas if not r.is_deep and r.id not in leaving),
        gpu_budget_w=max(0.0, observation.gpu_budget_w - planned_w),
        draw_w=None if observation.draw_w is None else max(0.0, observation.draw_w - drawn_w),
    )


def _drawn_w(replica: ReplicaObservation, ladder: SleepLadder) -> float:
    return replica.deep_w if replica.is_deep else ladder.paused_w


def _remember(memory: DepthMemory, now_s: float, needed: int, ladder: SleepLadder) -> DepthMemory:
    longest_s = max((s for s in ladder.pays_after_s if s < float("inf")), default=0.0)
    recent = [pair for pair in memory.needed if now_s - pair[0] <= longest_s and pair[1] > needed]
    began_s = now_s if memory.began_s is None else memory.began_s
    return replace(memory, began_s=began_s, looked_s=now_s, needed=(*recent, (now_s, needed)))


def _deepen(
    observation: Observation, memory: DepthMemory, ladder: SleepLadder
) -> tuple[tuple[str, SleepDepth], ...]:
    """Return the replicas that go deeper, the deepest rung first."""
    fleet = [r for r in observation.replicas if r.state not in LOST]
    chosen: dict[str, SleepDepth] = {}
    for rung, after_s in reversed(tuple(zip(ladder.rungs, ladder.pays_after_s, strict=True))):
        needed = _most_needed(observation.now_s, memory, after_s)
        if needed is None:
            continue
        is_there = sum(r.is_deep and r.depth.rank >= rung.depth.rank for r in fleet) + len(chosen)
        more = len(fleet) - needed - is_there
        free = [r for r in fleet if r.id not in chosen and _may_deepen(r, rung.depth)]
        for replica in _first(fleet, free, more, rung.depth):
            chosen[replica.id] = rung.depth
    return tuple(chosen.items())


def _most_needed(now_s: float, memory: DepthMemory, after_s: float) -> int | None:
    """Return the most that are needed in the time in which a rung pays; None if not known yet."""
    assert memory.began_s is not None, "the need is remembered first"
    if memory.ahead is not None and math.isfinite(after_s):
        return max(memory.needed[-1][1], memory.ahead.most(now_s, after_s))
    if now_s - memory.began_s < after_s:
        return None
    return max(needed for at_s, needed in memory.needed if now_s - at_s <= after_s)


def _next_wake_s(observation: Observation, ladder: SleepLadder) -> float:
    """Return how long the replica takes to wake that would come back next, s; 0 if none sleeps."""
    deep = [r.depth for r in observation.replicas if r.is_deep]
    return ladder.by_depth[min(deep, key=lambda depth: depth.rank)].wake_s if deep else 0.0


def _may_deepen(replica: ReplicaObservation, depth: SleepDepth) -> bool:
    """Return whether a replica may go to a depth: it sleeps, less deep, and has no requests."""
    sleeps = replica.state == ReplicaState.ASLEEP and not replica.outstanding
    return replica.has_drained or (sleeps and replica.depth.rank < depth.rank)


def _first(
    fleet: Sequence[ReplicaObservation],
    free: Sequence[ReplicaObservation],
    most: int,
    depth: SleepDepth,
) -> list[ReplicaObservation]:
    """Return up to `most` of the free replicas: those of one node together, for a node to be off.

    A node is switched off as a whole, so for that depth all its replicas must be free.
    """
    if most <= 0:
        return []
    of_node = Counter(r.node or r.id for r in fleet)
    by_node: defaultdict[str, list[ReplicaObservation]] = defaultdict(list)
    for replica in free:
        by_node[replica.node or replica.id].append(replica)
    found: list[ReplicaObservation] = []
    for node in sorted(by_node, key=lambda n: (len(by_node[n]) - of_node[n], n)):
        replicas = sorted(by_node[node], key=lambda r: (-r.depth.rank, r.since_s))
        if depth is SleepDepth.OFF and len(replicas) < of_node[node]:
            continue
        if depth is SleepDepth.OFF and len(found) + len(replicas) > most:
            continue
        found.extend(replicas[: most - len(found)])
    return found


def _restore(observation: Observation, most: int) -> tuple[str, ...]:
    """Return up to `most` deep replicas, the shallowest first."""
    deep = [r for r in observation.replicas if r.is_deep]
    return tuple(r.id for r in _shallowest(deep)[:most])


def _shallowest(deep: Iterable[ReplicaObservation]) -> list[ReplicaObservation]:
    return sorted(deep, key=lambda r: (r.depth.rank, r.node, -r.since_s))
