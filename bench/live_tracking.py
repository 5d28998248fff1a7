"""How closely does a live fleet follow the budgets of the scoreboard, in real time?

Eight synthetic replicas on emulated H100s under a real Ray, behind the real gateway, controller,
meters and agents, go through the happenings of `scenarios.py`, one after the other. The load comes
from a process of its own, open loop, with the lengths of the Azure conversation trace, and is
more than the budgets can serve, so that power is the limit. The supply is a trace file.
Energy is emulated; time is real. The results contain how late the machine itself was: a late tick
makes a late draw.

    python bench/live_tracking.py --folder runs/live
    python bench/live_tracking.py --folder runs/live --happening forty_steps --duration 60

The frontier is swept once, into the folder; another call with the same folder uses it again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import document
import live_machine
import scenarios
from live_stage import (
    PERIOD_S,
    REPLICAS,
    Played,
    Stage,
    config_of,
    frontier_of,
    full_draw_w,
    write_load,
    write_supply,
)
from steppe.config import ControlSection
from steppe.control.tick_times import LEAST_WINDOW_S
from steppe.fleet.controller.controller import METER_DELAY_S
from steppe.frontier.pareto import Frontier
from steppe.measure.provenance import source_commit
from steppe.report.quantities import UNKNOWN
from steppe.report.records import TickRecord
from steppe.report.tracking import (
    PowerTrace,
    held_s,
    over_budget,
    percentile_s,
    settle_times_s,
    track,
)
from steppe.run.live import versions
from steppe.run.running_fleet import running_fleet
from targets import at_most, worst_mae

NOT_PLAYED = (scenarios.replica_failures, scenarios.ample, scenarios.ample_and_spare)
"""Where replicas die, streams break, which `tests/cluster` covers. Where watts are ample there is
nothing to follow."""
PLAYED = tuple(make for make in scenarios.HAPPENINGS if make not in NOT_PLAYED)


def play(arguments: argparse.Namespace, folder: Path, frontier: Frontier) -> list[dict[str, Any]]:
    """Run one fleet through the selected happenings, and return a row for each."""
    duration_s, full_w = arguments.duration, full_draw_w(frontier)
    write_load(folder, frontier, arguments.utilisation, duration_s)
    write_supply(folder, scenarios.ample(full_w, duration_s))
    config, rows = config_of(folder, frontier, duration_s), []
    with running_fleet(config, Console(stderr=True)) as driver:
        stage = Stage(driver, folder, config, frontier)
        for make in PLAYED:
            if arguments.happening and make.__name__ not in arguments.happening:
                continue
            happening = make(full_w, duration_s)
            record = folder / f"{make.__name__}-{time.strftime('%H%M%S')}"
            rows.append(row_of(happening.name, stage.play(happening, duration_s, record)))
    return rows


def row_of(name: str, played: Played) -> dict[str, Any]:
    """Return what the table shows of a happening.

    `over_budget_*` is computed as in a simulation, `over_allowance_*` within the resolution of the
    meters. A step that settles is followed until the next one, `held_s` after it or later.
    """
    ticks, answer = played.ticks, played.answer
    tracking, trace = track(ticks, METER_DELAY_S), PowerTrace.from_ticks(ticks)
    over, settles_s = over_budget(trace, METER_DELAY_S), settle_times_s(trace)
    energy_j, allowance_j = sum(tick.energy_j for tick in ticks), over_allowance_j(ticks)
    late_s = [tick_late_s(before, tick) for before, tick in pairwise(ticks)]
    return {
        "happening": name,
        "ticks": len(ticks),
        "scored_ticks": sum(tick.waiting > 0 or tick.draw_w > tick.budget_w for tick in ticks),
        "relative_mae": tracking["relative_mae"],
        "over_budget_j": over.energy_j,
        "over_budget_s": over.time_s,
        "over_budget_share": over.energy_j / energy_j,
        "max_over_fraction": over.max_fraction,
        "over_allowance_j": allowance_j,
        "over_allowance_share": allowance_j / energy_j,
        "unused_while_waiting_share": tracking["unused_while_waiting_j"] / energy_j,
        "settle_p50_s": percentile_s(settles_s, 50) if len(settles_s) else None,
        "settle_p95_s": tracking["settle_p95_s"],
        "held_s": held_s(trace),
        "pjm_score": tracking["pjm_score"],
        "output_tokens": sum(tick.output_tokens for tick in ticks),
        "requests": played.requests,
        "lost": played.requests - answer["completed"],
        "retries": answer["retries"],
        "send_lag_p99_s": answer["p99_send_lag_ms"] / 1000,
        "tick_late_p95_s": float(np.percentile(late_s, 95)),
        "tick_late_max_s": max(late_s),
        **played.machine,
    }


def tick_late_s(before: TickRecord, tick: TickRecord) -> float:
    """Return how late a tick came after the one before, s.

    It was due at the next whole period, however short the window before that was, or sooner: a
    tick of its own for a step counts as late only by what it passed that period by.
    """
    due_s = PERIOD_S * (math.floor((before.t_s + LEAST_WINDOW_S) / PERIOD_S) + 1)
    return max(0.0, tick.t_s - due_s)


def over_allowance_j(ticks: Sequence[TickRecord]) -> float:
    """Return the energy of the windows above what each was allowed, J.

    A window may draw its budget, and for the meter's delay the budget of the window before; a
    meter resolves nothing finer than its windows. The budget of a window is that at its beginning.
    Where the tick that ends it came late by more than the delay, and the budget is lower by then,
    the lower budget applies to that time. `over_budget_j` instead takes the mean draw of a window
    as that of every instant, so energy drawn in the delay counts as over in the whole window.
    """
    over_j = 0.0
    ends = (*ticks[2:], *ticks[-1:])
    for (before, tick), after in zip(pairwise(ticks), ends, strict=False):
        delayed_j = METER_DELAY_S * max(0.0, before.budget_w - tick.budget_w)
        late_s = max(0.0, tick_late_s(before, tick) - METER_DELAY_S)
        missed_j = late_s * max(0.0, tick.budget_w - after.budget_w)
        allowed_j = (tick.t_s - before.t_s) * tick.budget_w + delayed_j - missed_j
        over_j += max(0.0, (tick.t_s - before.t_s) * tick.draw_w - allowed_j)
    return over_j


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets."""
    over_j, lost = (max(row[key] for row in rows) for key in ("over_allowance_j", "lost"))
    return [
        *worst_mae(rows, 0.03),
        at_most("most over budget beyond the meter's delay", over_j, "J", 0.0),
        at_most("requests lost", lost, "requests", 0),
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table(title=f"{REPLICAS} live replicas under a power budget; energy emulated")
    for heading in (
        "happening", "MAE", "over, as simulated", "over, beyond delay", "unused", "half settle",
        "95 % settle", "held", "lost", "tick late", "busy",
    ):  # fmt: skip
        table.add_column(heading)
    for row in rows:
        steps_s = (row["settle_p50_s"], row["settle_p95_s"], row["held_s"])
        table.add_row(
            row["happening"],
            UNKNOWN if row["relative_mae"] is None else f"{row['relative_mae']:.2%}",
            f"{row['over_budget_share']:.3%}, {row['over_budget_s']:.1f} s",
            f"{row['over_allowance_share']:.3%}, {row['over_allowance_j']:.0f} J",
            f"{row['unused_while_waiting_share']:.2%}",
            *("" if time_s is None else f"{time_s:.1f} s" for time_s in steps_s),
            f"{row['lost']} of {row['requests']}",
            f"{1e3 * row['tick_late_p95_s']:.0f} ms",
            f"{row['busy_share']:.0%}",
        )
    Console(width=120).print(table)


def document_of(
    rows: Sequence[dict[str, Any]],
    frontier: Frontier,
    control: ControlSection,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    cores = f"{os.cpu_count()} cores, {live_machine.processor()}"
    return {
        "bench": "live_tracking",
        "commit": source_commit(),
        "hardware": f"{cores}; {REPLICAS} emulated H100",
        "arguments": document.arguments_of(arguments),
        "duration_s": arguments.duration,
        "utilisation": arguments.utilisation,
        "control": control.model_dump(mode="json"),
        "energy_source": "emulated",
        "frontier": frontier.source,
        "versions": versions(),
        "results": list(rows),
        "targets": targets(rows),
    }


def main() -> None:
    """Run, print a table, and then one JSON document."""
    names = [make.__name__ for make in PLAYED]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="frontier and records; a new one when absent")
    parser.add_argument("--duration", type=float, default=120.0, help="length of a happening, s")
    parser.add_argument("--utilisation", type=float, default=1.0, help="load, share of full power")
    parser.add_argument("--happening", action="append", choices=names, help="all when absent")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="steppe-live-"))
    folder.mkdir(parents=True, exist_ok=True)
    frontier = frontier_of(folder, arguments.duration, Console(stderr=True))
    rows = play(arguments, folder, frontier)
    show(rows)
    control = config_of(folder, frontier, arguments.duration).control
    print(json.dumps(document_of(rows, frontier, control, arguments)))


if __name__ == "__main__":
    main()
