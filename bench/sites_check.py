"""Is the table of a site in `sites.py` that of the simulator?

The fleet of one site (16 replicas of llama-3.1-70b) in `steppe.sim`, request by request, with the
policy that saves energy and more power than it can draw, beside what `sites_replica` says for the
same load: draw of the GPUs, and time to the first token. Modelled, both from the same roofline.

    python bench/sites_check.py
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

import policies
from bench_fleets import Size, make_bench
from document import arguments_of
from scenarios import ample
from sites_replica import LENGTHS, NODE_GPUS, NODE_REST_W, PUE, SiteTable, site_table
from steppe.control.policy.make import make_policy
from steppe.measure.provenance import source_commit

REPLICAS, GPUS = 16, 4


def row_of(table: SiteTable, utilisation: float, duration_s: float) -> dict[str, Any]:
    """Return what the simulator and the table say of one load."""
    size = Size("70b", REPLICAS, duration_s, utilisation, speed=1.0, begin_hour=12.0)
    bench = make_bench(size)
    happening = ample(bench.full_w, duration_s)
    control = bench.config.control.model_copy(update={"policy": "save_energy"})
    budget = policies.budget_of(happening)
    policy = make_policy(policies.facts_of(bench, control, budget))
    summary, _ = policies.run_policy(bench, policy, control, budget)
    tokens = sum(each.prompt_tokens for each in bench.arrivals)
    load_rps = len(bench.arrivals) / duration_s
    table_w = float(np.interp(load_rps, table.load_rps, table.draw_w))
    return {
        "utilisation": utilisation,
        "load_rps": round(load_rps, 1),
        "prompt_tokens": round(tokens / len(bench.arrivals)),
        "simulated_w": round(summary["energy_j"] / summary["duration_s"]),
        "table_w": round(table_w / PUE - REPLICAS * GPUS / NODE_GPUS * NODE_REST_W),
        "simulated_p50_ttft_s": summary["latency"]["ttft_s"]["p50"],
        "simulated_p99_ttft_s": summary["latency"]["ttft_s"]["p99"],
        "table_p50_ttft_s": _quantile(table, load_rps, 0.5),
        "table_p99_ttft_s": _quantile(table, load_rps, 0.99),
    }


def _quantile(table: SiteTable, load_rps: float, share: float) -> float:
    """Return a quantile of the time to the first token of mean prompts, s."""
    step_s, prompt_s, wait_s, busy = (
        float(np.interp(load_rps, table.load_rps, values))
        for values in (table.step_s, table.prompt_s, table.wait_s, table.busy)
    )
    queued_s = wait_s * float(np.log(max(1.0, busy / (1.0 - share))))
    whole_steps = LENGTHS.prompt_tokens // 2048
    return round(1.5 * step_s + queued_s + prompt_s + whole_steps * step_s, 3)


def main() -> None:
    """Print the rows, and the document as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--duration", type=float, default=180.0)
    parser.add_argument("--utilisations", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    arguments = parser.parse_args()
    table, rows = site_table(REPLICAS), []
    for utilisation in arguments.utilisations:
        rows.append(row_of(table, utilisation, arguments.duration))
        print(json.dumps(rows[-1]), flush=True)
    document = {"bench": "sites_check", "commit": source_commit(), "energy_source": "modelled",
                "arguments": arguments_of(arguments), "results": rows, "targets": []}  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
