"""A day ahead: how many replicas to keep warm, when to charge, when deferrable work may run.

A linear program over the steps of a forecast. In each step some replicas are awake, and these
stand somewhere on the hull of their points, from idle up:

    balance    draw + charge <= supply + discharge + short
    draw       N asleep_w + awake (idle_w - asleep_w) + watts of each edge that is bought
    edges      bought of each edge <= awake
    tokens     firm + deferred <= output of each edge that is bought
    store      stored' = stored + charge_eff charge dt - discharge dt / discharge_eff
    waking     woken >= awake' - awake
    backlog    backlog' = backlog + tokens that come - deferred dt - late
    deadlines  backlog <= tokens that have come and are not due

It maximises the worth of firm tokens, of deferrable ones within their time and of what is
stored at the end, less joules drawn, joules of waking, and, far above all, joules that are
short. Sleeping pays in it exactly when it lasts longer than wake_j / (idle_w - asleep_w).
Only the first step is used; it is solved anew with each forecast. HiGHS solves it, through
`scipy.optimize.linprog`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog

from steppe.control.horizon.inputs import HorizonInputs, HorizonPlan, HorizonTerms
from steppe.control.horizon.linear_rows import Floats, Indices, Rows
from steppe.errors import InfeasibleError
from steppe.frontier.group import HullEdge, ReplicaChoices, replica_choices

DEFERRABLE_VALUE = 0.2
"""Worth of a token that may wait; one that somebody waits for is worth 1."""
JOULE_SHARE = 0.01
"""Price of the joules of a token at the best point, in tokens."""
SHORT_FACTOR = 10.0
"""Price of a joule that is short, in what a joule buys at the best point."""
STORED_SHARE = 0.5
"""Worth of a joule stored at the end, share of the deferrable tokens that it buys."""
MOST_EDGES = 3
SOONER_SHARE = 0.05
"""What a token, or a joule that is short, loses in weight by the end of the horizon: a forecast may
be wrong, and what is as good later as now would be put off at each look."""
AWAKE, WOKEN, FIRM, DEFERRED, BACKLOG, LATE, CHARGE, DISCHARGE, STORED, SHORT, EDGE_0 = range(11)


def plan_horizon(terms: HorizonTerms, ahead: HorizonInputs) -> HorizonPlan:
    """Return the best plan for what is expected.

    Raises:
        InfeasibleError: The solver found none; there always is one, so its numbers were at fault.
    """
    program = _Program.of(terms, ahead)
    below, equal = program.below(), program.equal()
    found = linprog(
        -program.worth(),
        A_ub=below.matrix,
        b_ub=below.right,
        A_eq=equal.matrix,
        b_eq=equal.right,
        bounds=np.stack([np.zeros(program.count), program.most()], axis=1),
        method="highs",
    )
    if found.x is None:
        raise InfeasibleError(f"asked for a plan of the horizon, found none: {found.message}")
    return program.plan(np.maximum(found.x, 0.0))


@dataclass(frozen=True, slots=True)
class _Program:
    """The linear program: one column for each unknown of each step.

    Attributes:
        terms: What does not change.
        ahead: What is expected.
        rungs: Where an awake replica may stand, from idle up.
        edges: The hull of its points, in few edges.
    """

    terms: HorizonTerms
    ahead: HorizonInputs
    rungs: ReplicaChoices
    edges: tuple[HullEdge, ...]

    @classmethod
    def of(cls, terms: HorizonTerms, ahead: HorizonInputs) -> _Program:
        from_idle = replace(terms.frontier, asleep_w=terms.frontier.idle_w)
        rungs = replica_choices(from_idle, with_sleep=True)
        return cls(terms, ahead, rungs, _few(rungs.edges))

    @property
    def steps(self) -> int:
        return len(self.ahead.supply_w)

    @property
    def count(self) -> int:
        return (EDGE_0 + len(self.edges)) * self.steps

    @property
    def idle_w(self) -> float:
        """Draw of an awake replica without work beyond that of one asleep, W."""
        return float(self.rungs.draws_w[0]) - self.terms.frontier.asleep_w

    def of_each(self, unknown: int) -> Indices:
        """Return the columns of an unknown, one for each step."""
        return np.arange(self.steps) + unknown * self.steps

    def bought(self) -> list[tuple[Indices, HullEdge]]:
        """Return the columns of what is bought of each edge."""
        return [(self.of_each(EDGE_0 + number), edge) for number, edge in enumerate(self.edges)]

    def below(self) -> Rows:
        """Return the rows that bound: balance, edges, tokens, waking."""
        rows, of, bought = Rows(self.count), self.of_each, self.bought()
        asleep_w = self.terms.replicas * self.terms.frontier.asleep_w
        draws = [(of(AWAKE), self.idle_w), *((columns, e.draw_w) for columns, e in bought)]
        exchange = [(of(CHARGE), 1.0), (of(DISCHARGE), -1.0), (of(SHORT), -1.0)]
        rows.add([*draws, *exchange], np.array(self.ahead.supply_w) - asleep_w)
        for columns, _ in bought:
            rows.add([(columns, 1.0), (of(AWAKE), -1.0)], 0.0)
        gives = [(of(AWAKE), -float(self.rungs.outputs_tps[0]))]
        gives += [(columns, -edge.output_tps) for columns, edge in bought]
        rows.add([(of(FIRM), 1.0), (of(DEFERRED), 1.0), *gives], 0.0)
        awake, woken = of(AWAKE), of(WOKEN)
        rows.add([(awake[:1], 1.0), (woken[:1], -1.0)], float(self.ahead.awake))
        rows.add([(awake[1:], 1.0), (awake[:-1], -1.0), (woken[1:], -1.0)], 0.0)
        return rows

    def equal(self) -> Rows:
        """Return the rows that equal: what the battery holds, and what may wait, after a step."""
        rows, of, battery = Rows(self.count), self.of_each, self.terms.battery
        begun_j = min(self.ahead.stored_j, battery.capacity_j)
        taken = [
            (of(CHARGE), -battery.charge_efficiency * self.terms.step_s),
            (of(DISCHARGE), self.terms.step_s / battery.discharge_efficiency),
        ]
        stored = of(STORED)
        rows.add([(stored[:1], 1.0), *((columns[:1], f) for columns, f in taken)], begun_j)
        later = [(columns[1:], f) for columns, f in taken]
        rows.add([(stored[1:], 1.0), (stored[:-1], -1.0), *later], 0.0)
        backlog, come = (
            of(BACKLOG),
            self._tokens_of_each([one.from_step for one in self.ahead.work]),
        )
        left = [(backlog, 1.0), (of(DEFERRED), self.terms.step_s), (of(LATE), 1.0)]
        rows.add([(columns[:1], f) for columns, f in left], come[:1])
        rows.add([*((columns[1:], f) for columns, f in left), (backlog[:-1], -1.0)], come[1:])
        return rows

    def _tokens_of_each(self, steps: Sequence[int]) -> Floats:
        """Return the tokens of all work in each step, where each work is in one of `steps`."""
        tokens = np.zeros(self.steps)
        for step, one in zip(steps, self.ahead.work, strict=True):
            if step < self.steps:
                tokens[step] += one.tokens
        return tokens

    def worth(self) -> Floats:
        """Return what one of each unknown is worth, in tokens that somebody waits for."""
        dt_s, full = self.terms.step_s, self.terms.frontier.full
        per_j = max((edge.output_tps / edge.draw_w for edge in self.edges), default=0.0)
        per_j = max(per_j, 1 / full.joules_per_token)
        price = JOULE_SHARE * per_j
        worth = np.zeros(self.count)
        sooner = np.linspace(1.0, 1.0 - SOONER_SHARE, self.steps)
        worth[self.of_each(FIRM)] = dt_s * sooner
        worth[self.of_each(DEFERRED)] = DEFERRABLE_VALUE * dt_s * sooner
        worth[self.of_each(AWAKE)] = -price * dt_s * self.idle_w
        worth[self.of_each(WOKEN)] = -price * self.terms.wake_j
        for columns, edge in self.bought():
            worth[columns] = -price * dt_s * edge.draw_w
        worth[self.of_each(SHORT)] = -SHORT_FACTOR * per_j * dt_s * sooner
        worth[self.of_each(STORED)[-1]] = STORED_SHARE * DEFERRABLE_VALUE * per_j
        worth[self.of_each(LATE)] = -DEFERRABLE_VALUE
        return worth

    def most(self) -> Floats:
        """Return the most of each unknown."""
        most, battery = np.full(self.count, np.inf), self.terms.battery
        most[self.of_each(AWAKE)] = self.terms.replicas
        most[self.of_each(FIRM)] = np.array(self.ahead.demand_tps)
        come = self._tokens_of_each([one.from_step for one in self.ahead.work])
        due = self._tokens_of_each([one.due_step for one in self.ahead.work])
        most[self.of_each(BACKLOG)] = np.maximum(0.0, np.cumsum(come - due))
        most[self.of_each(CHARGE)] = battery.max_charge_w
        most[self.of_each(DISCHARGE)] = battery.max_discharge_w
        most[self.of_each(STORED)] = battery.capacity_j
        return most

    def plan(self, values: Floats) -> HorizonPlan:
        """Return what the values of the unknowns mean."""

        def each(unknown: int) -> tuple[float, ...]:
            return tuple(values[self.of_each(unknown)].tolist())

        draw_w = values[self.of_each(AWAKE)] * self.idle_w
        for columns, edge in self.bought():
            draw_w = draw_w + values[columns] * edge.draw_w
        draw_w = draw_w + self.terms.replicas * self.terms.frontier.asleep_w
        return HorizonPlan(
            awake=each(AWAKE),
            firm_tps=each(FIRM),
            deferred_tps=each(DEFERRED),
            draw_w=tuple(draw_w.tolist()),
            charge_w=each(CHARGE),
            discharge_w=each(DISCHARGE),
            stored_j=each(STORED),
            short_w=each(SHORT),
            late_tokens=float(values[self.of_each(LATE)].sum()),
        )


def _few(edges: tuple[HullEdge, ...]) -> tuple[HullEdge, ...]:
    """Return the edges of the hull, the upper ones merged so that few are left."""
    first, rest = edges[:1], edges[1:]
    parts = np.array_split(np.arange(len(rest)), max(1, min(len(rest), MOST_EDGES - 1)))
    merged = [
        HullEdge(
            low=rest[part[0]].low,
            high=rest[part[-1]].high,
            draw_w=sum(rest[i].draw_w for i in part),
            output_tps=sum(rest[i].output_tps for i in part),
        )
        for part in parts
        if len(part)
    ]
    return (*first, *merged)
