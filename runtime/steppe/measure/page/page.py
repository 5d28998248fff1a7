"""The report of a sweep: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from steppe.measure.page.charts import (
    colours,
    energy_chart,
    pace_chart,
    power_by_batch,
    power_by_clock,
)
from steppe.measure.recommend import Recommendation, recommend
from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Phase
from steppe.measure.sweep.summary import PointSummary, pareto, serving


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What the page shows.

    Attributes:
        title: Model and GPU.
        points: Every measured point.
        slo_s: Longest gap between two tokens that the third recommendation allows, s.
        settle_s: Longest wait for the temperature, s.
        rest_w: Draw without work by state of the GPU, W.
        facts: Provenance: label and text.
        is_emulated: Whether the joules are modelled.
        notice: What the numbers are not.
    """

    title: str
    points: tuple[PointSummary, ...]
    slo_s: float
    settle_s: float
    rest_w: Mapping[str, float | None]
    facts: Mapping[str, str]
    is_emulated: bool
    notice: str


def bench_page(report: BenchReport) -> str:
    """Return the page."""
    points = serving(report.points)
    body = [_heading(report)]
    if points:
        chosen = recommend(points, report.slo_s, report.settle_s)
        body += [_advice(chosen, points), _charts(points, chosen, report.slo_s)]
    else:
        body.append("<p class=warn>No sound point was measured; see the flags below.</p>")
    body += [_phases(report.points), _rest(report.rest_w), _table(report.points)]
    body += [_method(), _facts(report)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head><body><main>"
        + "".join(body)
        + "</main></body></html>\n"
    )


def _heading(report: BenchReport) -> str:
    badge = (
        "<p class=warn><b>Emulated.</b> The GPU, its clock and its joules are a model. "
        "Use this page to learn the method, not to judge hardware.</p>"
        if report.is_emulated
        else ""
    )
    return f"<h1>Tokens per joule: {escape(report.title)}</h1>{badge}"


def _advice(chosen: Sequence[Recommendation], points: Sequence[PointSummary]) -> str:
    sample = points[0]
    cards = "".join(_card(recommendation) for recommendation in chosen)
    return (
        "<h2>Which operating point should I choose?</h2>"
        f"<p>For prompts of about {sample.prompt_tokens} and outputs of about "
        f"{sample.output_tokens} tokens, with requests always waiting:</p>"
        f"<div class=cards>{cards}</div>"
    )


def _card(recommendation: Recommendation) -> str:
    letter = f"<b class=letter>{recommendation.letter}</b>"
    point, aim, reason = recommendation.point, recommendation.aim, _with_code(recommendation.reason)
    if point is None:
        return f"<div class=card><h3>{letter} For {aim}</h3><p>{reason}</p></div>"
    pace = "" if point.tpot_s is None else f", a token every {1000 * point.tpot_s:.0f} ms"
    return (
        f"<div class=card><h3>{letter} For {aim}, run at</h3>"
        f"<p class=knobs>{point.name}</p>"
        f"<p>{_with_error(point.energy_per_output_token)} J per token<br>"
        f"{_with_error(point.output_tps)} tokens/s{pace}<br>"
        f"{_with_error(point.draw_w)} W</p><p class=reason>{reason}</p></div>"
    )


def _charts(points: Sequence[PointSummary], chosen: Sequence[Recommendation], slo_s: float) -> str:
    by_clock = _legend("clock limit", "MHz", colours([p.clock_mhz for p in points]))
    by_batch = _legend("batch limit", "", colours([p.batch_limit for p in points]))
    figures = (
        (
            "Energy against speed",
            "Right is faster, down is leaner. The dashed line joins the points that no other beats "
            "on both; every other point wastes energy or time. Crosses: 95 % intervals.",
            energy_chart(points, chosen),
            by_clock,
        ),
        (
            "Time between two tokens of a sequence",
            "Dots: median; lines up to the 99th percentile, prefill of other requests included.",
            pace_chart(points, slo_s),
            by_clock,
        ),
        ("Draw against clock", "", power_by_clock(points), by_batch),
        ("Draw against batch", "", power_by_batch(points), by_clock),
    )
    shown = "".join(
        f"<figure><h3>{title}</h3>{legend}{chart}<figcaption>{text}</figcaption></figure>"
        for title, text, chart, legend in figures
    )
    return f"<div class=figures>{shown}</div>"


def _legend(name: str, unit: str, palette: Mapping[int, str]) -> str:
    swatches = "".join(
        f'<span><i style="background:{colour}"></i>{level}</span>'
        for level, colour in palette.items()
    )
    return f"<p class=legend>{name}{', ' + unit if unit else ''}: {swatches}</p>"


