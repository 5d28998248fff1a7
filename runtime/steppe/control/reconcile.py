"""From the observed fleet to the planned one: the actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from steppe.control.plan import Plan
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.roofline.point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Start:
    """Start a replica that is gone, or that sleeps deeper than a pause."""

    replica: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Bring a sleeping replica back, at these limits.

    `output_tps` is the speed of its operating point, output tokens/s, by which it gets requests.
    """

    replica: str
    clock_mhz: int
    batch_limit: int
    tokens_per_step: int = 0
    output_tps: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Drain:
    """Route nothing more to a replica and let it finish at these limits; a frozen one wakes."""

    replica: str
    clock_mhz: int
    batch_limit: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """Freeze a replica, with its clock at the lowest."""

    replica: str


@dataclass(frozen=True, slots=True)
class Deepen:
    """Put a paused replica without requests, or one in a shallower sleep, to a deeper sleep."""

    replica: str
    depth: SleepDepth


@dataclass(frozen=True, slots=True)
class Move:
    """Unload the model of a drained or paused replica, and load that of another pool."""

    replica: str
    pool: str


@dataclass(frozen=True, slots=True)
class Retune:
    """Change the limits of an awake replica; a draining one serves again.

    The batch limit binds running requests only if `holds`. `output_tps` is as that of `Wake`.
    """

    replica: str
    clock_mhz: int
    batch_limit: int
    holds: bool = True
    tokens_per_step: int = 0
    output_tps: float = field(default=0.0, compare=False)


Action = Start | Wake | Drain | Sleep | Deepen | Retune | Move


LEAST_ROTATION_S = 30.0
"""Least time that a replica serves where frozen replicas rotate, s: each change costs a wake, and a
step or two before tokens come."""


@dataclass(frozen=True, slots=True)
class DrainRule:
    """How a replica leaves.

    Attributes:
        point: Limits of a draining replica.
        longest_s: How long it may finish its requests while other requests wait for the watts, s;
            then it is frozen. While none waits it may finish.
    """

    point: OperatingPoint
    longest_s: float

    @property
    def rotation_s(self) -> float:
        """How long a replica serves, or drains after a wake, where frozen ones rotate, s."""
        return max(self.longest_s, LEAST_ROTATION_S)


def reconcile(observation: Observation, plan: Plan, rule: DrainRule) -> list[Action]:
    """Return the actions that lead from the observed fleet to the planned one.

    Actions that lower the draw come first: sleeps, drains, then retunes from the largest cut to
    the largest rise, then wakes and starts. Once the plan holds, there are none.

    A replica that leaves with requests drains if the plan has room for it; otherwise it is frozen
    at once. If the plan has room for more, the replicas that are frozen longest finish their
    requests; the requests of the others continue when they wake. A replica still draws in the step
    in which it is frozen, so for each one a wake or a rise is postponed to the next tick. A lost
    replica starts only if the budget covers an all-asleep fleet, because starting draws power
    outside the plan.
    """
    observation, moves = _without_moving(_without_deep(observation, plan), plan, rule)
    ranked = _rank(observation, rule, _next_in_rotation(observation, plan, rule))
    serving, leaving = ranked[: len(plan.awake)], ranked[len(plan.awake) :]
    leaves, finishing = _leave(observation, leaving, rule, plan.draining)
    cuts, rises, wakes = _serve(serving, plan)
    busy = {r.id for r in leaving if r.outstanding and r.state != ReplicaState.ASLEEP}
    freezing = sum(isinstance(action, Sleep) and action.replica in busy for action in leaves)
    gone = [r.id for r in observation.replicas if r.state == ReplicaState.GONE and plan.feasible]
    rising = max(0, len(rises) - freezing)
    deeper = [Deepen(replica, depth) for replica, depth in plan.deepen]
    starts = map(Start, [*gone, *plan.restore])
    return [
        *moves,
        *leaves,
        *deeper,
        *cuts,
        *rises[:rising],
        *[*finishing, *wakes][freezing:],
        *starts,
    ]


def _without_deep(observation: Observation, plan: Plan) -> Observation:
    """Return the observation without the replicas that sleep deeper than a pause, or are to."""
    leaving = {replica for replica, _ in plan.deepen}
    if not leaving and not any(r.is_deep for r in observation.replicas):
        return observation
    moving = dict(plan.moves)
    others = (
        r for r in observation.replicas if (not r.is_deep and r.id not in leaving) or r.id in moving
    )
    return replace(observation, replicas=tuple(others))


def _without_moving(
    observation: Observation, plan: Plan, rule: DrainRule
) -> tuple[Observation, list[Action]]:
    """Return the observation without the replicas that leave the pool, and their actions."""
    targets = dict(plan.moves)
    leaving = [r for r in observation.replicas if r.id in targets]
    if not leaving:
        return observation, []
    actions: list[Action] = []
    for replica in leaving:
        if replica.state == ReplicaState.AWAKE:
            actions.append(_drain(replica, rule))
        elif not replica.outstanding:
            actions.append(Move(replica.id, targets[replica.id]))
    others = tuple(r for r in observation.replicas if r.id not in targets)
    return replace(observation, replicas=others), actions


