"""Is `save_energy` more than an autoscaler at one good clock?

Where no budget binds, somebody who knows the day beforehand may lock the clock that suits it, and
let an ordinary autoscaler (`reactive`) decide how many replicas are awake. This bench tries every
clock of the frontier, on both days without a budget of the scoreboard, and puts `save_energy`,
which is told nothing of the day, beside the cheapest clock whose users are served as well as by
full clocks (within half a point of SLO attainment). Simulated, energy modelled.

    python bench/locked_clock.py --fleet 70b
    python bench/locked_clock.py --fleet 8b --duration 600
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import document
import policies
import policy_table
import scenarios
from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint

Row = dict[str, Any]
DAYS = (scenarios.ample, scenarios.ample_and_spare)


def locked(bench: policies.Bench, point: OperatingPoint) -> policies.Bench:
    """Return the fleet whose controller knows one operating point only."""
    known = bench.frontier
    one = Frontier.of([point], known.asleep_w, known.idle_w, known.source)
    return replace(bench, frontier=one)


def rows_of(bench: policies.Bench, happening: scenarios.Happening) -> list[Row]:
    """Return a row for full clocks, for `save_energy`, and for the autoscaler at each clock."""
    loaded = bench.with_load(happening.load_share)
    full = loaded.frontier.full.clock_mhz
    asked = [(loaded, policy_table.FULL, full), (loaded, policy_table.SAVING, None)]
    asked += [
        (locked(loaded, point), policy_table.SCALER, point.clock_mhz)
        for point in loaded.frontier.full_batch.points
    ]
    return [_row(fleet, policy, clock, happening) for fleet, policy, clock in asked]


def _row(
    bench: policies.Bench, policy: str, clock_mhz: int | None, happening: scenarios.Happening
) -> Row:
    summary, _ = policies.run(bench, policy, happening)
    return {
        "happening": happening.name,
        "policy": policy,
        "locked_mhz": clock_mhz,
        "output_tokens_per_joule": summary["output_tokens_per_joule"],
        "slo_attainment": summary["slo_attainment"],
    }


def beside(rows: Sequence[Row]) -> list[Row]:
    """Return what `save_energy` saves beside the best clock of each happening, if one serves."""
    found = []
    for happening in dict.fromkeys(row["happening"] for row in rows):
        full, saving, *ones = (row for row in rows if row["happening"] == happening)
        enough = full["slo_attainment"] - policy_table.AT_EQUAL
        equal = [row for row in ones if row["slo_attainment"] >= enough]
        if equal and saving["slo_attainment"] >= enough:
            best = max(equal, key=lambda row: float(row["output_tokens_per_joule"]))
            ratio = best["output_tokens_per_joule"] / saving["output_tokens_per_joule"]
            found.append(
                {
                    "happening": happening,
                    "locked_mhz": best["locked_mhz"],
                    "joules_per_token_saved": 1 - ratio,
                }
            )
    return found


def main() -> None:
    """Run, print two tables, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fleet", choices=policies.FLEETS, default="8b")
    parser.add_argument("--replicas", type=int, help="a smaller fleet, for a quick look")
    parser.add_argument("--duration", type=float, default=3600.0, help="length of a day, s")
    arguments = parser.parse_args()
    size = policies.Size(arguments.fleet, arguments.replicas, arguments.duration)
    bench = policies.make_bench(size)
    rows: list[Row] = []
    for make in DAYS:
        rows += rows_of(bench, make(bench.full_w, arguments.duration))
    policy_table.show_all("an autoscaler at one clock; simulated, energy modelled", rows)
    saved = beside(rows)
    if saved:
        policy_table.show_all("what save_energy saves beside the best clock", saved)
    fleets = [document.fleet_of(bench)]
    found = document.simulated("locked_clock", fleets, arguments, rows, [])
    print(json.dumps(found | {"beside": saved}))


if __name__ == "__main__":
    main()
