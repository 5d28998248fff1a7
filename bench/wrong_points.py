"""How soon are wrong operating points learned, and what do they draw above the budget until then?

A controller begins with points whose watts, or speed, or both are 0.5 or 1.6 times the true ones.
It follows forty steps of the budget. The costs of a step count as learned from the moment on from
which no factor is off by more than a tenth. Without the costs of a step, as with a frontier file
that has none, only the feedback of the draw is left. Simulated, energy modelled, default margin.

    python bench/wrong_points.py --fleet 70b
    python bench/wrong_points.py --fleet 70b --without-costs
    python bench/wrong_points.py --fleet 8b --replicas 16 --duration 300
"""

from __future__ import annotations

import argparse
import json
from dataclasses import astuple, dataclass, field, replace
from itertools import product
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

import document
import policies
import policy_table
import scenarios
from bench_fleets import FLEETS, Size, make_bench
from steppe.config import ControlSection
from steppe.control.plan import Plan
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy
from steppe.control.state import Observation
from steppe.roofline.step_costs import CostFactors
from targets import at_most

Row = dict[str, Any]
SHARES = (0.5, 1.0, 1.6)
SETTLED_TICKS = 3
"""Ticks after which no second may lie far above the budget."""
WITHIN = 0.1
"""Most by which a learned factor may be off, share."""
DEFAULT = ControlSection()


@dataclass(slots=True)
class Watched:
    """A policy, and when the factors that it uses were right.

    Attributes:
        policy: The policy.
        true: The factors that are right.
        wrong_s: Last time at which one was off, s.
    """

    policy: Policy
    true: CostFactors
    wrong_s: float = field(default=0.0)

    def decide(self, observation: Observation) -> Plan:
        """Return the policy's plan."""
        plan = self.policy.decide(observation)
        pairs = zip(astuple(plan.learned.factors), astuple(self.true), strict=True)
        if any(abs(used / true - 1) > WITHIN for used, true in pairs):
            self.wrong_s = observation.now_s
        return plan


def row_of(size: Size, *, with_costs: bool) -> Row:
    """Follow the steps with points that are wrong as `size` says."""
    bench = make_bench(size)
    happening = scenarios.forty_steps(bench.full_w, size.duration_s)
    control = policies.control_of(bench, policy_table.OURS)
    budget = policies.budget_of(happening)
    speed, watts = size.assumed_speed, size.assumed_share
    true = CostFactors(speed, speed, speed / watts, speed / watts)
    facts = policies.facts_of(bench, control, budget)
    if not with_costs:
        facts = replace(facts, frontier=facts.frontier.with_costs(None, None))
    watched = Watched(make_policy(facts), true)
    summary, ticks = policies.run_policy(bench, watched, control, budget)
    row = policy_table.row_of(policy_table.OURS, happening.name, summary, 0.0)
    return {
        "assumed_watts": watts,
        "assumed_speed": speed,
        "learned_s": watched.wrong_s if with_costs else None,
        "settled_over_fraction": max(
            max(0.0, tick.draw_w / tick.budget_w - 1) for tick in ticks[SETTLED_TICKS:]
        ),
        **{key: row[key] for key in KEPT},
    }


KEPT = (
    "over_budget_share", "max_over_fraction", "relative_mae", "output_tokens", "slo_attainment"
)  # fmt: skip


HEADINGS = (
    "watts", "speed", "learned after", "worst second", "above budget", "error", "tokens", "SLO"
)  # fmt: skip


def targets(rows: list[Row]) -> list[Row]:
    """Return what the results are held against."""
    learned_s = [row["learned_s"] for row in rows if row["learned_s"] is not None]
    learned = [at_most("learned, slowest", max(learned_s), "s", 120.0)] if learned_s else []
    return [
        *learned,
        at_most(
            "above the budget in any second after the third tick",
            max(row["settled_over_fraction"] for row in rows),
            "share",
            0.1,
        ),
        at_most(
            "energy above the budget, most",
            max(row["over_budget_share"] for row in rows),
            "share",
            0.005,
        ),
    ]


def show(rows: list[Row]) -> None:
    """Print the table for people."""
    table = Table(title="Wrong operating points on forty steps; simulated, energy modelled")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['assumed_watts']:g} x",
            f"{row['assumed_speed']:g} x",
            "-" if row["learned_s"] is None else f"{row['learned_s']:.0f} s",
            f"{row['settled_over_fraction']:.1%}",
            f"{row['over_budget_share']:.3%}",
            f"{row['relative_mae'] or 0:.2%}",
            f"{row['output_tokens'] / 1e6:.2f} M",
            f"{row['slo_attainment'] or 0:.1%}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--fleet", choices=FLEETS, default="70b")
    parser.add_argument("--replicas", type=int, help="a smaller fleet, for a quick look")
    parser.add_argument("--duration", type=float, default=600.0, help="length of a run, s")
    parser.add_argument("--without-costs", action="store_true", help="points alone are known")
    arguments = parser.parse_args()
    rows = []
    for watts, speed in track(list(product(SHARES, SHARES)), console=Console(stderr=True)):
        size = Size(
            arguments.fleet,
            arguments.replicas,
            arguments.duration,
            margin_share=DEFAULT.margin_share,
            over_share=DEFAULT.over_share,
            assumed_share=watts,
            assumed_speed=speed,
        )
        rows.append(row_of(size, with_costs=not arguments.without_costs))
    show(rows)
    fleets = [document.fleet_of(make_bench(size))]
    found = document.simulated("wrong_points", fleets, arguments, rows, targets(rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
