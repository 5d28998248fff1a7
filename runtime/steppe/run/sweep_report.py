"""Tables, frontier, report and recommendations from the results of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from steppe.errors import InfeasibleError
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.measure.interchange import write_ml_energy
from steppe.measure.page.charts import describe
from steppe.measure.page.page import BenchReport, bench_page
from steppe.measure.recommend import Recommendation, recommend
from steppe.measure.sweep.frontier import Offer, frontier_from, provenance_of_fit
from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.store import SweepResults, write_parquet
from steppe.measure.sweep.summary import serving, summarize

REPORT_FILE = "report.html"
FRONTIER_FILE = "frontier.yaml"


@dataclass(frozen=True, slots=True)
class SweptLoad:
    """What was swept, and with which requests.

    Attributes:
        subject: Model and GPUs.
        offer: Points to offer in the frontier, see `frontier_from`.
        sample: Lengths of the requests, if they come from a trace.
    """

    subject: FrontierSubject
    offer: Offer | None
    sample: LengthSample | None


def conclude(
    results: SweepResults, load: SweptLoad, slo_s: float, console: Console
) -> dict[str, Any]:
    """Write tables, frontier and report beside the results, and return all as one document.

    Args:
        results: The sweep.
        load: Its subject and requests.
        slo_s: Longest gap between two tokens of the third recommendation, s.
        console: Takes the recommendations.
    """
    out, head = results.path.parent, results.head
    report = report_of(results, slo_s)
    write_parquet(results)
    write_ml_energy(out / "mlenergy", results, task="steppe-sweep")
    (out / REPORT_FILE).write_text(bench_page(report))
    try:
        source = head.provenance.energy_source
        swept = frontier_from(results.points, head.rest, source, load.offer, load.sample)
        found = provenance_of_fit(swept) | _trace_values(load.sample)
        write_frontier(swept.frontier, out / FRONTIER_FILE, load.subject, found or None)
        for line in swept.refused or (_costs_line(swept.frontier),):
            console.print(line, highlight=False, soft_wrap=True)
    except InfeasibleError as error:
        console.print(f"[red]no {FRONTIER_FILE}: {error}[/red]")
    candidates = serving(report.points)
    recommendations = recommend(candidates, slo_s, report.settle_s) if candidates else ()
    for recommendation in recommendations:
        console.print(_line(recommendation), highlight=False, soft_wrap=True)
    flagged = len(results.points) - len(results.sound)
    console.print(f"{len(results.points)} points, {flagged} of them unsound: {out / REPORT_FILE}")
    return {
        "out": str(out),
        "provenance": asdict(head.provenance),
        "rest": asdict(head.rest),
        **_trace_values(load.sample),
        "points": [asdict(point) for point in report.points],
        "recommendations": [asdict(recommendation) for recommendation in recommendations],
    }


def _trace_values(sample: LengthSample | None) -> dict[str, Any]:
    """Return the trace of the requests and the mean request, as JSON values; nothing without."""
    if sample is None:
        return {}
    values = {
        "file": sample.source,
        "requests": sample.requests,
        "sampled": len(sample.pairs),
        "shortened": sample.shortened,
        "sample": sample.digest,
        "prompt_tokens": sample.lengths.prompt_tokens,
        "output_tokens": sample.lengths.output_tokens,
    }
    return {"trace": values}


def _costs_line(frontier: Frontier) -> str:
    """Return what the frontier holds on requests of other lengths."""
    costs = frontier.costs
    if costs is None:
        return (
            "costs of a step: unknown; they need prefill alone, decode alone and two batch limits "
            "of mixed load at one clock or more"
        )
    return (
        f"costs of a step at {len(costs.clocks)} clocks: median error {costs.time_error:.1%} of "
        f"the time, {costs.energy_error:.1%} of the energy"
    )


def _line(recommendation: Recommendation) -> str:
    point = recommendation.point
    text = recommendation.reason if point is None else describe(point)
    return f"[bold]{recommendation.letter}[/bold]  for {recommendation.aim}: {text}"


def report_of(results: SweepResults, slo_s: float) -> BenchReport:
    """Return the contents of a sweep's page."""
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
        points=summarize(results.points),
        slo_s=slo_s,
        settle_s=head.plan.get("longest_settle_s", MeasurePlan().longest_settle_s),
        rest_w=rest,
        facts=_facts(results),
        is_emulated=emulated,
        notice=head.provenance.notice,
    )


def _requests(plan: Mapping[str, Any]) -> str:
    sample = plan.get("sample")
    if sample is None:
        return "lengths uniform from 1 to twice the mean"
    return f"{len(sample['pairs'])} of the {sample['requests']} of {sample['source']}"


def _facts(results: SweepResults) -> Mapping[str, str]:
    provenance, plan = results.head.provenance, results.head.plan
    temperatures = [p.gpu.end_c for p in results.points if p.gpu.end_c is not None]
    period_s = provenance.counter_period_s
    every = f", updated every {1000 * period_s:.0f} ms" if period_s else ""
    return {
        "boundary": f"{provenance.boundary}: the boards alone, no host, no cooling",
        "energy source": provenance.energy_source,
        "meter": provenance.meter + every,
        "GPUs": ", ".join(provenance.gpus),
        "UUIDs": ", ".join(provenance.uuids),
        "driver": provenance.driver,
        "temperatures": (
            f"{min(temperatures)} to {max(temperatures)} °C" if temperatures else "unknown"
        ),
        "model": provenance.model,
        "engine": provenance.engine,
        "windows": f"{plan['windows']} of {plan['window_s']:g} s for each point",
        "requests": _requests(plan),
        "seed": str(provenance.seed),
        "host": provenance.host,
        "versions": ", ".join(f"{name} {release}" for name, release in provenance.versions.items()),
        "commit": provenance.commit or "not a checkout",
    }
