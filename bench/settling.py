"""How soon does the draw settle after a budget step of 30 %, down and up?

The 40 steps of the scoreboard under `follow_budget`, simulated, energy modelled. A step has settled
once the draw stays within 2 % of the budget until the next one. Steps are left out after which
nothing waited for most of the time: there was nothing to draw for. At one window a second a fleet
of a few large replicas leaves that band now and then by chance, long after it got there; so the
table says as well when the draw was in the band first, how many windows after that were outside,
and when the mean response to all steps of a kind has settled, in which chance averages out. The
chance lies in the prompts that happen to come: where the engine's steps have just room for them
(`70b-steady`), the draw hardly strays.

    python bench/settling.py
    python bench/settling.py --fleet 8b --duration 600
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

import document
import policies
import policy_table
import scenarios
from bench_fleets import FLEETS, Size, make_bench
from steppe.report.tracking import (
    SETTLED_SHARE,
    PowerTrace,
    budget_steps,
    held_s,
    percentile_s,
    settle_times_s,
)
from targets import at_most

CUT_TARGET_S, RISE_TARGET_S = 2.0, 10.0
LEAST_COUNTED = 0.5
"""A step is judged if work waited, or the budget was exceeded, for so much of its time; share."""
SHORTEST_S = 200.0
"""Steps that last less than five seconds say little."""
Row = dict[str, Any]


def settling(trace: PowerTrace) -> list[Row]:
    """Return a row for the cuts and one for the rises of a budget, where any are judged."""
    steps = budget_steps(trace)
    stays_s = settle_times_s(trace)
    errors = np.array([_response(trace, step) for step in steps])
    off = np.abs(errors) > SETTLED_SHARE
    enters = np.where(off.all(axis=1), off.shape[1], np.argmin(off, axis=1))
    strays = np.array(
        [
            part[first:].mean() if first < len(part) else 1.0
            for part, first in zip(off, enters, strict=True)
        ]
    )
    is_rise, judged = trace.budget_w[steps] > trace.budget_w[steps - 1], _judged(trace)
    return [
        _row(name, stays_s[chosen], enters[chosen], strays[chosen], errors[chosen].mean(axis=0))
        for name, chosen in (("cut", ~is_rise & judged), ("rise", is_rise & judged))
        if chosen.any()
    ]


def _judged(trace: PowerTrace) -> NDArray[np.bool_]:
    begins = budget_steps(trace)
    stops = np.append(begins[1:], len(trace.scored))
    spans = zip(begins, stops, strict=True)
    return np.array([trace.scored[begin:stop].mean() >= LEAST_COUNTED for begin, stop in spans])


def _response(trace: PowerTrace, step: int) -> NDArray[Any]:
    """Return the error in each second after a step, share of the budget; 0 where none counts."""
    steps = budget_steps(trace)
    shortest_s = np.diff(trace.end_s[steps]).min()
    begin_s = trace.end_s[step] - trace.width_s[step]
    at_s = begin_s + np.arange(0.5, np.floor(shortest_s) - 1.0)
    window = np.searchsorted(trace.end_s, at_s)
    errors = trace.scored * (trace.draw_w / trace.budget_w - 1.0)
    return np.asarray(errors[np.minimum(window, len(errors) - 1)])


def _row(
    name: str,
    stays_s: NDArray[Any],
    enters_s: NDArray[Any],
    strays: NDArray[Any],
    mean_response: NDArray[Any],
) -> Row:
    off = np.flatnonzero(np.abs(mean_response) > SETTLED_SHARE)
    return {
        "step": name,
        "steps": len(stays_s),
        "settle_p50_s": percentile_s(stays_s, 50),
        "settle_p95_s": percentile_s(stays_s, 95),
        "enter_mean_s": float(enters_s.mean()),
        "enter_p95_s": percentile_s(enters_s, 95),
        "windows_outside_after": float(strays.mean()),
        "mean_settles_s": float(off[-1] + 1) if len(off) else 0.0,
    }


def targets(rows: list[Row]) -> list[Row]:
    """Return what the results are held against."""
    found = []
    for row in rows:
        at_most_s = CUT_TARGET_S if row["step"] == "cut" else RISE_TARGET_S
        name = f"{row['fleet']}: 30 % {row['step']}, 95th percentile until it stays within 2 %"
        found.append(at_most(name, row["settle_p95_s"], "s", at_most_s))
    return found


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fleet", choices=FLEETS, action="append", help="all if absent")
    parser.add_argument("--duration", type=float, default=1800.0, help="of all 40 steps, s")
    arguments = parser.parse_args()
    if arguments.duration < SHORTEST_S:
        parser.error(f"--duration: asked for {arguments.duration:g} s, takes {SHORTEST_S:g} s")
    rows: list[Row] = []
    fleets: list[Row] = []
    for fleet in arguments.fleet or FLEETS:
        bench = make_bench(Size(fleet, None, arguments.duration))
        fleets.append(document.fleet_of(bench))
        happening = scenarios.forty_steps(bench.full_w, arguments.duration)
        loaded = bench.with_load(happening.load_share)
        summary, ticks = policies.run(loaded, "follow_budget", happening)
        trace = PowerTrace.from_ticks(ticks)
        rest = {
            "held_s": held_s(trace),
            "over_budget_share": policy_table.over_share(summary),
            "output_tokens": summary["output_tokens"],
            "request_goodput": summary["request_goodput"],
        }
        rows += [{"fleet": fleet, **row, **rest} for row in settling(trace)]
    policy_table.show_all("settling after steps of 30 %; simulated, energy modelled", rows)
    print(json.dumps(document.simulated("settling", fleets, arguments, rows, targets(rows))))


if __name__ == "__main__":
    main()
