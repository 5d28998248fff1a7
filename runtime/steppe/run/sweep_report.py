"""What follows from the results of a sweep: tables, frontier, report, and a word at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from steppe.errors import InfeasibleError
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.measure.interchange import write_ml_energy
from steppe.measure.page.charts import describe
from steppe.measure.page.page import BenchReport, bench_page
from steppe.measure.page.page_point import Choice, choices, serving
from steppe.measure.sweep.export import PARQUET_FILE, bench_points, write_parquet
from steppe.measure.sweep.frontier import Offer, frontier_from
from steppe.measure.sweep.store import SweepResults

REPORT_FILE = "report.html"
FRONTIER_FILE = "frontier.yaml"


def conclude(
    results: SweepResults, offer: Offer | None, slo_s: float, console: Console
) -> dict[str, Any]:
    """Write everything that follows from results beside them, and return it as one document.

    Args:
        results: The sweep.
        offer: Points to offer in the frontier, see `frontier_from`.
        slo_s: Longest gap between two tokens of the third choice, s.
        console: Where to say which point to choose.
    """
    out, head = results.path.parent, results.head
    write_parquet(results, out / PARQUET_FILE)
    write_ml_energy(out / "mlenergy", results, task="steppe-sweep")
    (out / REPORT_FILE).write_text(bench_page(report_of(results, slo_s)))
    try:
        frontier = frontier_from(results.points, head.rest, head.provenance.energy_source, offer)
        gpus = ", ".join(sorted(set(head.provenance.gpus)))
        write_frontier(
            frontier, out / FRONTIER_FILE, FrontierSubject(head.provenance.model, gpus or None)
        )
    except InfeasibleError as error:
        console.print(f"[red]no {FRONTIER_FILE}: {error}[/red]")
    points = bench_points(results)
    found = choices(serving(points), slo_s) if serving(points) else ()
    for choice in found:
        console.print(_line(choice), highlight=False)
    flagged = len(results.points) - len(results.sound)
    console.print(f"{len(results.points)} points, {flagged} of them unsound: {out / REPORT_FILE}")
    return {
        "out": str(out),
        "provenance": asdict(head.provenance),
        "rest": asdict(head.rest),
        "points": [asdict(point) for point in points],
        "choices": [asdict(choice) for choice in found],
    }


def _line(choice: Choice) -> str:
    found = choice.why if choice.point is None else describe(choice.point)
    return f"[bold]{choice.letter}[/bold]  for {choice.aim}: {found}"


def report_of(results: SweepResults, slo_s: float) -> BenchReport:
    """Return what the page shows of a sweep."""
    head = results.head
    cards = ", ".join(sorted(set(head.provenance.gpus))) or "unknown GPU"
    emulated = head.provenance.energy_source == "emulated"
    rest = {
        "bare: no process on it": head.rest.bare_w,
        "an engine loaded, no request, clock free": head.rest.loaded_idle_w,
        "the same at the lowest clock limit": head.rest.floor_idle_w,
        "the engine asleep at the lowest clock limit": head.rest.asleep_w,
    }
    return BenchReport(
        title=f"{head.provenance.model} on {cards}{' (emulated)' if emulated else ''}",
        points=bench_points(results),
        slo_s=slo_s,
        rest_w=rest,
        facts=_facts(results),
        is_emulated=emulated,
        notice=head.provenance.notice,
    )


def _facts(results: SweepResults) -> Mapping[str, str]:
    provenance, plan = results.head.provenance, results.head.plan
    heats = [point.gpu.end_c for point in results.points if point.gpu.end_c is not None]
    period_s = provenance.counter_period_s
    every = f", updated every {1000 * period_s:.0f} ms" if period_s else ""
    return {
        "boundary": f"{provenance.boundary}: the boards alone, no host, no cooling",
        "energy source": provenance.energy_source,
        "meter": provenance.meter + every,
        "GPUs": ", ".join(provenance.gpus),
        "UUIDs": ", ".join(provenance.uuids),
        "driver": provenance.driver,
        "temperatures": f"{min(heats)} to {max(heats)} °C" if heats else "not seen",
        "model": provenance.model,
        "engine": provenance.engine,
        "windows": f"{plan['windows']} of {plan['window_s']:g} s for each point",
        "seed": str(provenance.seed),
        "host": provenance.host,
        "versions": ", ".join(f"{name} {release}" for name, release in provenance.versions.items()),
        "commit": provenance.commit or "not a checkout",
    }
