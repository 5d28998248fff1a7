"""A day ahead: how many replicas to keep warm, when to charge, when deferrable work may run.

A linear program over the steps of a forecast. In each step some replicas are awake, and these
stand somewhere on the hull of their points, from idle up:

    balance    draw + charge <= supply + discharge + short
    draw       N asleep_w + awake (idle_w - asleep_w) + watts of each edge that is bought
    edges      bought of each edge <= awake
    tokens     firm + deferred <= output of each edge that is bought
    store      stored' = stored + charge_eff charge dt - discharge dt / discharge_eff
    waking     woken >= awake' - awake
    deadlines  tokens deferred so far + late >= tokens due

It maximises the worth of firm tokens, of deferrable ones within their time and of what is
stored at the end, less joules drawn, joules of waking, and, far above all, joules that are
short. Sleeping pays in it exactly when it lasts longer than wake_j / (idle_w - asleep_w).
Only the first step is used; it is solved anew with each forecast. HiGHS solves it, through
`scipy.optimize.linprog`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog

from steppe.control.linear_rows import Floats, Indices, Rows
from steppe.control.plan import AwakeBounds
from steppe.errors import InfeasibleError
from steppe.frontier.group import Edge, Ladder, ladder
from steppe.frontier.pareto import Frontier
from steppe.power.battery import NO_BATTERY, Battery

DEFERRABLE_VALUE = 0.2
"""Worth of a token that may wait; one that somebody waits for is worth 1."""
JOULE_SHARE = 0.01
"""Price of the joules of a token at the best point, in tokens."""
SHORT_FACTOR = 10.0
"""Price of a joule that is short, in what a joule buys at the best point."""
STORED_SHARE = 0.5
"""Worth of a joule stored at the end, share of the deferrable tokens that it buys."""
MOST_EDGES = 3
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class HorizonTerms:
    """What does not change from one look ahead to the next.

    Attributes:
        frontier: Operating points of one replica.
        replicas: How many there are.
        wake_j: Joules to put a replica to sleep and wake it, with what lost tokens are worth, J.
        step_s: Length of a step, s.
        battery: Between the supply and the GPUs, in watts of the GPUs.
    """

    frontier: Frontier
    replicas: int
    wake_j: float
    step_s: float
    battery: Battery = NO_BATTERY


@dataclass(frozen=True, slots=True)
class Deferrable:
    """Work that may wait until a step has ended.

    Attributes:
        due_step: Index of the last step in which it may run.
        tokens: Output tokens.
    """

    due_step: int
    tokens: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is expected, step by step, and what the fleet begins with.

    Attributes:
        supply_w: Watts for the GPUs without the battery, a lower quantile of the forecast, W.
        demand_tps: Output tokens per second that somebody waits for.
        work: What may wait.
        awake: Replicas awake now.
        stored_j: Energy in the battery now, J.
    """

    supply_w: Sequence[float]
    demand_tps: Sequence[float]
    work: tuple[Deferrable, ...] = ()
    awake: int = 0
    stored_j: float = 0.0


