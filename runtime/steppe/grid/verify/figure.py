"""The figure of an event as inline SVG: baseline, draw and promise, and what was delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from steppe.grid.verify.delivery import Direction
from steppe.grid.verify.report import EventReport
from steppe.ledger.statements.amounts import grouped_text
from steppe.ledger.tariff import divided

STEP, HEIGHT = 10, 1000
MOST_STEPS = 600
"""More intervals than these are shown as means of several."""
MOST_TICKS = 8
_TICKS_S = (
    1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
)  # fmt: skip
_NICE = (1, 2, 3, 4, 5, 6, 8)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STYLE = """
.band{fill:var(--tile)}.given{fill:var(--green);background:var(--green);opacity:.28}
svg .line{fill:none;stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.load{stroke:var(--output)}.base{stroke:var(--muted);stroke-dasharray:6 4}
.promised{stroke:var(--other)}
.key i.line{height:0;border-top:2px solid;vertical-align:middle}
.key i.load{border-color:var(--output)}.key i.base{border-color:var(--muted);border-style:dashed}
.key i.promised{border-color:var(--other)}
figure .plot{height:260px}
@media print{figure .plot{height:190px}}
"""
"""What the style sheet of a statement lacks."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the lines, W; None where there is no value."""

    baseline_w: int
    load_w: int | None
    promised_w: int | None


def figure_html(report: EventReport) -> str:
    """Return the figure as an HTML element."""
    steps, size_s = _steps(report)
    values = [w for s in steps for w in (s.baseline_w, s.load_w, s.promised_w) if w is not None]
    low, high = min(0, *values), max(1, *values)
    top, bottom = _round_above(high), -_round_above(-low) if low else 0
    width = len(steps) * STEP
    begin_s = report.times.start_s - report.times.before_s
    event = [_x(time_s - begin_s, size_s) for time_s in (report.times.start_s, report.times.end_s)]

    def y(watts: int) -> int:
        return HEIGHT * (top - watts) // (top - bottom)

    given = "".join(
        f"M{n * STEP} {y(s.baseline_w)}h{STEP}V{y(s.load_w)}h-{STEP}z"
        for n, s in enumerate(steps)
        if s.load_w is not None
        and s.promised_w is not None
        and report.direction.change_w(s.baseline_w, s.load_w) > 0
    )
    lines = (
        ("base", "baseline", [s.baseline_w for s in steps]),
        ("promised", "promised level", [s.promised_w for s in steps]),
        ("load", "drawn", [s.load_w for s in steps]),
    )
    paths = "".join(
        f'<path class="line {style}" d="{_line(watts, y)}"/>' for style, _, watts in lines
    )
    keys = "".join(
        f'<span class="key"><i class="line {style}"></i>{label}</span>' for style, label, _ in lines
    )
    return (
        f"<figure><h2>Power of the {report.boundary}, {_unit(top)[0]}</h2>"
        f'<div class="legend">{keys}<span class="key"><i class="given"></i>delivered</span></div>'
        f'<div class="plot">{_ups(top, bottom)}<svg viewBox="0 0 {width} {HEIGHT}" '
        'preserveAspectRatio="none" role="img" aria-label="Power before, in and after the event">'
        f'<path class="band" d="M{event[0]} 0H{event[1]}V{HEIGHT}H{event[0]}z"/>'
        f'<path class="rule" d="M0 0H{width}M0 {y(0)}H{width}M0 {HEIGHT}H{width}"/>'
        f'<path class="given" d="{given}"/>{paths}</svg>{_alongs(report, begin_s)}</div>'
        f"<figcaption>{_caption(report, size_s)}</figcaption></figure>"
    )


def _steps(report: EventReport) -> tuple[list[_Step], int]:
    """Return the steps of the lines, and how long each is, s."""
    sign = -1 if report.direction is Direction.LESS else 1
    steps = [
        *(_Step(p.baseline_w, p.load_w, None) for p in report.before),
        *(_Step(r.baseline_w, r.load_w, r.baseline_w + sign * r.committed_w) for r in report.rows),
        *(_Step(p.baseline_w, p.load_w, None) for p in report.after),
    ]
    each = -(-len(steps) // MOST_STEPS)
    grouped = [_mean(steps[n : n + each]) for n in range(0, len(steps), each)]
    return grouped, each * report.interval_s


def _round_above(most_w: int) -> int:
    """Return a round, even number that is not below `most_w`."""
    scale = 2
    while True:
        for nice in _NICE:
            if nice * scale >= most_w:
                return nice * scale
        scale *= 10


def _mean(steps: Sequence[_Step]) -> _Step:
    base_w = divided(sum(step.baseline_w for step in steps), len(steps))
    return _Step(
        base_w,
        _mean_of([step.load_w for step in steps]),
        _mean_of([step.promised_w for step in steps]),
    )


def _mean_of(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return divided(sum(known), len(known)) if known else None


def _line(watts: Sequence[int | None], y: Callable[[int], int]) -> str:
    """Return the path of a line of steps; it is broken where there is no value."""
    parts: list[str] = []
    before: int | None = None
    for number, each in enumerate(watts):
        if each is not None:
            parts.append(f"{'M' if before is None else 'L'}{number * STEP} {y(each)}h{STEP}")
        before = each
    return "".join(parts)


def _ups(top: int, bottom: int) -> str:
    """Return the labels beside the plot."""
    _, digits = _unit(top)
    marks = {top, 0, bottom} if bottom else {top, top // 2, 0}
    return "".join(
        f'<span class="up" style="bottom:{100 * (mark - bottom) // (top - bottom)}%">'
        f"{watts_text(mark, digits)}</span>"
        for mark in sorted(marks)
    )


def _alongs(report: EventReport, begin_s: int) -> str:
    """Return the labels below the plot: local times."""
    end_s = report.times.end_s + report.times.after_s
    every_s = next((t for t in _TICKS_S if (end_s - begin_s) // t < MOST_TICKS), _TICKS_S[-1])
    offset_s = report.utc_offset_s
    first_s = -(-(begin_s + offset_s) // every_s) * every_s - offset_s
    return "".join(
        f'<span class="along" style="left:{1000 * (at_s - begin_s) // (end_s - begin_s) / 10}%">'
        f"{time_text(at_s, offset_s, with_seconds=every_s < 60)}</span>"
        for at_s in range(first_s, end_s, every_s)
    )


def _caption(report: EventReport, step_s: int) -> str:
    each = f" Each step is the mean of {step_s} s." if step_s > report.interval_s else ""
    return (
        f"The shaded time is the event. Times are local (UTC{report.utc_offset_s / 3600:+g}). "
        f"Energy source: {report.energy_source}.{each}"
    )


def _x(since_s: int, step_s: int) -> int:
    return STEP * since_s // step_s


def _unit(most_w: int) -> tuple[str, int]:
    """Return the unit that suits a power, and how many decimal digits of it a watt is."""
    if most_w < 10_000:
        return "W", 0
    return ("kW", 3) if most_w < 10_000_000 else ("MW", 6)


def watts_text(watts: int, digits: int) -> str:
    """Return a power in the unit of which a watt is the last of some decimal digits."""
    text = grouped_text(watts, digits)
    return text.rstrip("0").rstrip(".") if digits else text


def time_text(time_s: int, utc_offset_s: int, *, with_seconds: bool = False) -> str:
    """Return the local time of day."""
    local = _EPOCH + timedelta(seconds=time_s + utc_offset_s)
    return f"{local:%H:%M:%S}" if with_seconds else f"{local:%H:%M}"
