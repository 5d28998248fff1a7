"""Do the offers of a simulated fleet hold as often as they say?

A fleet runs for two weeks on measured wind with a daily load and batch jobs. Every ten minutes,
from the third day on, it offers watts of 90 % for an hour that begins soon or later in the day,
from what it has seen of itself until then (`site_offers`). Each offer is held against what the
same fleet could really give in that hour. Several pairs of weeks of the year; simulated, energy
modelled. What it cannot show: a site whose days change their kind, and calls themselves, after
which the draw is another one.

    python bench/grid_fleet_offers.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from document import arguments_of
from grid_week_sources import REPLICAS, SAMPLE_S, WIND, moments_of
from steppe.grid.offers.history import Moment, Window, lowest, usable
from steppe.grid.offers.offer import Call
from steppe.grid.offers.site_offer import site_offers
from steppe.grid.verify.delivery import Direction
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

CALL = Call(notice_s=60.0, hold_s=900.0, confidence=0.9)
WINDOW_S, DAY_S = 3600.0, 86_400.0
LEADS_S = {"soon": 600.0, "6 h ahead": 6 * 3600.0}
FIRST_DAYS = (30, 120, 210, 300)
WARM_DAYS = 3
LOWEST, HIGHEST = 0.88, 0.92
Row = dict[str, Any]


def rows_of(moments: Sequence[Moment], first_day: int, step: int) -> list[Row]:
    """Return how often offers held, for each lead and direction.

    Args:
        moments: What the fleet could give, by time.
        first_day: Day of the year on which they begin.
        step: Offers are made at each of so many samples.
    """
    found = []
    for name, lead_s in LEADS_S.items():
        tried: dict[Direction, list[tuple[int, float]]] = {way: [] for way in Direction}
        first = round(WARM_DAYS * DAY_S / SAMPLE_S)
        for number in range(first, len(moments), step):
            now = moments[number]
            window = Window(now.at_s + lead_s, now.at_s + lead_s + WINDOW_S)
            if window.until_s > moments[-1].at_s:
                break
            (offer,) = site_offers("site", moments[: number + 1], now, [window], CALL)
            powers = (offer.offer.down, offer.offer.up)
            for way, power in zip(Direction, powers, strict=True):
                tried[way].append((power.watts, _given_w(moments, window, way)))
        found += [_row(first_day, name, way, each) for way, each in tried.items()]
    return found


def _given_w(moments: Sequence[Moment], window: Window, way: Direction) -> float:
    """Return what the fleet could give at every time of a window, W."""
    inside = [m for m in moments if window.from_s - SAMPLE_S < m.at_s < window.until_s + SAMPLE_S]
    found = lowest([usable(m, CALL, way) for m in inside], CALL.hold_s)
    return sum(one.watts for one in found)


def _row(first_day: int, lead: str, way: Direction, tried: Sequence[tuple[int, float]]) -> Row:
    held = [given_w >= watts for watts, given_w in tried]
    some = [given_w >= watts for watts, given_w in tried if watts]
    return {
        "first_day": first_day,
        "lead": lead,
        "direction": str(way),
        "offers": len(held),
        "held": sum(held) / len(held),
        "offers_above_0_w": len(some),
        "held_of_these": sum(some) / len(some) if some else None,
        "offered_w": sum(watts for watts, _ in tried) / len(tried),
        "given_w": sum(given_w for _, given_w in tried) / len(tried),
    }


def _rows_from(first_day: int, days: int, step: int, wind: Path) -> list[Row]:
    return rows_of(moments_of(days, first_day, first_day, wind), first_day, step)


def targets_of(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against."""
    found = []
    for lead in LEADS_S:
        less = [r for r in rows if r["lead"] == lead and r["direction"] == Direction.LESS]
        mean = sum(row["held"] for row in less) / len(less)
        name = f"share in which an offer downwards of 90 % holds, {lead}"
        found += [at_least(name, mean, "share", LOWEST), at_most(name, mean, "share", HIGHEST)]
    return found


def main() -> None:
    """Print the rows, and the document as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--first-days", type=int, nargs="+", default=FIRST_DAYS)
    parser.add_argument("--step", type=int, default=1, help="samples between two offers")
    parser.add_argument("--jobs", type=int, default=2, help="weeks at one time")
    parser.add_argument("--wind", type=Path, default=WIND)
    arguments = parser.parse_args()
    run = partial(_rows_from, days=arguments.days, step=arguments.step, wind=arguments.wind)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        rows = [row for found in pool.map(run, arguments.first_days) for row in found]
    for row in rows:
        print(json.dumps(row))
    document = {
        "bench": "grid_fleet_offers",
        "commit": source_commit(),
        "arguments": arguments_of(arguments),
        "simulated": f"{REPLICAS} replicas of 70B, each on 4 H100, wind of La Haute Borne 2014",
        "energy_source": "modelled",
        "results": rows,
        "targets": targets_of(rows),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
