"""How long does the plan of several sites take, and how does that grow with their number?

Each site has four operating points of one pool, its own wind over 16 quarters of an hour, and three
flows (interactive, standard, deferrable). The plan is made twice: the second one has the first as
the last plan, as every five minutes. `few` is its cost over that of a plan without a limit of the
targets. Wall time is of one process on a machine that others use too.

    python bench/sites_plan.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.control.ticket import PRIORITIES
from steppe.measure.provenance import source_commit
from steppe.sites.plan.solve import plan_sites
from steppe.sites.plan.terms import Edge, Flow, PlanPool, PlanSite, PlanTerms, SitesPlan
from targets import at_most

SIZES, SEED = (3, 10, 30, 100), 7
STEPS, TARGETS = 16, 5
ALL_TARGETS = 30
"""Up to so many sites a plan with all of them as targets of all stands beside it."""
TARGET_SITES, TARGET_S = 100, 30.0
"""A tenth of the time between two plans."""
PRICE = 1e-7
SHARES = (0.3, 0.2, 0.2)
"""Mean demand of each class, share of the capacity of its site."""


def make_sites(count: int) -> list[PlanSite]:
    """Return sites of other sizes, each with wind that wanders; the grid can give the rest."""
    rng, sites = random.Random(SEED), []
    for number in range(count):
        size = rng.uniform(0.5, 1.5)
        edges = tuple(Edge(5e4 * size, watts * size) for watts in (8e3, 1e4, 1.4e4, 2e4))
        wind, renewable_w = rng.random(), []
        for _ in range(STEPS):
            wind = min(1.0, max(0.0, wind + rng.gauss(0.0, 0.1)))
            renewable_w.append(1e5 * size * wind)
        sites.append(
            PlanSite(
                f"s{number}",
                f"r{number % 4}",
                frozenset({"public"}),
                base_w=1e4 * size,
                budget_w=[6e4 * size + 0.7 * watts for watts in renewable_w],
                renewable_w=renewable_w,
                grid_cost=[PRICE * rng.uniform(0.5, 1.5) for _ in range(STEPS)],
                pools={"m": PlanPool(edges, rng.uniform(0.1, 0.6))},
            )
        )
    return sites


def make_flows(sites: list[PlanSite]) -> list[Flow]:
    """Return the flows of all sites."""
    rng = random.Random(SEED + 1)
    regions = frozenset({"r0", "r1", "r2"})
    return [
        Flow(
            site.name,
            "m",
            priority,
            regions | {site.region},
            "public",
            [site.pools["m"].capacity_tps * share * rng.uniform(0.7, 1.3) for _ in range(STEPS)],
            ttft_s=1.0,
        )
        for site in sites
        for priority, share in zip(PRIORITIES, SHARES, strict=True)
    ]


def green_share(plan: SitesPlan) -> float:
    """Return the share of the energy that own wind gives, idle power included."""
    drawn_j = 900.0 * sum(sum(watts) for watts in plan.draw_w.values())
    return 1.0 - plan.grid_j / drawn_j


def time_plans(count: int, repeats: int) -> dict[str, Any]:
    """Return one row: the times of some plans, and what the plan does."""
    sites, rng = make_sites(count), random.Random(SEED + 2)
    flows = make_flows(sites)
    trips = {
        (one.name, other.name): rng.uniform(0.005, 0.045)
        for one in sites
        for other in sites
        if one is not other
    }
    terms = PlanTerms(targets=TARGETS)
    alone = plan_sites(sites, flows, {}, terms)
    whole = None
    if count <= ALL_TARGETS:
        whole = plan_sites(sites, flows, trips, replace(terms, targets=count))
    plan, taken_s, used_s = plan_sites(sites, flows, trips, terms), [], []
    for _ in range(repeats):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        again = plan_sites(sites, flows, trips, terms, plan.quotas)
        taken_s.append(time.perf_counter() - began_s)
        used_s.append(time.process_time() - cpu_s)
    return {
        "sites": count,
        "repeats": repeats,
        "median_s": statistics.median(taken_s),
        "worst_s": max(taken_s),
        "median_cpu_s": statistics.median(used_s),
        "quotas": len(again.quotas),
        "green_share": green_share(again),
        "green_share_alone": green_share(alone),
        "cost_to_alone": again.grid_cost / alone.grid_cost,
        "cost_to_all_targets": None if whole is None else again.grid_cost / whole.grid_cost,
        "missed": again.missed,
        "missed_alone": alone.missed,
        "moved_share": again.moved / again.served,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title=f"Time of a plan of {STEPS} steps, at most {TARGETS} targets for a flow")
    for heading in (
        "sites",
        "median",
        "worst",
        "CPU",
        "quotas",
        "green",
        "alone",
        "cost",
        "moved",
        "few",
    ):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            str(row["sites"]),
            *(f"{row[key]:.2f} s" for key in ("median_s", "worst_s", "median_cpu_s")),
            str(row["quotas"]),
            *(f"{row[key]:.3f}" for key in ("green_share", "green_share_alone", "cost_to_alone")),
            f"{row['moved_share']:.3f}",
            "" if row["cost_to_all_targets"] is None else f"{row['cost_to_all_targets']:.4f}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    rows = [time_plans(count, parser.parse_args().repeats) for count in SIZES]
    show(rows)
    worst_s = next(row["worst_s"] for row in rows if row["sites"] == TARGET_SITES)
    document = {
        "bench": "sites_plan",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "energy_source": "modelled",
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "results": rows,
        "targets": [at_most(f"plan of {TARGET_SITES} sites", worst_s, "s", TARGET_S)],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
