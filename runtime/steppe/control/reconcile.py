"""Steps from the observed fleet to the planned one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.control.plan import Plan
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.roofline.point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Start:
    """Start a replica that is gone."""

    replica: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Bring a sleeping replica back, at these limits."""

    replica: str
    clock_mhz: int
    batch_limit: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Route nothing more to a replica and let it finish at these limits, a frozen one, too."""

    replica: str
    clock_mhz: int
    batch_limit: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """Freeze a replica, with its clock at the lowest."""

    replica: str


@dataclass(frozen=True, slots=True)
class Retune:
    """Change the limits of an awake replica; a draining one serves again."""

    replica: str
    clock_mhz: int
    batch_limit: int


Action = Start | Wake | Drain | Sleep | Retune


LEAST_TURN_S = 30.0
"""Where frozen replicas take turns, one serves for so long at least: each turn costs a wake, and a
step or two before tokens come, s."""


@dataclass(frozen=True, slots=True)
class DrainRule:
    """How a replica leaves.

    Attributes:
        point: Limits of a draining replica.
        longest_s: How long it may finish its requests before it is frozen while others wait
            for the watts, s; while nobody waits it may finish. One that woke to finish has a turn.
    """

    point: OperatingPoint
    longest_s: float

    @property
    def turn_s(self) -> float:
        """How long a replica serves, or finishes, where frozen ones take turns, s."""
        return max(self.longest_s, LEAST_TURN_S)


def reconcile(observation: Observation, plan: Plan, rule: DrainRule) -> list[Action]:
    """Return the actions that turn the observed fleet into the planned one.

    What lowers the draw comes first: sleeps, drains, then retunes from the largest cut to the
    largest rise, then wakes and starts. Once the plan holds, nothing is left to do.

    A replica that leaves with requests drains if the plan has room for it; otherwise it is
    frozen at once. Where the plan has room for more, those frozen longest finish their requests;
    the others' go on when they wake. The step in which a replica is frozen still draws, so nobody
    wakes in its place, and another rises less, before the next tick. Who is gone starts where the
    budget holds a sleeping fleet beside it: what starts draws, whatever is planned.
    """
    ranked = _rank(observation, rule, _next_turn(observation, plan, rule))
    serving, leaving = ranked[: len(plan.awake)], ranked[len(plan.awake) :]
    leaves, finishing = _leave(observation, leaving, rule, plan.draining)
    cuts, rises, wakes = _serve(serving, plan.awake)
    busy = {r.id for r in leaving if r.outstanding and r.state != ReplicaState.ASLEEP}
    freezing = sum(isinstance(action, Sleep) and action.replica in busy for action in leaves)
    gone = [r.id for r in observation.replicas if r.state == ReplicaState.GONE and plan.feasible]
    rising = max(0, len(rises) - freezing)
    return [*leaves, *cuts, *rises[:rising], *[*finishing, *wakes][freezing:], *map(Start, gone)]


def _next_turn(observation: Observation, plan: Plan, rule: DrainRule) -> str | None:
    """Return the replica whose turn it is, if any: frozen with requests longest, for a turn.

    Nobody takes a turn while there is room to finish without displacing anybody, nor in a tick
    that calls back replicas which drain: one of them would be frozen for it.
    """
    more_serve = len(plan.awake) > observation.count(ReplicaState.AWAKE)
    if plan.draining or (more_serve and observation.count(ReplicaState.DRAINING)):
        return None
    turned_s = observation.now_s - rule.turn_s
    starved = [
        r
        for r in observation.replicas
        if r.state == ReplicaState.ASLEEP and r.outstanding and r.since_s <= turned_s
    ]
    return min(starved, key=lambda r: r.since_s).id if starved else None


def _rank(
    observation: Observation, rule: DrainRule, next_one: str | None
) -> list[ReplicaObservation]:
    """Return the replicas that can serve, or serve again, those that should serve first.

    No request waits inside a sleeping replica for ever: on scarce power replicas take turns.
    The one whose turn it is comes before all that have had theirs; one at a time, for every
    change costs a wake. A replica that has nothing to do comes after those that have; one that
    drains serves again rather than that another wakes.
    """
    order = {ReplicaState.AWAKE: 0, ReplicaState.DRAINING: 1, ReplicaState.ASLEEP: 2}
    turned_s = observation.now_s - rule.turn_s

    def rank(replica: ReplicaObservation) -> tuple[bool, bool, bool, int, int]:
        idles = not replica.outstanding
        has_turn = replica.state == ReplicaState.AWAKE and replica.since_s > turned_s
        return (
            idles or not has_turn,
            replica.id != next_one,
            idles,
            order[replica.state],
            -replica.outstanding,
        )

    return sorted((r for r in observation.replicas if r.state in order), key=rank)


def _leave(
    observation: Observation, leaving: Sequence[ReplicaObservation], rule: DrainRule, may_drain: int
) -> tuple[list[Action], list[Action]]:
    """Return what takes replicas away, and what has frozen ones finish their requests."""
    sleeps: list[Action] = []
    drains: list[Action] = []
    for replica in sorted(leaving, key=lambda r: r.state != ReplicaState.DRAINING):
        longest_s = rule.turn_s if replica.is_finishing else rule.longest_s
        expired = observation.work_waits and observation.now_s - replica.since_s >= longest_s
        draining = replica.state == ReplicaState.DRAINING
        if replica.state == ReplicaState.ASLEEP:
            continue
        if not replica.outstanding or may_drain <= 0:
            sleeps.append(Sleep(replica.id))
            continue
        may_drain -= 1  # also where its time is over: the room that it had is no other's
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
    serving: list[ReplicaObservation], points: tuple[OperatingPoint, ...]
) -> tuple[list[Action], list[Action], list[Action]]:
    """Return what lowers and what raises replicas that serve, and what wakes others."""
    retunes: list[tuple[tuple[int, int], Action]] = []
    wakes: list[Action] = []
    for replica, point in _moves(serving, points):
        if replica.state == ReplicaState.ASLEEP:
            wakes.append(Wake(replica.id, point.clock_mhz, point.batch_limit))
            continue
        change = (point.clock_mhz - replica.clock_mhz, point.batch_limit - replica.batch_limit)
        retunes.append((change, Retune(replica.id, point.clock_mhz, point.batch_limit)))
    retunes.sort(key=lambda pair: pair[0])
    cuts = [action for change, action in retunes if change < (0, 0)]
    rises = [action for change, action in retunes if change >= (0, 0)]
    return cuts, rises, wakes


def _moves(
    serving: list[ReplicaObservation], points: tuple[OperatingPoint, ...]
) -> list[tuple[ReplicaObservation, OperatingPoint]]:
    """Pair replicas with points: whoever runs at one keeps it, then the larger to the larger."""
    places = Counter((point.clock_mhz, point.batch_limit) for point in points)
    moving: list[ReplicaObservation] = []
    for replica in sorted(serving, key=_by_size):
        limits = (replica.clock_mhz, replica.batch_limit)
        if replica.state == ReplicaState.AWAKE and places[limits] > 0:
            places[limits] -= 1
        else:
            moving.append(replica)
    left: list[OperatingPoint] = []
    for point in sorted(points, key=lambda p: (-p.clock_mhz, -p.batch_limit)):
        limits = (point.clock_mhz, point.batch_limit)
        if places[limits] > 0:
            places[limits] -= 1
            left.append(point)
    return list(zip(moving, left, strict=True))


def _by_size(replica: ReplicaObservation) -> tuple[int, int, int, str]:
    """Order by what a replica runs at, and then by what it holds, the largest first."""
    return -replica.clock_mhz, -replica.batch_limit, -replica.outstanding, replica.id
