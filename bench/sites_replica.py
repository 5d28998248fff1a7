"""What a site of modelled replicas draws, and how fast it answers, under every load.

The replicas are those of the scoreboard (`bench_fleets`): llama-3.1-70b on 4 H100 each, from the
costs of a step of the shipped energy roofline. A site fills as few replicas as keep the SLO and
lets the others pause; they draw their idle power all the same, as the nodes do. Replicas run a mix
of points, so the draw of a site is the greatest convex function below that of equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_fleets import Size, make_bench
from steppe.frontier.load_table import LoadTable, load_table, most_ending
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import StepCosts

Floats = NDArray[np.float64]

GPUS, NODE_GPUS = 4, 8
NODE_REST_W, PUE = 1000.0, 1.2
"""Assumed: draw of a node beside its GPUs, and site over IT power."""
TTFT_S, TPOT_S = 1.0, 0.15
"""What a site keeps for all but 2 % of its requests: half the TTFT of the SLO of the 70B fleet of
the scoreboard, and its time per token."""
SLO_S = 2.0
"""Longest time to the first token of the SLO."""
LENGTHS = RequestLengths(1155, 211)
"""The mean request of the Azure conversation trace."""
LOADS, KNOTS = 160, 121


@dataclass(frozen=True, slots=True)
class SiteTable:
    """A site under rising load; all arrays are over `load_rps`.

    Attributes:
        load_rps: Mean requests per second that the site serves, from 0 to its capacity.
        draw_w: Draw of the site, idle replicas, nodes and cooling included, W.
        active: Replicas that are not paused.
        step_s: Mean time of an engine's step, s.
        prompt_s: Time that an engine computes the prompt of a mean request, s.
        wait_s: Mean wait of a request that waits for other prompts, s.
        busy: Share of the time that prompts are computed: so many requests wait.
        tpot_s: Time per output token, s.
        prompt_share: Work of the prompt over that of the whole mean request.
    """

    load_rps: Floats
    draw_w: Floats
    active: Floats
    step_s: Floats
    prompt_s: Floats
    wait_s: Floats
    busy: Floats
    tpot_s: Floats
    prompt_share: float

    @property
    def capacity_rps(self) -> float:
        """Most mean requests per second that keep the SLO."""
        return float(self.load_rps[-1])

    @property
    def base_w(self) -> float:
        """Draw without a request, W."""
        return float(self.draw_w[0])

    def stay_s(self, load_rps: Floats) -> Floats:
        """Return how long a mean request stays in the engine, s."""
        output_s = LENGTHS.output_tokens * self.tpot_s
        stay: Floats = np.interp(load_rps, self.load_rps, output_s + self.step_s + self.prompt_s)
        return stay


def site_table(replicas: int) -> SiteTable:
    """Return what a site of so many replicas does."""
    frontier = make_bench(Size("70b", 2, 5.0)).frontier
    assert frontier.costs is not None, "the modelled frontier has the costs of a step"
    clocks = sorted({point.clock_mhz for point in frontier.candidates})
    costs = frontier.costs.at(clocks)
    ending = most_ending(costs, LENGTHS) * np.geomspace(1e-3, 1.0, LOADS)
    table = load_table(costs, LENGTHS, ending, frontier.idle_w, replicas)
    return _packed(_Replica(frontier, costs, table), replicas)


@dataclass(frozen=True, slots=True)
class _Replica:
    """One replica: its frontier, the costs of its steps, and its load table."""

    frontier: Frontier
    costs: StepCosts
    table: LoadTable

    def keeps(self) -> NDArray[np.bool_]:
        """Return at which clocks and loads it keeps the SLO."""
        return (self.table.ttft_s <= TTFT_S) & (self.table.tpot_s <= TPOT_S)

    def capacity_rps(self) -> float:
        """Return the largest load that keeps the SLO."""
        return float(np.where(self.keeps(), self.table.rate_rps, 0.0).max())

    def at(self, load_rps: float) -> tuple[float, int, float, float]:
        """Return the least draw at a load, W, with its clock, step and time per token, s."""
        table, kept = self.table, self.keeps()
        best: tuple[float, int, float, float] = (np.inf, 0, 0.0, 0.0)
        for clock, rates in enumerate(table.rate_rps):
            count = int(kept[clock].sum())
            if not count or load_rps > rates[count - 1] * (1 + 1e-9):
                continue
            draw, step, tpot = (
                float(np.interp(load_rps, rates, values[clock]))
                for values in (table.draw_w, table.step_s, table.tpot_s)
            )
            best = min(best, (draw, clock, step, tpot))
        return best


def _packed(replica: _Replica, replicas: int) -> SiteTable:
    """Return the site whose replicas are filled one after the other, but evenly."""
    capacity_rps = replicas * replica.capacity_rps()
    loads: Floats = np.linspace(0.0, capacity_rps, KNOTS)
    idle_w, rows = replica.frontier.idle_w, []
    for load_rps in loads:
        options = []
        for active in range(1, replicas + 1):
            draw_w, clock, step_s, tpot_s = replica.at(load_rps / active)
            options.append((active * draw_w + (replicas - active) * idle_w, active, clock,
                            step_s, tpot_s))  # fmt: skip
        rows.append(min(options))
    draws_w, used, steps_s, tpots_s = np.array(rows, dtype=float)[:, [0, 1, 3, 4]].T
    clocks = [row[2] for row in rows]
    prompt_s = replica.costs.time_terms[clocks, 3] * LENGTHS.prompt_tokens
    alone_s = np.maximum(0.0, steps_s - loads / used * steps_s * prompt_s)
    decoding = loads / used * steps_s * LENGTHS.output_tokens
    room = np.maximum(1.0, replica.costs.tokens_per_step - decoding)
    service_s = prompt_s + alone_s * LENGTHS.prompt_tokens / room
    busy = np.minimum(0.999, loads / used * service_s)
    nodes = replicas * GPUS / NODE_GPUS
    draws_w[0] = replicas * idle_w
    site_w = PUE * (_convex(loads, draws_w) + nodes * NODE_REST_W)
    return SiteTable(
        loads, site_w, used, steps_s, prompt_s,
        wait_s=service_s / used / (1 - busy),
        busy=busy,
        tpot_s=tpots_s,
        prompt_share=float(prompt_s[-1] * replica.capacity_rps()),
    )  # fmt: skip


def _convex(at: Floats, values: Floats) -> Floats:
    """Return the greatest convex function below some points."""
    hull: list[int] = []
    for index in range(len(at)):
        while len(hull) > 1 and _turns(at, values, (*hull[-2:], index)):
            hull.pop()
        hull.append(index)
    found: Floats = np.interp(at, at[hull], values[hull])
    return found


def _turns(at: Floats, values: Floats, three: tuple[int, ...]) -> bool:
    """Return whether the middle one of three points is not below the line of the others."""
    a, b, c = three
    return bool(
        (values[b] - values[a]) * (at[c] - at[a]) >= (values[c] - values[a]) * (at[b] - at[a])
    )
