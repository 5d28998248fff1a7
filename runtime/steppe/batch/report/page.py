"""A report as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from steppe.batch.report.charts import Area, Chart, Line, chart_html
from steppe.batch.report.explained import EXPLAINED
from steppe.batch.report.job_report import JobReport
from steppe.batch.report.page_style import STYLE
from steppe.batch.report.shown import utc
from steppe.report.quantities import UNKNOWN, count, quantity, share, source_text, span

_NOT_MEASURED = ("emulated", "estimated", "modelled")
"""Sources of joules that are named beside every joule."""


def html_page(report: JobReport) -> str:
    """Return a report as an HTML document with its style and figures inside."""
    title = f"Batch job {report.job.id}"
    parts = [
        _heading(report),
        _tiles(report),
        chart_html(_power_chart(report)),
        _sources(report),
        chart_html(_pace_chart(report)),
        _table("The job", _job_lines(report)),
        _reasons(report),
        _explained(),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{chr(10).join(part for part in parts if part)}\n</body></html>\n"
    )


def _tag(source: str) -> str:
    """Return what stands beside joules that no meter read."""
    return f'<span class="tag">{escape(source)}</span>' if source in _NOT_MEASURED else ""


def _heading(report: JobReport) -> str:
    job, source = report.job, report.sums.energy_source
    per_joule = report.output_tokens_per_joule
    headline = "no energy was metered" if per_joule is None else f"{per_joule:.3g} tokens per joule"
    notice = f'<p class="notice">energy {source_text(source)}</p>' if _tag(source) else ""
    state = str(job.state).replace("_", " ")
    so_far = "" if job.state.ended else ", so far"
    return (
        f'<p class="muted">Batch job {escape(job.id)}: {escape(job.model or "several models")}, '
        f"{state}{so_far}</p><h1>{headline}{_tag(source)}</h1>{notice}"
    )


def _tiles(report: JobReport) -> str:
    sums, times, shares, tag = report.sums, report.times, report.shares, _tag(_source(report))
    counts, wasted = report.counts, share(report.wasted_share)
    energy_j, wasted_j = (sums.energy_j, sums.wasted_j) if sums.metered else (None, None)
    renewable = surplus = UNKNOWN
    if shares is not None:
        renewable, surplus = share(shares.renewable) + tag, share(shares.surplus) + tag
    tiles = (
        ("Energy", quantity(energy_j, "J") + tag, f"boundary: {sums.boundary or UNKNOWN}"),
        ("Per row", quantity(report.joules_per_row, "J") + tag, "mean of the rows with energy"),
        (
            "Wasted",
            quantity(wasted_j, "J") + tag,
            f"{wasted} of all; {sums.retried} rows tried again",
        ),
        ("Renewable", renewable, "of its joules, from the supply"),
        ("From surplus", surplus, "of its joules, after all other draw"),
        ("Waited", span(times.waited_s), f"of {span(times.lasted_s)}; no row ran"),
        (
            "Rows",
            count(counts.completed),
            f"of {count(counts.total)}, {count(counts.failed)} failed",
        ),
        ("Output tokens", count(sums.output_tokens), f"{count(sums.prompt_tokens)} prompt tokens"),
    )
    return '<div class="tiles">' + "".join(_tile(*each) for each in tiles) + "</div>"


def _tile(name: str, value: str, note: str) -> str:
    number, *tag = value.split("<", 1)
    value = "<".join((number.replace(" ", "\u00a0"), *tag))
    return (
        f'<div class="tile"><span class="name">{escape(name)}</span><b>{value}</b>'
        f"<small>{escape(note)}</small></div>"
    )


def _power_chart(report: JobReport) -> Chart:
    series, source = report.series, report.sums.energy_source
    zero = np.zeros(len(series.batch_w))
    interactive = np.nan_to_num(series.interactive_w)
    draw = np.where(np.isfinite(series.draw_w), series.draw_w, np.nan)
    above = np.maximum(draw, series.batch_w + interactive)
    has_supply = bool(np.isfinite(series.renewable_w).any())
    layers: list[Area | Line] = []
    if has_supply:
        bought = np.nan_to_num(series.bought_w)
        top = series.renewable_w + bought
        layers.append(Area("renewable supply", "supply", zero, series.renewable_w))
        if bought.any():
            layers.append(Area("bought power", "bought", series.renewable_w, top))
    layers.append(Area("this job", "batch", zero, series.batch_w))
    if has_supply:
        top = series.batch_w + interactive
        layers.append(Area("other classes", "interactive", series.batch_w, top))
        layers.append(Area("other jobs and idle", "idle", top, above))
        layers.append(Line("budget of the GPUs", "budget", series.budget_w))
    note = "" if has_supply else " The gateway did not give its supply and draw."
    text = escape(source_text(source) if source else "not metered")
    caption = (
        f"Draw of the GPUs by what caused it, {series.step_s:.3g} s a step.{note} "
        f"Joules and watts: {text}{_tag(source)}"
    )
    edges_s = series.edges_s - series.edges_s[0]
    return Chart("Supply, budget and draw", caption, edges_s, layers, lambda w: quantity(w, "W"))


def _pace_chart(report: JobReport) -> Chart:
    series = report.series
    edges_s = series.edges_s - series.edges_s[0]
    rate = Line("output tokens per second", "pace", series.output_tps)
    caption = f"{count(report.counts.finished)} of {count(report.counts.total)} rows had ended."
    title = "Output tokens per second"
    return Chart(title, caption, edges_s, [rate], lambda v: f"{v:,.4g}", is_low=True)


def _sources(report: JobReport) -> str:
    """Return two bars: the surplus in the joules of the job, and of the job run at once."""
    shares, would = report.shares, report.at_once
    if shares is None or would is None:
        return ""
    ran = f"As it ran: {share(shares.surplus)} from surplus"
    at_once = "Run at once: the supply of that time is not known"
    if would.surplus is not None:
        uncovered = quantity(would.uncovered_j, "J")
        at_once = f"Run at once: {share(would.surplus)} from surplus, {uncovered} not"
    tag = _tag(_source(report))
    caption = (
        "Green: joules that the supply covered after all other draw. At once: the same "
        f"{quantity(would.energy_j, 'J')}{tag} at {quantity(would.draw_w, 'W')}{tag}, from the "
        f"moment the job was made, for {span(would.runs_s)}. Supply and draw were known for "
        f"{share(shares.known)} of its joules, and for {share(would.known)} of the time at once."
    )
    return (
        "<figure><h2>What waiting changed</h2>"
        f"<p>{ran}{tag}</p>{_bar(shares.surplus)}<p>{at_once}{tag}</p>{_bar(would.surplus)}"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _bar(value: float | None) -> str:
    return f'<div class="bar"><i style="width:{100 * (value or 0.0):.1f}%"></i></div>'


def _job_lines(report: JobReport) -> Iterable[tuple[str, str]]:
    job, times, sums = report.job, report.times, report.sums
    tag = _tag(_source(report))
    yield "Model", escape(job.model or "several")
    if job.tenant:
        yield "Tenant", escape(job.tenant)
    yield "Input", escape(job.input)
    yield "Runs when", escape(str(job.when))
    yield "Made", utc(times.created_epoch_s)
    yield "First row", UNKNOWN if times.begun_epoch_s is None else utc(times.begun_epoch_s)
    yield "Ended" if job.state.ended else "Report of", utc(times.ended_epoch_s)
    if times.deadline_epoch_s is not None:
        late = times.ended_epoch_s > times.deadline_epoch_s
        missed = ' <span class="bad">missed</span>' if late else ""
        yield "Deadline", utc(times.deadline_epoch_s) + missed
    yield "Prompt tokens", f"{count(sums.prompt_tokens)}, cached {count(sums.cached_tokens)}"
    yield (
        "Energy source",
        escape(source_text(sums.energy_source)) if sums.energy_source else UNKNOWN,
    )
    if sums.metered:
        yield "Energy with the wasted", quantity(sums.energy_j + sums.wasted_j, "J") + tag
    for name, value in job.metadata.items():
        yield escape(name), escape(value)


def _reasons(report: JobReport) -> str:
    lines = [(escape(reason), count(rows)) for reason, rows in report.top_reasons]
    return _table("Rows that failed", lines) if lines else ""


def _table(title: str, lines: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in lines)
    return f"<h2>{title}</h2><table>{rows}</table>"


def _explained() -> str:
    terms = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in EXPLAINED.items())
    return f"<h2>How the numbers are found</h2><dl>{terms}</dl>"


def _source(report: JobReport) -> str:
    return report.sums.energy_source
