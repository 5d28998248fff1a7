"""What perfect plans would reach with a fleet's operating points, as a bound for the results.

Perfect: no margin, no delay, no wake, and work as soon as it arrives. Tokens are those of the
best plan for each second's budget, as far as they were asked for by then, beside as many replicas
at full clocks as fit into it, perfectly, too: a run may come out a little above, for the baseline's
run also loses what perfect plans do not. Joules are
those of the cheapest plan for the tokens that are asked for in each minute, at points that keep
the SLO; a plan that could defer work for longer would need a little less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import scenarios
from policy_table import DAYS, FULL, NO_BUDGET
from steppe.control.plan import AwakeBounds
from steppe.control.policy.goals import at_slo
from steppe.control.policy.planner import Need, Planner
from steppe.load.arrivals import Arrival

if TYPE_CHECKING:
    from bench_fleets import Bench

BIN_S = 60.0


def bounds(bench: Bench, rows: Sequence[dict[str, Any]], duration_s: float) -> list[dict[str, Any]]:
    """Return the bounds of the happenings that are in a table."""
    found = []
    for make in scenarios.HAPPENINGS:
        happening = make(bench.full_w, duration_s)
        of_it = [row for row in rows if row["happening"] == happening.name]
        full = [row for row in of_it if row["policy"] == FULL]
        if of_it and happening.name in DAYS:
            gain = _most_gain(bench, happening, duration_s)
            if gain is not None:
                name = "tokens over replicas alone, both perfect"
                found.append(_bound(happening, name, gain, "ratio"))
        elif full and happening.name.startswith(NO_BUDGET):
            saved = _most_saved(bench.with_load(happening.load_share), full[0], duration_s)
            found.append(_bound(happening, "joules per token saved, perfect plans", saved, "share"))
    return found


def _bound(happening: scenarios.Happening, name: str, value: float, unit: str) -> dict[str, Any]:
    return {"happening": happening.name, "name": name, "value": value, "unit": unit}


def _most_gain(bench: Bench, happening: scenarios.Happening, duration_s: float) -> float | None:
    """Return the tokens of the best plans over those of as many replicas as fit at full clocks.

    Neither serves more than was asked for: on a day with more wind than work both stand still.
    None where the latter never fit.
    """
    frontier, replicas = bench.frontier, bench.fleet.replicas
    planner, everyone = _planner(bench), AwakeBounds(0, replicas)
    best_tps, counted_tps = [], []
    for second in range(math.floor(duration_s)):
        budget_w = happening.budget.at(second + 0.5)
        best_tps.append(planner.within(budget_w, replicas, everyone).output_tps)
        each_w = frontier.full.draw_w - frontier.asleep_w
        fit = math.floor((budget_w - replicas * frontier.asleep_w) / each_w)
        counted_tps.append(min(replicas, max(0, fit)) * frontier.full.output_tps)
    asked_tps = demand_tps(bench.arrivals, len(best_tps), 1.0)
    counted = served_tokens(counted_tps, asked_tps)
    return served_tokens(best_tps, asked_tps) / counted if counted else None


def served_tokens(most_tps: Sequence[float], asked_tps: Sequence[float]) -> float:
    """Return the tokens that are served, second by second, of those that were asked for by then."""
    served = waiting = 0.0
    for most, asked in zip(most_tps, asked_tps, strict=True):
        waiting += asked
        served += min(most, waiting)
        waiting -= min(most, waiting)
    return served


def _most_saved(bench: Bench, full: dict[str, Any], duration_s: float) -> float:
    """Return the share of the joules per token of full clocks that the cheapest plans save."""
    planner, replicas = _planner(bench), bench.fleet.replicas
    asked_tps = demand_tps(bench.arrivals, duration_s, BIN_S)
    plans = [
        planner.covering(Need(tps, 0), replicas, AwakeBounds(0, replicas)) for tps in asked_tps
    ]
    least_j = BIN_S * sum(plan.draw_w for plan in plans if plan is not None)
    tokens = BIN_S * sum(
        tps for tps, plan in zip(asked_tps, plans, strict=True) if plan is not None
    )
    return float(1 - least_j / tokens * full["output_tokens_per_joule"])


def _planner(bench: Bench) -> Planner:
    kept = at_slo(bench.frontier, bench.slo.tpot_s)
    return Planner(kept, kept.drain.draw_w)


def demand_tps(arrivals: Sequence[Arrival], duration_s: float, bin_s: float) -> list[float]:
    """Return the output tokens per second that are asked for in each bin of so many seconds."""
    edges = np.arange(0.0, duration_s + bin_s, bin_s)
    times_s = [arrival.at_s for arrival in arrivals]
    tokens, _ = np.histogram(times_s, edges, weights=[a.output_tokens for a in arrivals])
    return [float(tps) for tps in tokens / bin_s]
