"""How long does the choice of a site take, and does it grow with the number of sites?

`decide` beside a plain loop over the same sites with the same masks and the same order, for each
class of requests and 3 to 1,000 sites. The two take turns. One process, one thread, CPU time; a
busy machine still lengthens it, for cores share caches. `prepare` is what a heartbeat costs: the
arrays of all sites, and those of the first request of a kind.

    python bench/sites_decision.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.control.ticket import PRIORITIES
from steppe.measure.provenance import source_commit
from steppe.sites.decide import decide
from steppe.sites.prepared import MISSED_S, PreparedSites
from steppe.sites.quotas import QuotaLease, Quotas
from steppe.sites.view import PoolPoint, PoolView, RequestView, SiteView
from targets import at_most

SIZES = (3, 10, 100, 1000)
TARGET_SITES, TARGET_US = 100, 10.0
SEED, NOW_S, CALLS = 7, 100.0, 500


def make_sites(count: int) -> list[SiteView]:
    """Return sites of three regions, a third of them with surplus."""
    rng = random.Random(SEED)
    return [
        SiteView(
            f"s{number}", 1, NOW_S - rng.random(), 1e6, 5e5, 5e5,
            4e5 if number % 3 == 1 else 0.0, 0.0, (),
            (rng.randrange(200_000, 700_000),), (rng.uniform(200.0, 900.0),), "CNY",
            f"r{number % 4}", frozenset({"public"}),
            {"m": PoolView("m", "r", 1e5, 0, rng.uniform(0.1, 0.8), 0.02, rng.uniform(2e5, 5e5),
                           (PoolPoint(2e5, 8e5),), 2e4, 1e-5)},
        )
        for number in range(count)
    ]  # fmt: skip


def make_quotas(names: list[str]) -> Quotas:
    """Return quotas to all sites."""
    quotas = Quotas(names, NOW_S - 20.0)
    quotas.grant(
        QuotaLease(name, "m", priority, 1e5, 1e6, NOW_S - 20.0, 60.0)
        for name in names[1:]
        for priority in PRIORITIES
    )
    for now_s in (NOW_S - 10.0, NOW_S):
        quotas.advance(now_s)
    return quotas


def request(priority: str) -> RequestView:
    """Return a request of a class."""
    regions = frozenset({"r0", "r1", "r2"})
    return RequestView("m", None, priority, regions, "public", 1155, 211, ttft_s=1.0, tpot_s=0.1)


def plain_loop(
    asked: RequestView,
    views: list[SiteView],
    rtt_s: list[float],
    left: list[float],
    rng: random.Random,
) -> int:
    """Return the best site as a loop over all of them finds it; without pins and refusals."""
    best: list[int] = []
    lowest: tuple[float, ...] = (float("inf"),)
    for number, view in enumerate(views):
        pool = view.pools.get("m")
        if pool is None or view.region not in asked.regions:
            continue
        if asked.data_class not in view.data_classes or NOW_S - view.received_s > MISSED_S:
            continue
        rate_tps, joules = 1.0 / pool.tpot_s, pool.uj_per_token * 1e-6
        if pool.free_tps < rate_tps or view.headroom_w < rate_tps * joules:
            continue
        if left[number] < asked.output_tokens:
            continue
        first_s, green = rtt_s[number] + pool.ttft_s, view.surplus_w >= rate_tps * joules
        price = joules * view.price_micro[0] * 1e-6 / 3.6e6
        cost: tuple[float, ...] = (number == 0,)
        if asked.priority == "interactive":
            cost = (first_s > asked.ttft_s, not green, price // 1e-9, first_s // 0.005)
        elif asked.priority == "standard":
            cost = (1e-4 * first_s + (-5e-5 if green else price * asked.output_tokens),)
        if cost < lowest:
            lowest, best = cost, [number]
        elif cost == lowest:
            best.append(number)
    return best[int(rng.random() * len(best))] if best else 0


def time_us(work: Callable[[], object]) -> float:
    """Return the CPU time of one call of many, microseconds."""
    began_s = time.process_time()
    for _ in range(CALLS):
        work()
    return 1e6 * (time.process_time() - began_s) / CALLS


def row(what: str, sites: int, taken_us: list[float]) -> dict[str, Any]:
    """Return the spread of some repeats."""
    taken_us.sort()
    return {
        "name": what,
        "sites": sites,
        "repeats": len(taken_us),
        "median_us": statistics.median(taken_us),
        "least_us": taken_us[0],
        "worst_us": taken_us[-1],
    }


def time_size(count: int, repeats: int) -> list[dict[str, Any]]:
    """Return the rows of one number of sites."""
    views, rng = make_sites(count), random.Random(SEED)
    names = [view.site for view in views]
    rtt_s = [0.0, *(0.001 * (3 + number % 40) for number in range(1, count))]
    peers, trips = {v.site: v for v in views[1:]}, dict(zip(names, rtt_s, strict=True))
    sites, quotas, rows = PreparedSites(names, views[0], peers, trips), make_quotas(names), []
    for priority in PRIORITIES:
        asked = request(priority)
        left = quotas.left_of("m", priority).tolist()

        def ours(asked: RequestView = asked) -> object:
            return decide(asked, sites, quotas, pin=None, refused={}, now_s=NOW_S, rng=rng)

        def loop(asked: RequestView = asked, left: list[float] = left) -> object:
            return plain_loop(asked, views, rtt_s, left, rng)

        time_us(ours), time_us(loop)
        pairs = [(time_us(ours), time_us(loop)) for _ in range(repeats)]
        rows.append(row(f"decide, {priority}", count, [pair[0] for pair in pairs]))
        rows.append(row(f"plain loop, {priority}", count, [pair[1] for pair in pairs]))
    rows.append(row("prepare", count, time_prepare(names, views, trips)))
    return rows


def time_prepare(names: list[str], views: list[SiteView], trips: dict[str, float]) -> list[float]:
    """Return the CPU time of the arrays of a heartbeat, microseconds."""
    peers, taken = {view.site: view for view in views[1:]}, []
    for _ in range(20):
        began_s = time.process_time()
        PreparedSites(names, views[0], peers, trips).candidates(request("interactive"))
        taken.append(1e6 * (time.process_time() - began_s))
    return taken


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title="Time of the choice of a site")
    for heading in ("what", "sites", "median", "least", "worst"):
        table.add_column(heading)
    for one in rows:
        times = [f"{one[key]:.2f} us" for key in ("median_us", "least_us", "worst_us")]
        table.add_row(one["name"], str(one["sites"]), *times)
    Console(width=100).print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    rows = [one for count in SIZES for one in time_size(count, repeats)]
    show(rows)
    aimed = [r for r in rows if r["sites"] == TARGET_SITES and r["name"].startswith("decide")]
    worst = max(one["median_us"] for one in aimed)
    document = {
        "bench": "sites_decision",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("numpy",)},
        "results": rows,
        "targets": [at_most(f"decision at {TARGET_SITES} sites", worst, "us", TARGET_US)],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