def _next_in_rotation(observation: Observation, plan: Plan, rule: DrainRule) -> str | None:
    """Return the replica that is frozen with requests longest, if a rotation is due.

    None is due while the plan has room to drain, nor in a tick in which draining replicas serve
    again: one of them would be frozen for it.
    """
    more_serve = len(plan.awake) > observation.count(ReplicaState.AWAKE)
    if plan.draining or (more_serve and observation.count(ReplicaState.DRAINING)):
        return None
    due_s = observation.now_s - rule.rotation_s
    starved = [
        r
        for r in observation.replicas
        if r.state == ReplicaState.ASLEEP and r.outstanding and r.since_s <= due_s
    ]
    return min(starved, key=lambda r: r.since_s).id if starved else None


def _rank(
    observation: Observation, rule: DrainRule, next_one: str | None
) -> list[ReplicaObservation]:
    """Return the replicas that can serve, or serve again, in the order of preference.

    No request stays inside a sleeping replica for ever: on scarce power replicas rotate. The next
    in rotation comes before all that have served for `rotation_s`; one at a time, because every
    change costs a wake. A replica without requests comes after those that have some; a draining
    one serves again before another wakes. Among equals, the one whose prefix cache is worth more
    comes first: it stays awake, or wakes.
    """
    order = {ReplicaState.AWAKE: 0, ReplicaState.DRAINING: 1, ReplicaState.ASLEEP: 2}
    due_s = observation.now_s - rule.rotation_s

    def rank(replica: ReplicaObservation) -> tuple[bool, bool, bool, int, int, float]:
        idles = not replica.outstanding
        is_new = replica.state == ReplicaState.AWAKE and replica.since_s > due_s
        return (
            idles or not is_new,
            replica.id != next_one,
            idles,
            order[replica.state],
            -replica.outstanding,
            -replica.cache_worth,
        )

    return sorted((r for r in observation.replicas if r.state in order), key=rank)


def _leave(
    observation: Observation, leaving: Sequence[ReplicaObservation], rule: DrainRule, may_drain: int
) -> tuple[list[Action], list[Action]]:
    """Return the actions for leaving replicas, and those that let frozen ones finish."""
    sleeps: list[Action] = []
    drains: list[Action] = []
    for replica in sorted(leaving, key=lambda r: r.state != ReplicaState.DRAINING):
        longest_s = rule.rotation_s if replica.woke_to_drain else rule.longest_s
        expired = observation.work_waits and observation.now_s - replica.since_s >= longest_s
        draining = replica.state == ReplicaState.DRAINING
        if replica.state == ReplicaState.ASLEEP:
            continue
        if not replica.outstanding or may_drain <= 0:
            sleeps.append(Sleep(replica.id))
            continue
        may_drain -= 1  # even if its time is over: no other replica gets its room
        if draining and expired:
            sleeps.append(Sleep(replica.id))
        elif not draining:
            drains.append(_drain(replica, rule))
    frozen = [r for r in leaving if r.state == ReplicaState.ASLEEP and r.outstanding]
    frozen.sort(key=lambda r: r.since_s)
    return sleeps + drains, [_drain(replica, rule) for replica in frozen[: max(0, may_drain)]]


def _drain(replica: ReplicaObservation, rule: DrainRule) -> Drain:
    return Drain(replica.id, rule.point.clock_mhz, rule.point.batch_limit)


def _serve(
    serving: list[ReplicaObservation], plan: Plan
) -> tuple[list[Action], list[Action], list[Action]]:
    """Return cuts and rises of serving replicas, and wakes of others."""
    tokens = plan.learned.tokens_per_step
    retunes: list[tuple[tuple[int, int], Action]] = []
    wakes: list[Action] = []
    for replica, point in _moves(serving, plan.awake, tokens):
        if replica.state == ReplicaState.ASLEEP:
            limits = (point.clock_mhz, point.batch_limit)
            wakes.append(Wake(replica.id, *limits, tokens, point.output_tps))
            continue
        change = (point.clock_mhz - replica.clock_mhz, point.batch_limit - replica.batch_limit)
        limits = (point.clock_mhz, point.batch_limit)
        retune = Retune(replica.id, *limits, plan.holds, tokens, point.output_tps)
        retunes.append((change, retune))
    retunes.sort(key=lambda pair: pair[0])
    cuts = [action for change, action in retunes if change < (0, 0)]
    rises = [action for change, action in retunes if change >= (0, 0)]
    return cuts, rises, wakes


def _moves(
    serving: list[ReplicaObservation], points: tuple[OperatingPoint, ...], tokens: int
) -> list[tuple[ReplicaObservation, OperatingPoint]]:
    """Pair replicas with points: unchanged ones stay, then the larger points to the larger."""
    free = Counter((point.clock_mhz, point.batch_limit) for point in points)
    moving: list[ReplicaObservation] = []
    for replica in sorted(serving, key=_by_size):
        limits = (replica.clock_mhz, replica.batch_limit)
        is_set = replica.state == ReplicaState.AWAKE and replica.tokens_per_step == tokens
        if is_set and free[limits] > 0:
            free[limits] -= 1
        else:
            moving.append(replica)
    left: list[OperatingPoint] = []
    for point in sorted(points, key=lambda p: (-p.clock_mhz, -p.batch_limit)):
        limits = (point.clock_mhz, point.batch_limit)
        if free[limits] > 0:
            free[limits] -= 1
            left.append(point)
    return list(zip(moving, left, strict=True))


def _by_size(replica: ReplicaObservation) -> tuple[int, int, int, str]:
    """Order by clock and batch limit, then by requests, the largest first."""
    return -replica.clock_mhz, -replica.batch_limit, -replica.outstanding, replica.id