@dataclass(frozen=True, slots=True)
class HorizonPlan:
    """What to do in each step.

    Attributes:
        awake: Replicas awake; not whole numbers.
        firm_tps: Output tokens per second for those who wait.
        deferred_tps: Output tokens per second of work that may wait.
        draw_w: Draw of the GPUs, W.
        charge_w: What the battery takes, W.
        discharge_w: What it gives, W.
        stored_j: Energy in it at the end of the step, J.
        short_w: Watts that are missing, W.
        late_tokens: Deferrable tokens that miss their time.
    """

    awake: tuple[float, ...]
    firm_tps: tuple[float, ...]
    deferred_tps: tuple[float, ...]
    draw_w: tuple[float, ...]
    charge_w: tuple[float, ...]
    discharge_w: tuple[float, ...]
    stored_j: tuple[float, ...]
    short_w: tuple[float, ...]
    late_tokens: float

    @property
    def bounds(self) -> AwakeBounds:
        """How many replicas may be awake in the first step."""
        return AwakeBounds(
            math.floor(self.awake[0] + _ROUNDING), math.ceil(self.awake[0] - _ROUNDING)
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the unknowns of each step stand; the late tokens of each work come after them."""

    steps: int
    edges: int
    works: int

    def of(self, place: int) -> Indices:
        """Return one column for each step."""
        return np.arange(self.steps) + place * self.steps

    @property
    def late(self) -> Indices:
        """Columns of the late tokens, one for each work."""
        return np.arange(self.works) + (EDGE_0 + self.edges) * self.steps

    @property
    def count(self) -> int:
        """How many columns there are."""
        return (EDGE_0 + self.edges) * self.steps + self.works


AWAKE, WOKEN, FIRM, DEFERRED, CHARGE, DISCHARGE, STORED, SHORT, EDGE_0 = range(9)


def plan_horizon(terms: HorizonTerms, ahead: Ahead) -> HorizonPlan:
    """Return the best plan for what is expected.

    Raises:
        InfeasibleError: The solver found none; there always is one, so its numbers were at fault.
    """
    rungs = ladder(replace(terms.frontier, asleep_w=terms.frontier.idle_w), with_sleep=True)
    edges = _few(rungs)
    columns = Columns(len(ahead.supply_w), len(edges), len(ahead.work))
    below, equal = _rows(terms, ahead, rungs, edges, columns)
    found = linprog(
        -_worth(terms, ahead, rungs, edges, columns),
        A_ub=below.matrix,
        b_ub=below.right,
        A_eq=equal.matrix,
        b_eq=equal.right,
        bounds=np.stack([np.zeros(columns.count), _most(terms, ahead, columns)], axis=1),
        method="highs",
    )
    if found.x is None:
        raise InfeasibleError(f"asked for a plan of the horizon, found none: {found.message}")
    values = np.maximum(found.x, 0.0)

    def each(place: int) -> tuple[float, ...]:
        return tuple(values[columns.of(place)].tolist())

    draw_w = _draw(terms, rungs, edges, columns, values)
    return HorizonPlan(
        awake=each(AWAKE),
        firm_tps=each(FIRM),
        deferred_tps=each(DEFERRED),
        draw_w=tuple(draw_w.tolist()),
        charge_w=each(CHARGE),
        discharge_w=each(DISCHARGE),
        stored_j=each(STORED),
        short_w=each(SHORT),
        late_tokens=float(values[columns.late].sum()),
    )


def _few(rungs: Ladder) -> list[Edge]:
    """Return the edges of the hull, the upper ones merged so that few are left."""
    first, rest = rungs.edges[:1], rungs.edges[1:]
    parts = np.array_split(np.arange(len(rest)), min(len(rest), MOST_EDGES - 1) or 1)
    merged = [
        Edge(
            low=rest[part[0]].low,
            high=rest[part[-1]].high,
            draw_w=sum(rest[i].draw_w for i in part),
            output_tps=sum(rest[i].output_tps for i in part),
            slots=sum(rest[i].slots for i in part),
        )
        for part in parts
        if len(part)
    ]
    return [*first, *merged]


def _rows(
    terms: HorizonTerms, ahead: Ahead, rungs: Ladder, edges: list[Edge], columns: Columns
) -> tuple[Rows, Rows]:
    """Return the rows that bound, and those that equal."""
    below, equal, of = Rows(columns.count), Rows(columns.count), columns.of
    dt_s, battery, frontier = terms.step_s, terms.battery, terms.frontier
    bought = [of(EDGE_0 + i) for i in range(len(edges))]
    awake_w = float(rungs.draws_w[0]) - frontier.asleep_w
    draws = [(of(AWAKE), awake_w), *((b, e.draw_w) for b, e in zip(bought, edges, strict=True))]
    exchange = [(of(CHARGE), 1.0), (of(DISCHARGE), -1.0), (of(SHORT), -1.0)]
    room_w = np.array(ahead.supply_w) - terms.replicas * frontier.asleep_w
    below.add([*draws, *exchange], room_w)
    for b in bought:
        below.add([(b, 1.0), (of(AWAKE), -1.0)], 0.0)
    gives = [(b, -e.output_tps) for b, e in zip(bought, edges, strict=True)]
    least = (of(AWAKE), -float(rungs.gives_tps[0]))
    below.add([(of(FIRM), 1.0), (of(DEFERRED), 1.0), least, *gives], 0.0)
    before = np.zeros(columns.steps)
    before[0] = ahead.awake
    below.add([(of(AWAKE)[:1], 1.0), (of(WOKEN)[:1], -1.0)], before[:1])
    below.add([(of(AWAKE)[1:], 1.0), (of(AWAKE)[:-1], -1.0), (of(WOKEN)[1:], -1.0)], 0.0)
    taken = [
        (of(CHARGE), -battery.charge_efficiency * dt_s),
        (of(DISCHARGE), dt_s / battery.discharge_efficiency),
    ]
    first = [(c[:1], f) for c, f in taken]
    equal.add([(of(STORED)[:1], 1.0), *first], min(ahead.stored_j, battery.capacity_j))
    later = [(c[1:], f) for c, f in taken]
    equal.add([(of(STORED)[1:], 1.0), (of(STORED)[:-1], -1.0), *later], 0.0)
    _add_deadlines(below, ahead, columns, dt_s)
    return below, equal


def _add_deadlines(below: Rows, ahead: Ahead, columns: Columns, dt_s: float) -> None:
    """Add what is due by the end of each work's last step, and that no more is deferred."""
    whole = sum(work.tokens for work in ahead.work)
    deferred = columns.of(DEFERRED)
    below.add_sum(deferred, np.full(columns.steps, dt_s), whole)
    for number, work in enumerate(ahead.work):
        until = deferred[: work.due_step + 1]
        due = sum(w.tokens for w in ahead.work if w.due_step <= work.due_step)
        place = np.append(until, columns.late[number])
        below.add_sum(place, np.append(np.full(len(until), -dt_s), -1.0), -due)


def _worth(
    terms: HorizonTerms, ahead: Ahead, rungs: Ladder, edges: list[Edge], columns: Columns
) -> Floats:
    """Return what one of each unknown is worth, in tokens that somebody waits for."""
    best = rungs.edges[0] if rungs.edges else None
    frontier, dt_s = terms.frontier, terms.step_s
    per_j = 1 / frontier.full.joules_per_token if best is None else best.output_tps / best.draw_w
    price = JOULE_SHARE * per_j
    worth = np.zeros(columns.count)
    worth[columns.of(FIRM)] = dt_s
    worth[columns.of(DEFERRED)] = DEFERRABLE_VALUE * dt_s
    worth[columns.of(AWAKE)] = -price * dt_s * (float(rungs.draws_w[0]) - frontier.asleep_w)
    worth[columns.of(WOKEN)] = -price * terms.wake_j
    for number, edge in enumerate(edges):
        worth[columns.of(EDGE_0 + number)] = -price * dt_s * edge.draw_w
    worth[columns.of(SHORT)] = -SHORT_FACTOR * per_j * dt_s
    worth[columns.of(STORED)[-1]] = STORED_SHARE * DEFERRABLE_VALUE * per_j
    worth[columns.late] = -DEFERRABLE_VALUE
    return worth


def _most(terms: HorizonTerms, ahead: Ahead, columns: Columns) -> Floats:
    """Return the most of each unknown."""
    most = np.full(columns.count, np.inf)
    most[columns.of(AWAKE)] = terms.replicas
    most[columns.of(FIRM)] = np.array(ahead.demand_tps)
    most[columns.of(CHARGE)] = terms.battery.max_charge_w
    most[columns.of(DISCHARGE)] = terms.battery.max_discharge_w
    most[columns.of(STORED)] = terms.battery.capacity_j
    return most


def _draw(
    terms: HorizonTerms, rungs: Ladder, edges: list[Edge], columns: Columns, values: Floats
) -> Floats:
    """Return the draw of each step, W."""
    asleep_w = terms.frontier.asleep_w
    draw_w = values[columns.of(AWAKE)] * (float(rungs.draws_w[0]) - asleep_w)
    for number, edge in enumerate(edges):
        draw_w = draw_w + values[columns.of(EDGE_0 + number)] * edge.draw_w
    return draw_w + terms.replicas * asleep_w
