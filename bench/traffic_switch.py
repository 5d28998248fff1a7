"""How long a policy needs to serve well again after the traffic has changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

import policies
import traffic_fleets
from bench_fleets import Bench
from policy_table import OURS, SAVING
from steppe.config.load import TrafficName
from steppe.control.policy.make import make_policy
from steppe.report.latency import within_slo
from steppe.report.quantities import UNKNOWN
from steppe.report.records import RequestRecord, Slo
from steppe.report.summary import summarise
from targets import at_most

BEFORE: TrafficName = "conversation"
AFTER: TrafficName = "summaries"
WINDOW_S, GOOD_SHARE, MOST_S = 10.0, 0.95, 60.0
"""Requests are judged in windows of their arrival; a window is good at this attainment; and after
so many seconds all of them should be, s."""
Row = dict[str, Any]


def switch_row(bench: Bench, policy: str) -> Row:
    """Let a policy serve a traffic that changes half-way, with more watts than it can draw."""
    duration_s = bench.config.sim.duration_s
    at_s = duration_s / 2
    loaded = traffic_fleets.switched(bench, BEFORE, AFTER, at_s)
    most_w = max(traffic_fleets.capacity_of(bench, name).draw_w for name in (BEFORE, AFTER))
    budget = policies.budget_of(traffic_fleets.ample(most_w, duration_s))
    control = policies.control_of(loaded, policy)
    made = make_policy(policies.facts_of(loaded, control, budget))
    totals, records = policies.simulate(loaded, made, control, budget)
    summary = summarise(records.ticks, records.requests, totals, loaded.slo)
    windows = attainment_by_window(records.requests, loaded.slo, duration_s)
    return {
        "policy": policy,
        "before": BEFORE,
        "after": AFTER,
        "at_s": at_s,
        "recovered_s": recovery_s(windows, at_s),
        "slo_attainment": summary["slo_attainment"],
        "energy_j": summary["energy_j"],
        "ttft_p95_s": summary["latency"]["ttft_s"]["p95"],
        "window_s": WINDOW_S,
        "attainment": windows,
    }


def attainment_by_window(
    requests: Iterable[RequestRecord], slo: Slo, duration_s: float
) -> list[float | None]:
    """Return the SLO attainment of the requests that arrive in each window; None without any."""
    count = math.ceil(duration_s / WINDOW_S)
    good, judged = [0] * count, [0] * count
    for request in requests:
        within = within_slo(request, slo)
        if within is not None:
            window = int(request.arrival_s // WINDOW_S)
            good[window] += within
            judged[window] += 1
    return [g / j if j else None for g, j in zip(good, judged, strict=True)]


def recovery_s(windows: Sequence[float | None], at_s: float) -> float | None:
    """Return the time from a change until every later window is good, s.

    It is counted to the end of the last window that is not; 0 if there is none. None if the last
    window of the run is still not good.
    """
    bad = [
        index
        for index, attained in enumerate(windows)
        if attained is not None and attained < GOOD_SHARE and (index + 1) * WINDOW_S > at_s
    ]
    known = [index for index, attained in enumerate(windows) if attained is not None]
    if not bad:
        return 0.0
    if bad[-1] == known[-1]:
        return None
    return (bad[-1] + 1) * WINDOW_S - at_s


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return the target of each of our policies; one that never recovers misses it by the run."""
    return [
        at_most(
            f"{row['policy']}: back within the SLO after {AFTER} follow {BEFORE}",
            row["at_s"] if row["recovered_s"] is None else row["recovered_s"],
            "s",
            MOST_S,
        )
        for row in rows
        if row["policy"] in (OURS, SAVING)
    ]


def show(rows: Sequence[Row]) -> None:
    """Print the table for people."""
    table = Table(title=f"{BEFORE}, then {AFTER}, with ample power; simulated, energy modelled")
    for heading in ("policy", "back within the SLO after", "SLO", "MJ", "TTFT p95"):
        table.add_column(heading)
    for row in rows:
        recovered, ttft_s = row["recovered_s"], row["ttft_p95_s"]
        table.add_row(
            row["policy"],
            "not in the run" if recovered is None else f"{recovered:.0f} s",
            f"{row['slo_attainment']:.1%}",
            f"{row['energy_j'] / 1e6:.2f}",
            UNKNOWN if ttft_s is None else f"{ttft_s:.2f} s",
        )
    Console(width=120).print(table)
