"""The plan of several sites: quotas between them for each model and class.

A linear program over the steps of the forecasts:

    firm        sent to each target + missed = expected, for each flow and step
    deferrable  backlog' = backlog + (expected - sent to each target) x step
    pools       sent to a pool <= use of its edges
    budget      base + watts of the edges that are used <= budget, a lower quantile
    grid        watts of the edges - grid <= renewable - base
    change      |sent in the first step - sent in the last plan| <= changed

It minimises the cost of grid energy with its carbon, of tokens that are moved, of quotas that
change, and the value of tokens that are missed. Own wind and sun cost nothing, so work goes there
first. Masks are not constraints: a flow has no column for a site that may not run it. HiGHS solves
it, through `scipy.optimize.linprog`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, diags_array

from steppe.control.horizon.linear_rows import Floats, Indices, Rows, Term
from steppe.errors import InfeasibleError, UsageError
from steppe.sites.plan.terms import Flow, PlanSite, PlanTerms, SitesPlan, Way
from steppe.sites.plan.ways import ways_of

LEAST_TPS = 1e-6
"""A quota below this is none, output tokens per second."""


def plan_sites(
    sites: Sequence[PlanSite],
    flows: Sequence[Flow],
    rtt_s: Mapping[tuple[str, str], float],
    terms: PlanTerms,
    last: Mapping[Way, float] | None = None,
) -> SitesPlan:
    """Return the best quotas for what is expected.

    Args:
        sites: All sites.
        flows: What is expected to come to them.
        rtt_s: Round trips by origin and target, s.
        terms: What tokens are worth and moves cost.
        last: Quotas of the last plan; None for the first one, whose quotas cost nothing.

    Raises:
        UsageError: Series have other lengths, or a flow comes to an unknown site.
    """
    _check(sites, flows)
    program = _Program(sites, flows, ways_of(flows, sites, rtt_s, terms), terms, last)
    return program.plan(_solve(program))


def _check(sites: Sequence[PlanSite], flows: Sequence[Flow]) -> None:
    """Raise UsageError for input that does not fit together."""
    steps = sites[0].steps if sites else 0
    if not steps:
        raise UsageError(f"asked for sites and steps, found {len(sites)} sites of {steps} steps")
    series = [
        (f"{name} of {site.name}", len(values))
        for site in sites
        for name, values in (
            ("budget_w", site.budget_w),
            ("renewable_w", site.renewable_w),
            ("grid_cost", site.grid_cost),
        )
    ]
    series += [(f"{flow.priority} flow of {flow.origin}", len(flow.output_tps)) for flow in flows]
    for name, length in series:
        if length != steps:
            raise UsageError(f"asked for {steps} steps of {name}, found {length}")
    names = {site.name for site in sites}
    for flow in flows:
        if flow.origin not in names:
            raise UsageError(f"asked for a flow of a known site, found {flow.origin}")


def _solve(program: _Program) -> Floats:
    """Return the values of the unknowns.

    The solver's tolerances are absolute, so columns, rows and costs are scaled to about 1.
    """
    scale = program.scale()
    cost = program.cost() * scale
    left_below, right_below = _scaled(program.below(), scale)
    left_equal, right_equal = _scaled(program.equal(), scale)
    found = linprog(
        cost / max(float(np.abs(cost).max(initial=0.0)), 1e-300),
        A_ub=left_below,
        b_ub=right_below,
        A_eq=left_equal,
        b_eq=right_equal,
        bounds=np.stack([np.zeros(program.count), program.most() / scale], axis=1),
        method="highs-ipm",  # at 100 sites: a third of the time of the simplex method
    )
    if found.x is None:
        raise InfeasibleError(f"asked for a plan of the sites, found none: {found.message}")
    values: Floats = np.maximum(found.x, 0.0) * scale
    return values


def _scaled(rows: Rows, scale: Floats) -> tuple[csr_array, Floats]:
    """Return the left and right sides with scaled columns, the largest coefficient of a row 1."""
    left = csr_array(rows.matrix @ diags_array(scale))
    largest = abs(left).max(axis=1).toarray().ravel()
    largest[largest == 0.0] = 1.0
    return csr_array(diags_array(1 / largest) @ left), rows.right / largest


@dataclass(frozen=True)
class _Program:
    """The linear program: columns of all steps beside each other, one block for each unknown.

    Blocks: what is sent on each way; what each flow misses (or, deferrable, its backlog); the used
    share of each edge; the grid power of each site; and one column for the change of each way.

    Attributes:
        sites: All sites.
        flows: What is expected.
        ways: The targets of each flow.
        terms: What tokens are worth and moves cost.
        last: Quotas of the last plan.
    """

    sites: Sequence[PlanSite]
    flows: Sequence[Flow]
    ways: Sequence[tuple[Way, ...]]
    terms: PlanTerms
    last: Mapping[Way, float] | None

    @cached_property
    def steps(self) -> int:
        return self.sites[0].steps

    @cached_property
    def sent(self) -> list[list[int]]:
        """The block of each way of each flow."""
        counts = np.cumsum([0, *(len(ways) for ways in self.ways)]).tolist()
        return [list(range(first, end)) for first, end in itertools.pairwise(counts)]

    @cached_property
    def blocks_of(self) -> dict[Way, list[int]]:
        """The blocks of each way between two sites: flows of one class may differ in regions."""
        found: dict[Way, list[int]] = {}
        for block, way in enumerate(way for ways in self.ways for way in ways):
            if way.site != way.origin:
                found.setdefault(way, []).append(block)
        return found

    @cached_property
    def blocks_to(self) -> dict[tuple[str, str], list[int]]:
        """The blocks of all ways to each site and model."""
        found: dict[tuple[str, str], list[int]] = {}
        for block, way in enumerate(way for ways in self.ways for way in ways):
            found.setdefault((way.site, way.model), []).append(block)
        return found

    @cached_property
    def way_count(self) -> int:
        return sum(len(ways) for ways in self.ways)

    @cached_property
    def edges(self) -> dict[tuple[str, str], range]:
        """The blocks of the edges of each pool, by site and model."""
        found, block = {}, self.way_count + len(self.flows)
        for site in self.sites:
            for model, pool in site.pools.items():
                found[site.name, model] = range(block, block + len(pool.edges))
                block += len(pool.edges)
        return found

    @cached_property
    def grid_block(self) -> int:
        return self.way_count + len(self.flows) + sum(len(each) for each in self.edges.values())

    @cached_property
    def first_change(self) -> int:
        return (self.grid_block + len(self.sites)) * self.steps

    @property
    def count(self) -> int:
        """Number of columns."""
        return self.first_change + len(self.blocks_of)

    def of_each(self, block: int) -> Indices:
        """Return the columns of a block, one for each step."""
        return np.arange(self.steps) + block * self.steps

    def missed(self, flow: int) -> Indices:
        """Return the columns of what a flow misses, or of its backlog."""
        return self.of_each(self.way_count + flow)

    def scale(self) -> Floats:
        """Return the unit of each column."""
        tps = max([1.0, *(max(flow.output_tps) for flow in self.flows)])
        watts = max([1.0, *(max(site.budget_w) for site in self.sites)])
        scale = np.full(self.count, tps)
        for number, flow in enumerate(self.flows):
            if flow.priority == "deferrable":
                scale[self.missed(number)] = tps * self.terms.step_s
        for blocks in self.edges.values():
            for block in blocks:
                scale[self.of_each(block)] = 1.0
        scale[self.grid_block * self.steps : self.first_change] = watts
        return scale

    def most(self) -> Floats:
        """Return the upper bound of each column."""
        most = np.full(self.count, np.inf)
        for blocks in self.edges.values():
            for block in blocks:
                most[self.of_each(block)] = 1.0
        return most

    def cost(self) -> Floats:
        """Return the cost of each column."""
        terms, cost = self.terms, np.zeros(self.count)
        cost[self.first_change :] = 0.0 if self.last is None else terms.changed_token
        for number, flow in enumerate(self.flows):
            value = terms.token_value[flow.priority]
            if flow.priority == "deferrable":
                cost[self.missed(number)[-1]] = value
            else:
                cost[self.missed(number)] = value * terms.step_s
            for block, way in zip(self.sent[number], self.ways[number], strict=True):
                moved = terms.moved_token if way.site != way.origin else 0.0
                cost[self.of_each(block)] = moved * terms.step_s
        for number, site in enumerate(self.sites):
            cost[self.of_each(self.grid_block + number)] = np.array(site.grid_cost) * terms.step_s
        return cost

    def equal(self) -> Rows:
        """Return what comes equals what is sent, missed or kept, of each flow."""
        rows = Rows(self.count)
        for number, flow in enumerate(self.flows):
            expected, missed = np.array(flow.output_tps, dtype=float), self.missed(number)
            sent: list[Term] = [(self.of_each(block), 1.0) for block in self.sent[number]]
            if flow.priority != "deferrable":
                rows.add([*sent, (missed, 1.0)], expected)
                continue
            step_s = self.terms.step_s
            come = expected * step_s
            come[0] += flow.backlog_tokens
            before = np.concatenate([missed[:1], missed[:-1]])
            kept = np.concatenate([[0.0], np.full(self.steps - 1, -1.0)])
            there = [(columns, step_s) for columns, _ in sent]
            rows.add([*there, (missed, 1.0), (before, kept)], come)
        return rows

    def below(self) -> Rows:
        """Return the limits of pools, budgets, grids and changes."""
        rows = Rows(self.count)
        for number, site in enumerate(self.sites):
            watts: list[Term] = []
            for model, pool in site.pools.items():
                used = [self.of_each(block) for block in self.edges[site.name, model]]
                come = self.blocks_to.get((site.name, model), ())
                sent: list[Term] = [(self.of_each(block), 1.0) for block in come]
                gives = [(u, -e.output_tps) for u, e in zip(used, pool.edges, strict=True)]
                rows.add([*sent, *gives], 0.0)
                watts += [(u, e.draw_w) for u, e in zip(used, pool.edges, strict=True)]
            room_w = np.maximum(0.0, np.array(site.budget_w) - site.base_w)
            grid = self.of_each(self.grid_block + number)
            rows.add([*watts, (grid, 0.0)], room_w)
            rows.add([*watts, (grid, -1.0)], np.array(site.renewable_w) - site.base_w)
        self._add_changes(rows)
        return rows

    def _add_changes(self, rows: Rows) -> None:
        for number, (way, blocks) in enumerate(self.blocks_of.items()):
            first = [self.of_each(block)[:1] for block in blocks]
            changed = np.array([self.first_change + number])
            before = (self.last or {}).get(way, 0.0)
            rows.add([*((each, 1.0) for each in first), (changed, -1.0)], before)
            rows.add([*((each, -1.0) for each in first), (changed, -1.0)], -before)

    def plan(self, values: Floats) -> SitesPlan:
        """Return the plan of a solution."""
        quotas: dict[Way, float] = {}
        served = moved = 0.0
        for blocks, ways in zip(self.sent, self.ways, strict=True):
            for block, way in zip(blocks, ways, strict=True):
                sent = values[self.of_each(block)]
                served += float(sent.sum()) * self.terms.step_s
                if way.site == way.origin:
                    continue
                moved += float(sent.sum()) * self.terms.step_s
                if sent[0] > LEAST_TPS:
                    quotas[way] = quotas.get(way, 0.0) + float(sent[0])
        draw_w = {site.name: self._draw_of(site, values) for site in self.sites}
        grid = {
            site.name: np.maximum(0.0, np.array(draw_w[site.name]) - np.array(site.renewable_w))
            for site in self.sites
        }
        cost = [grid[site.name] @ np.array(site.grid_cost) for site in self.sites]
        capacity = {(s.name, m): p.capacity_tps for s in self.sites for m, p in s.pools.items()}
        return SitesPlan(
            quotas,
            capacity,
            draw_w,
            grid_j=self.terms.step_s * float(sum(drawn.sum() for drawn in grid.values())),
            grid_cost=self.terms.step_s * float(sum(cost)),
            served=served,
            missed=self._missed(values),
            moved=moved,
        )

    def _draw_of(self, site: PlanSite, values: Floats) -> tuple[float, ...]:
        """Return the draw of a site in each step: each pool uses its best edges first, W."""
        draw_w = np.full(self.steps, site.base_w)
        for model, pool in site.pools.items():
            left_tps = np.zeros(self.steps)
            for block in self.blocks_to.get((site.name, model), ()):
                left_tps += values[self.of_each(block)]
            for edge in pool.edges:
                used_tps = np.minimum(left_tps, edge.output_tps)
                draw_w += used_tps * (edge.draw_w / edge.output_tps if edge.output_tps else 0.0)
                left_tps -= used_tps
        return tuple(draw_w.tolist())

    def _missed(self, values: Floats) -> float:
        total = 0.0
        for number, flow in enumerate(self.flows):
            missed = values[self.missed(number)]
            if flow.priority == "deferrable":
                total += float(missed[-1])
            else:
                total += float(missed.sum()) * self.terms.step_s
        return total
