"""Does an offer hold in the share of futures that it states?

An offer of 90 % is made from 999 simulated futures of a site, and tried in 1,000 others that it was
not made from; for several seeds. Traffic, work, its deadlines and the stored energy vary from
future to future. A second table states 50 and 99 %. What it cannot show: futures of another kind
than those that come. Simulated.

    python bench/grid_offers.py
"""

from __future__ import annotations

import argparse
import json
import random
from typing import Any

from document import arguments_of
from steppe.grid.offers.offer import Call, offered
from steppe.grid.offers.sources import Now, Source, battery_down, slower_streams, stopped_work
from steppe.grid.plan.terms import Edge, Site, Work, per_mwh
from steppe.measure.provenance import source_commit
from steppe.power.battery import Battery
from targets import at_least, at_most

NOTICE_S, HOLD_S = 60.0, 3600.0
FUTURES, TRIES = 999, 1000
LOWEST, HIGHEST = 0.88, 0.92


def site_of() -> Site:
    """Return a site of about 1 MW with a battery of 1 MWh."""
    battery = Battery(3.6e9, 5e5, 5e5, 0.95, 0.95)
    edges = (Edge(5e5, 1e5), Edge(4e5, 4e4))
    return Site(1e5, edges, 2e6, per_mwh(5000.0), per_mwh(60.0), battery)


def future(site: Site, rng: random.Random) -> list[Source]:
    """Return the sources of one simulated future."""
    firm_tps = min(1e5, 5e4 * rng.lognormvariate(0.0, 0.25))
    work = (Work(rng.uniform(2e7, 9e7), rng.randint(2, 12), per_mwh(1000.0)),)
    now = Now(6e5, firm_tps, rng.uniform(0.0, 3.6e9), work, per_mwh(60.0))
    waits = stopped_work(site, now, HOLD_S, notice_s=5.0, ramp_w_per_s=1e5)
    slower = slower_streams(site, now, 0.1, notice_s=5.0, ramp_w_per_s=1e5)
    return [waits, slower, battery_down(site, now, 0.0)]


def row_of(confidence: float, seed: int) -> dict[str, Any]:
    """Return in what share of other futures an offer holds."""
    site, rng = site_of(), random.Random(seed)
    call = Call(NOTICE_S, HOLD_S, confidence)
    watts = offered([future(site, rng) for _ in range(FUTURES)], call).watts
    held = 0
    for _ in range(TRIES):
        held += sum(one.sustained_w(HOLD_S) for one in future(site, rng)) >= watts
    return {"confidence": confidence, "seed": seed, "watts": watts, "held": held / TRIES}


def main() -> None:
    """Print the rows, and the document as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    rows = [row_of(c, seed) for c in (0.5, 0.9, 0.99) for seed in range(arguments.seeds)]
    for row in rows:
        print(json.dumps(row))
    held = [row["held"] for row in rows if row["confidence"] == 0.9]
    within = sum(LOWEST <= share <= HIGHEST for share in held) / len(held)
    mean = sum(held) / len(held)
    print(
        json.dumps(
            {
                "bench": "grid_offers",
                "commit": source_commit(),
                "arguments": arguments_of(arguments),
                "futures": FUTURES,
                "tries": TRIES,
                "results": rows,
                "within_share": within,
                "targets": [
                    at_least("mean share in which 90 % holds", mean, "share", LOWEST),
                    at_most("mean share in which 90 % holds", mean, "share", HIGHEST),
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
