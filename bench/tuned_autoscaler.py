"""Does `save_energy` save more than an autoscaler that was tuned to the day?

Where no budget binds, an operator who knows the day beforehand can lock the clock that suits it and
tune an ordinary autoscaler (`reactive`): how full it keeps the awake replicas. This bench tries
every clock of the frontier with several fills, on both days without a budget, and compares
`save_energy`, which knows nothing of the day, with the cheapest pair that serves its users as well
as full clocks do (within half a point of SLO attainment).
Simulated, energy modelled.

    python bench/tuned_autoscaler.py --fleet 70b
    python bench/tuned_autoscaler.py --fleet 8b --duration 600
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from rich.console import Console
from rich.progress import track

import document
import policies
import policy_table
import scenarios
from bench_fleets import FLEETS, Bench, Size, make_bench
from rival_autoscalers import Reactive
from steppe.frontier.pareto import Frontier
from steppe.report.summary import Summary
from steppe.roofline.point import OperatingPoint

Row = dict[str, Any]
DAYS = (scenarios.ample, scenarios.ample_and_spare)
FILLS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Requests of a replica that the autoscaler aims at, share of its batch limit."""


def locked(bench: Bench, point: OperatingPoint) -> Bench:
    """Return the fleet whose controller knows one operating point only."""
    known = bench.frontier
    one = Frontier.of([point], known.asleep_w, known.idle_w, known.source)
    return replace(bench, frontier=one)


def rows_of(
    bench: Bench, happening: scenarios.Happening, fills: Sequence[float] = FILLS
) -> list[Row]:
    """Return a row for full clocks, for `save_energy`, and for each clock and fill."""
    loaded = bench.with_load(happening.load_share)
    rows = []
    for policy in (policy_table.FULL, policy_table.SAVING):
        summary, _ = policies.run(loaded, policy, happening)
        rows.append(_row(happening, policy, summary))
    tried = list(product(loaded.frontier.full_batch.points, fills))
    for point, fill in track(tried, happening.name, console=Console(stderr=True)):
        summary = _tuned(locked(loaded, point), fill, happening)
        row = _row(happening, policy_table.SCALER, summary)
        rows.append(row | {"locked_mhz": point.clock_mhz, "fill": fill})
    return rows


def _tuned(bench: Bench, fill: float, happening: scenarios.Happening) -> Summary:
    control, budget = bench.config.control, policies.budget_of(happening)
    policy = Reactive(policies.facts_of(bench, control, budget), fill)
    return policies.run_policy(bench, policy, control, budget)[0]


def _row(happening: scenarios.Happening, policy: str, summary: Summary) -> Row:
    return {
        "happening": happening.name,
        "policy": policy,
        "locked_mhz": None,
        "fill": None,
        "output_tokens_per_joule": summary["output_tokens_per_joule"],
        "slo_attainment": summary["slo_attainment"],
    }


def beside(rows: Sequence[Row]) -> list[Row]:
    """Return what `save_energy` saves beside the best autoscaler of each happening.

    Nothing is saved (None) where it serves its users worse than full clocks do, or where no
    autoscaler serves them as well.
    """
    found = []
    for happening in dict.fromkeys(row["happening"] for row in rows):
        full, saving, *ones = (row for row in rows if row["happening"] == happening)
        enough = (full["slo_attainment"] or 0.0) - policy_table.AT_EQUAL
        equal = [row for row in ones if (row["slo_attainment"] or 0.0) >= enough]
        best = max(equal, key=_tokens_per_joule, default=None)
        saved = None
        if best is not None and (saving["slo_attainment"] or 0.0) >= enough:
            saved = 1 - _tokens_per_joule(best) / _tokens_per_joule(saving)
        found.append(
            {
                "happening": happening,
                "locked_mhz": best and best["locked_mhz"],
                "fill": best and best["fill"],
                "slo_attainment": saving["slo_attainment"],
                "slo_attainment_of_best": best and best["slo_attainment"],
                "joules_per_token_saved": saved,
            }
        )
    return found


def _tokens_per_joule(row: Row) -> float:
    return float(row["output_tokens_per_joule"] or 0.0)


def main() -> None:
    """Run, print two tables, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fleet", choices=FLEETS, default="8b")
    parser.add_argument("--replicas", type=int, help="a smaller fleet, for a quick look")
    parser.add_argument("--duration", type=float, default=3600.0, help="length of a day, s")
    arguments = parser.parse_args()
    size = Size(arguments.fleet, arguments.replicas, arguments.duration)
    bench = make_bench(size)
    rows: list[Row] = []
    for make in DAYS:
        rows += rows_of(bench, make(bench.full_w, arguments.duration))
    policy_table.show_all("tuned autoscalers; simulated, energy modelled", rows)
    saved = beside(rows)
    policy_table.show_all("what save_energy saves beside the best of them", saved)
    fleets = [document.fleet_of(bench)]
    found = document.simulated("tuned_autoscaler", fleets, arguments, rows, [])
    print(json.dumps(found | {"beside": saved}))


if __name__ == "__main__":
    main()
