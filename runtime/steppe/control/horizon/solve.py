"""The plan of a day: when to charge the battery, and when deferrable work runs.

A linear program over the steps of a forecast. In each step some replicas are awake and run on the
convex hull of their operating points, from idle up:

    balance    draw + charge <= supply + discharge + short
    draw       N asleep_w + awake (idle_w - asleep_w) + watts of each edge that is used
    surplus    draw + charge <= surplus + discharge + bought
    edges      use of each edge <= awake
    tokens     firm + deferred <= output of each edge that is used
    store      stored' = stored + charge_eff charge dt - discharge dt / discharge_eff
    backlog    backlog' = backlog + tokens that arrive - deferred dt - late
    deadlines  backlog <= tokens that have arrived and are not due

It maximises the value of firm tokens, of deferrable ones within their time and of the energy stored
at the end, less the energy drawn, the price of energy that is no surplus and, far above all, energy
that is short. Where a surplus is known, a late token costs more than any energy. Only the first
step is used; each forecast is solved anew. HiGHS solves it, through `scipy.optimize.linprog`.
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
"""Value of a deferrable token; a firm one has the value 1."""
JOULE_SHARE = 0.01
"""Price of the energy of a token at the best point, in tokens."""
SHORT_FACTOR = 10.0
"""Price of a joule that is short, over the value of what a joule serves at the best point."""
STORED_SHARE = 0.5
"""Value of a joule stored at the end, share of that of the deferrable tokens it can serve."""
BOUGHT_SHARE = 1.5
"""Price of a joule that is no surplus, share of the value of the deferrable tokens that it serves
at the best point: none is bought for work that can wait."""
LATE_VALUE = 5.0
"""Value of a deferrable token in time, where a surplus is known: any energy is bought for it."""
MOST_EDGES = 3
SOONER_SHARE = 0.05
"""Share of its weight that a token, or a joule that is short, loses by the end of the horizon.
Forecasts may be wrong, and work that is as good later as now would be deferred by every plan."""
AWAKE, FIRM, DEFERRED, BACKLOG, LATE, CHARGE, DISCHARGE, STORED, SHORT, BOUGHT, EDGE_0 = range(11)


def plan_horizon(terms: HorizonTerms, inputs: HorizonInputs) -> HorizonPlan:
    """Return the best plan for what is expected.

    Raises:
        InfeasibleError: The solver found none. One always exists, so the numbers are at fault.
    """
    program = _Program.of(terms, inputs)
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
        inputs: What is expected.
        rungs: Operating points of an awake replica, from idle up.
        edges: The convex hull of these points, in a few edges.
    """

    terms: HorizonTerms
    inputs: HorizonInputs
    rungs: ReplicaChoices
    edges: tuple[HullEdge, ...]

    @classmethod
    def of(cls, terms: HorizonTerms, inputs: HorizonInputs) -> _Program:
        from_idle = replace(terms.frontier, asleep_w=terms.frontier.idle_w)
        rungs = replica_choices(from_idle, with_sleep=True)
        return cls(terms, inputs, rungs, _few(rungs.edges))

    @property
    def steps(self) -> int:
        return len(self.inputs.supply_w)

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

    def used(self) -> list[tuple[Indices, HullEdge]]:
        """Return the columns of how much of each edge is used."""
        return [(self.of_each(EDGE_0 + number), edge) for number, edge in enumerate(self.edges)]

    def below(self) -> Rows:
        """Return the inequalities: balance, edges, tokens."""
        rows, of, used = Rows(self.count), self.of_each, self.used()
        asleep_w = self.terms.replicas * self.terms.frontier.asleep_w
        draws = [(of(AWAKE), self.idle_w), *((columns, e.draw_w) for columns, e in used)]
        exchange = [(of(CHARGE), 1.0), (of(DISCHARGE), -1.0), (of(SHORT), -1.0)]
        rows.add([*draws, *exchange], np.array(self.inputs.supply_w) - asleep_w)
        if self.inputs.surplus_w is not None:
            bought = [(of(CHARGE), 1.0), (of(DISCHARGE), -1.0), (of(BOUGHT), -1.0)]
            rows.add([*draws, *bought], np.array(self.inputs.surplus_w) - asleep_w)
        for columns, _ in used:
            rows.add([(columns, 1.0), (of(AWAKE), -1.0)], 0.0)
        gives = [(of(AWAKE), -float(self.rungs.outputs_tps[0]))]
        gives += [(columns, -edge.output_tps) for columns, edge in used]
        rows.add([(of(FIRM), 1.0), (of(DEFERRED), 1.0), *gives], 0.0)
        return rows

    def equal(self) -> Rows:
        """Return the equalities: stored energy and backlog after each step."""
        rows, of, battery = Rows(self.count), self.of_each, self.terms.battery
        start_j = min(self.inputs.stored_j, battery.capacity_j)
        taken = [
            (of(CHARGE), -battery.charge_efficiency * self.terms.step_s),
            (of(DISCHARGE), self.terms.step_s / battery.discharge_efficiency),
        ]
        stored = of(STORED)
        rows.add([(stored[:1], 1.0), *((columns[:1], f) for columns, f in taken)], start_j)
        later = [(columns[1:], f) for columns, f in taken]
        rows.add([(stored[1:], 1.0), (stored[:-1], -1.0), *later], 0.0)
        backlog, come = (
            of(BACKLOG),
            self._tokens_of_each([one.from_step for one in self.inputs.work]),
        )
        left = [(backlog, 1.0), (of(DEFERRED), self.terms.step_s), (of(LATE), 1.0)]
        rows.add([(columns[:1], f) for columns, f in left], come[:1])
        rows.add([*((columns[1:], f) for columns, f in left), (backlog[:-1], -1.0)], come[1:])
        return rows

    def _tokens_of_each(self, steps: Sequence[int]) -> Floats:
        """Return the tokens of all work in each step; each work belongs to one of `steps`."""
        tokens = np.zeros(self.steps)
        for step, one in zip(steps, self.inputs.work, strict=True):
            if step < self.steps:
                tokens[step] += one.tokens
        return tokens

    def worth(self) -> Floats:
        """Return the value of one of each unknown, in firm tokens."""
        dt_s, full = self.terms.step_s, self.terms.frontier.full
        per_j = max((edge.output_tps / edge.draw_w for edge in self.edges), default=0.0)
        per_j = max(per_j, 1 / full.joules_per_token)
        price = JOULE_SHARE * per_j
        worth = np.zeros(self.count)
        sooner = np.linspace(1.0, 1.0 - SOONER_SHARE, self.steps)
        worth[self.of_each(FIRM)] = dt_s * sooner
        worth[self.of_each(DEFERRED)] = DEFERRABLE_VALUE * dt_s * sooner
        worth[self.of_each(AWAKE)] = -price * dt_s * self.idle_w
        for columns, edge in self.used():
            worth[columns] = -price * dt_s * edge.draw_w
        worth[self.of_each(SHORT)] = -SHORT_FACTOR * per_j * dt_s * sooner
        worth[self.of_each(STORED)[-1]] = STORED_SHARE * DEFERRABLE_VALUE * per_j
        worth[self.of_each(LATE)] = -DEFERRABLE_VALUE
        if self.inputs.surplus_w is not None:
            worth[self.of_each(BOUGHT)] = -BOUGHT_SHARE * DEFERRABLE_VALUE * per_j * dt_s
            worth[self.of_each(LATE)] = -LATE_VALUE
        return worth

    def most(self) -> Floats:
        """Return the upper bound of each unknown."""
        most, battery = np.full(self.count, np.inf), self.terms.battery
        most[self.of_each(AWAKE)] = self.terms.replicas
        most[self.of_each(FIRM)] = np.array(self.inputs.demand_tps)
        come = self._tokens_of_each([one.from_step for one in self.inputs.work])
        due = self._tokens_of_each([one.due_step for one in self.inputs.work])
        most[self.of_each(BACKLOG)] = np.maximum(0.0, np.cumsum(come - due))
        most[self.of_each(CHARGE)] = battery.max_charge_w
        most[self.of_each(DISCHARGE)] = battery.max_discharge_w
        most[self.of_each(STORED)] = battery.capacity_j
        return most

    def plan(self, values: Floats) -> HorizonPlan:
        """Return the plan that the values of the unknowns describe."""

        def each(unknown: int) -> tuple[float, ...]:
            return tuple(values[self.of_each(unknown)].tolist())

        draw_w = values[self.of_each(AWAKE)] * self.idle_w
        for columns, edge in self.used():
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
    """Return the edges of the hull; the upper ones are merged."""
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
