"""The charts of a sweep's report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steppe.measure.page.svg import INK, Axis, Chart, linear_axis, log_axis
from steppe.measure.recommend import Recommendation
from steppe.measure.statistics import Interval
from steppe.measure.sweep.summary import PointSummary, pareto

FACTORS_FROM = 3.0
"""From this ratio on, energies have a logarithmic axis."""
BADGE, SLO_INK = "#b0241c", "#b0541a"
# From slow (blue) to fast (orange), readable without colour vision.
_RAMP = ("#2c5f9e", "#3f8fb5", "#4fae9b", "#9db24a", "#e0a02c", "#d9692a", "#a83a3a", "#6d2a54")

Value = Callable[[PointSummary], float | None]


def colours(levels: Sequence[int]) -> dict[int, str]:
    """Return a colour for each level, from low to high."""
    ordered = sorted(set(levels))
    if len(ordered) == 1:
        return {ordered[0]: _RAMP[0]}
    last = len(_RAMP) - 1 if len(ordered) > 5 else 5
    return {
        level: _RAMP[round(place * last / (len(ordered) - 1))]
        for place, level in enumerate(ordered)
    }


def energy_chart(points: Sequence[PointSummary], chosen: Sequence[Recommendation]) -> str:
    """Return joules per token against tokens per second, with the Pareto set and error bars."""
    tps = [end for p in points for end in _ends(p.output_tps)]
    joules = [end for p in points for end in _ends(p.energy_per_output_token)]
    middle = [p.energy_per_output_token.value for p in points]
    is_wide = max(middle) > FACTORS_FROM * min(middle) and min(joules) > 0
    y_axis = (
        log_axis("joules per token", joules) if is_wide else linear_axis("joules per token", joules)
    )
    chart = Chart(linear_axis("tokens per second", tps), y_axis)
    best = pareto(points)
    chart.line(
        [(p.output_tps.value, p.energy_per_output_token.value) for p in best], INK, 1.8, "6 4"
    )
    palette = colours([p.clock_mhz for p in points])
    for point in points:
        colour = palette[point.clock_mhz]
        x, y = point.output_tps, point.energy_per_output_token
        (x_low, x_high), (y_low, y_high) = _ends(x), _ends(y)
        chart.whisker((x.value, y_low), (x.value, y_high), colour)
        chart.whisker((x_low, y.value), (x_high, y.value), colour)
        chart.dot(x.value, y.value, colour, describe(point))
    _mark(chart, chosen, lambda p: (p.output_tps.value, p.energy_per_output_token.value))
    return chart.render("joules per token against tokens per second")


def power_by_clock(points: Sequence[PointSummary]) -> str:
    """Return draw against the clock limit, a line for each batch limit."""
    return _lines(points, lambda p: p.clock_mhz, "clock limit, MHz", lambda p: p.batch_limit)


def power_by_batch(points: Sequence[PointSummary]) -> str:
    """Return draw against the batch limit, a line for each clock limit."""
    return _lines(points, lambda p: p.batch_limit, "batch limit", lambda p: p.clock_mhz)


def pace_chart(points: Sequence[PointSummary], slo_s: float) -> str:
    """Return the gap between tokens against the batch limit, with the SLO: median and p99."""
    batches = sorted({p.batch_limit for p in points})
    gaps = [1000 * s for p in points for s in (p.itl_p50_s or p.tpot_s, p.worst_gap_s) if s]
    chart = Chart(_batch_axis(batches), linear_axis("time between tokens, ms", [0.0, *gaps]))
    palette = colours([p.clock_mhz for p in points])
    if chart.y.low < 1000 * slo_s < chart.y.high:
        ends = [(chart.x.low, 1000 * slo_s), (chart.x.high, 1000 * slo_s)]
        chart.line(ends, SLO_INK, 1.4, "2 3")
        chart.note(chart.x.low, 1000 * slo_s, f"SLO {1000 * slo_s:.0f} ms", SLO_INK, "start")
    levels = sorted(palette)
    for place, clock in enumerate(levels):
        # Shifted sideways, so that error bars do not hide each other.
        shift = 1.0 + 0.05 * (place - (len(levels) - 1) / 2)
        row = sorted((p for p in points if p.clock_mhz == clock), key=lambda p: p.batch_limit)
        middle = [(shift * p.batch_limit, 1000 * (p.itl_p50_s or p.tpot_s or 0.0)) for p in row]
        chart.line(middle, palette[clock], 1.0)
        for point, (x, y) in zip(row, middle, strict=True):
            if point.worst_gap_s is not None:
                chart.whisker((x, y), (x, 1000 * point.worst_gap_s), palette[clock])
            chart.dot(x, y, palette[clock], describe(point), 3.6)
    return chart.render("time between tokens against the batch limit")


def describe(point: PointSummary) -> str:
    """Return a point in one line."""
    return (
        f"{point.name}: "
        f"{point.energy_per_output_token.value:.3g} J/token, "
        f"{point.output_tps.value:.3g} tokens/s, {point.draw_w.value:.3g} W"
    )


def _lines(
    points: Sequence[PointSummary],
    across: Callable[[PointSummary], int],
    label: str,
    group: Callable[[PointSummary], int],
) -> str:
    places = sorted({across(p) for p in points})
    watts = [end for p in points for end in _ends(p.draw_w)]
    is_batch = label.startswith("batch")
    x_axis = _batch_axis(places) if is_batch else linear_axis(label, [float(x) for x in places])
    chart = Chart(x_axis, linear_axis("draw, W", watts))
    palette = colours([group(p) for p in points])
    for level, colour in palette.items():
        row = sorted((p for p in points if group(p) == level), key=across)
        chart.line([(across(p), p.draw_w.value) for p in row], colour, 1.4)
        for point in row:
            low, high = _ends(point.draw_w)
            chart.whisker((across(point), low), (across(point), high), colour)
            chart.dot(across(point), point.draw_w.value, colour, describe(point), 3.6)
    return chart.render(f"draw against {label}")


def _batch_axis(batches: Sequence[int]) -> Axis:
    low, high = batches[0] / 1.25, batches[-1] * 1.25
    return Axis("batch limit", low, high, is_log=True, ticks=tuple(float(b) for b in batches))


def _mark(
    chart: Chart,
    chosen: Sequence[Recommendation],
    place: Callable[[PointSummary], tuple[float, float]],
) -> None:
    """Ring the recommended points; equal ones share one ring and show all letters."""
    letters: dict[tuple[float, float], str] = {}
    for recommendation in chosen:
        if recommendation.point is not None:
            spot = place(recommendation.point)
            letters[spot] = letters.get(spot, "") + recommendation.letter
    for (x, y), text in letters.items():
        chart.badge(x, y, ", ".join(text), BADGE)


def _ends(interval: Interval) -> tuple[float, float]:
    """Return the ends of an interval; twice its value where it has none."""
    if not interval.is_bounded:
        return interval.value, interval.value
    return interval.low, interval.high
