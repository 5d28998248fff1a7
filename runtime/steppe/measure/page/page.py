"""The report of a sweep: one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

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
from steppe.measure.page.page_point import BenchPoint, Choice, Span, choices, pareto, serving
from steppe.measure.page.style import STYLE


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What the page shows.

    Attributes:
        title: Model and GPU.
        points: Every measured point.
        slo_s: Longest gap between two tokens that the third choice allows, s.
        rest_w: Watts without work, by what the GPU was doing.
        facts: Provenance: label and text.
        is_emulated: Whether the joules are modelled.
        notice: What the numbers must not be taken for.
    """

    title: str
    points: tuple[BenchPoint, ...]
    slo_s: float
    rest_w: Mapping[str, float | None]
    facts: Mapping[str, str]
    is_emulated: bool
    notice: str


def bench_page(report: BenchReport) -> str:
    """Return the page."""
    points = serving(report.points)
    body = [_heading(report)]
    if points:
        chosen = choices(points, report.slo_s)
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


def _advice(chosen: Sequence[Choice], points: Sequence[BenchPoint]) -> str:
    sample = points[0]
    cards = "".join(_card(choice) for choice in chosen)
    return (
        "<h2>Which operating point should I choose?</h2>"
        f"<p>For prompts of about {sample.prompt_tokens} and outputs of about "
        f"{sample.output_tokens} tokens, with requests always waiting:</p>"
        f"<div class=cards>{cards}</div>"
    )


def _card(choice: Choice) -> str:
    letter = f"<b class=letter>{choice.letter}</b>"
    point = choice.point
    if point is None:
        return f"<div class=card><h3>{letter} For {choice.aim}</h3><p>{choice.why}</p></div>"
    knob = f"{point.clock_mhz} MHz, " if point.clock_mhz else ""
    pace = "" if point.tpot_s is None else f", a token every {1000 * point.tpot_s:.0f} ms"
    return (
        f"<div class=card><h3>{letter} For {choice.aim}, run at</h3>"
        f"<p class=knobs>{knob}batch limit {point.batch_limit}</p>"
        f"<p>{_with_error(point.energy_per_output_token)} J per token<br>"
        f"{_with_error(point.output_tps)} tokens/s{pace}<br>"
        f"{_with_error(point.draw_w)} W</p><p class=why>{choice.why}</p></div>"
    )


def _charts(points: Sequence[BenchPoint], chosen: Sequence[Choice], slo_s: float) -> str:
    by_clock = _legend("clock limit", "MHz", colours([p.clock_mhz for p in points]))
    by_batch = _legend("batch limit", "", colours([p.batch_limit for p in points]))
    figures = (
        (
            "Energy against speed",
            "Right is faster, down is leaner. On the dashed line lie the points that no other "
            "beats on both; everything off it wastes energy or time. Crosses: 95 % intervals.",
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


def _phases(points: Sequence[BenchPoint]) -> str:
    """Show prefill alone and decode alone, side by side."""
    rows: dict[tuple[int, int], dict[str, BenchPoint]] = {}
    for point in points:
        if point.phase != "mixed" and point.is_sound:
            rows.setdefault((point.clock_mhz, point.batch_limit), {})[point.phase] = point
    if not rows:
        return ""
    lines = ""
    for (clock, batch), found in sorted(rows.items(), reverse=True):
        prefill, decode = found.get("prefill"), found.get("decode")
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


def _table(points: Sequence[BenchPoint]) -> str:
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
        "Bold: no other point beats it. Struck out: a flag forbids its use, and it is used nowhere "
        "above. Other flags only warn."
    )
    return f"<h2>Every point</h2><p>{text}</p>{_rows(heads, lines)}"


def _method() -> str:
    return (
        "<h2>How it was measured</h2><p>Each point was warmed up under a saturating load until "
        "its batch had turned over and the temperature stood, then metered in windows back to "
        "back. J per token is joules over output tokens of all windows; joules come from the "
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
    return f"<h2>What it rests on</h2><p><b>{escape(report.notice)}</b></p>{table}"


def _rows(heads: Sequence[str], lines: str) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _with_error(span: Span) -> str:
    if not span.is_bounded:
        return f"{span.value:.3g}"
    return f"{span.value:.3g} <small>± {(span.high - span.low) / 2:.2g}</small>"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.0f}"