def _phases(points: Sequence[PointSummary]) -> str:
    """Show prefill alone and decode alone, side by side."""
    rows: dict[tuple[int, int], dict[Phase, PointSummary]] = {}
    for point in points:
        if point.phase is not Phase.MIXED and point.is_sound:
            rows.setdefault((point.clock_mhz, point.batch_limit), {})[point.phase] = point
    if not rows:
        return ""
    lines = ""
    for (clock, batch), phases in sorted(rows.items(), reverse=True):
        prefill, decode = phases.get(Phase.PREFILL), phases.get(Phase.DECODE)
        per_prompt = prefill.energy_per_prompt_token if prefill else None
        cells = (
            str(clock or "free"),
            str(batch),
            _with_error(per_prompt) if per_prompt else "–",
            f"{prefill.draw_w.value:.1f}" if prefill else "–",
            _with_error(decode.energy_per_output_token) if decode else "–",
            f"{decode.draw_w.value:.1f}" if decode else "–",
        )
        lines += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    prefill_heads = ("prefill: J per prompt token", "W")
    heads = ("clock, MHz", "batch", *prefill_heads, "decode: J per output token", "W")
    return f"<h2>Prefill and decode apart</h2>{_rows(heads, lines)}"


def _rest(rest_w: Mapping[str, float | None]) -> str:
    known = {name: watts for name, watts in rest_w.items() if watts is not None}
    if not known:
        return ""
    lines = "".join(
        f"<tr><td class=text>{escape(name)}</td><td>{watts:.1f}</td></tr>"
        for name, watts in known.items()
    )
    return f"<h2>Without work</h2>{_rows(('GPU', 'W'), lines)}"


def _table(points: Sequence[PointSummary]) -> str:
    best = {id(point) for point in pareto(serving(points))}
    settings = ("phase", "clock, MHz", "batch", "prompt", "output")
    heads = (*settings, "tokens/s", "J/token", "W", "p50 ms", "p99 ms", "flags")
    lines = ""
    for p in points:
        css = "bad" if not p.is_sound else "best" if id(p) in best else ""
        cells = (
            str(p.clock_mhz or "free"),
            str(p.batch_limit),
            str(p.prompt_tokens),
            str(p.output_tokens),
            _with_error(p.output_tps),
            _with_error(p.energy_per_output_token),
            _with_error(p.draw_w),
            _milliseconds(p.itl_p50_s),
            _milliseconds(p.itl_p99_s),
        )
        row = f"<td class=text>{p.phase}</td>" + "".join(f"<td>{cell}</td>" for cell in cells)
        lines += f"<tr class='{css}'>{row}<td class=text>{escape(', '.join(p.flags))}</td></tr>"
    text = (
        "Bold: no other point beats it. Struck out: a flag forbids its use, and nothing above uses "
        "it. Ranges: 95 % intervals. Other flags only warn."
    )
    return f"<h2>Every point</h2><p>{text}</p>{_rows(heads, lines)}"


def _method() -> str:
    return (
        "<h2>How it was measured</h2><p>Each point was warmed up under a saturating load until "
        "its batch had turned over and the temperature had settled, then metered in windows back "
        "to back. J per token is joules over output tokens of all windows; joules come from the "
        "energy counters of the GPUs. Intervals: percentile bootstrap over the windows, stretched "
        "for their small number, plus the bound of the meter's error. A point is refused when the "
        "GPU throttled or was shared, its clock was not held, its meter stood still, or fewer "
        "sequences ran than the batch limit while none waited.</p>"
    )


def _facts(report: BenchReport) -> str:
    lines = "".join(
        f"<tr><td class=text>{escape(name)}</td><td class=text>{escape(text)}</td></tr>"
        for name, text in report.facts.items()
    )
    table = f"<table class=facts>{lines}</table>"
    return f"<h2>Provenance</h2><p><b>{escape(report.notice)}</b></p>{table}"


def _rows(heads: Sequence[str], lines: str) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _with_error(interval: Interval) -> str:
    if not interval.is_bounded:
        return f"{interval.value:.3g}"
    return f"{interval.value:.3g} <small>{interval.low:.3g}–{interval.high:.3g}</small>"


def _with_code(text: str) -> str:
    """Return text as HTML, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.0f}"


STYLE = """
body{margin:0;background:#f6f7f9;color:#1f2933;font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 28px 60px;background:white}
h1{font-size:26px;margin:8px 0 14px}h2{font-size:19px;margin:34px 0 8px}
h3{font-size:15px;margin:0 0 4px}p{margin:4px 0 10px}
.warn{background:#ffe9b8;color:#6b4300;padding:9px 14px;border-radius:6px}
.cards{display:grid;grid-template-columns:repeat(3,1fr);gap:16px}
.card{border:1px solid #d5dbe1;border-radius:8px;padding:14px 16px}
.letter{color:#b0241c;font-size:19px;margin-right:4px}
.knobs{font-size:20px;font-weight:700;margin:2px 0 6px}.reason{color:#5d6b78;font-size:13.5px}
.figures{display:grid;grid-template-columns:1fr 1fr;gap:26px 30px;margin-top:30px}
figure{margin:0}figcaption{color:#5d6b78;font-size:13.5px}
svg{width:100%;height:auto;font-family:inherit}
.legend{color:#5d6b78;font-size:13px;margin:2px 0}
.legend span{margin-left:10px;white-space:nowrap}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:4px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:3px 11px;text-align:right;border-bottom:1px solid #e4e8ec}
th{color:#5d6b78;font-weight:600}td.text,th:first-child{text-align:left}
small{color:#5d6b78}tr.best td{font-weight:700}
tr.bad td{color:#98a2ad;text-decoration:line-through}
tr.bad td:last-child{text-decoration:none;color:#b0241c}
@media(max-width:800px){.cards,.figures{grid-template-columns:1fr}}
"""
