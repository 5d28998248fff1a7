"""Charts over time as inline SVG that any width and both colour schemes suit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from steppe.batch.report.row_spans import Floats

WIDTH, HEIGHT = 1000, 300
"""Size of a plot in its own units; the page stretches it."""


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """A filled band between two values.

    Attributes:
        label: What it shows.
        style: CSS class of its colour.
        low: Lower edge in each step; (n,).
        high: Upper edge in each step, nan where it is not known; (n,).
    """

    label: str
    style: str
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line.

    Attributes:
        label: What it shows.
        style: CSS class of its colour.
        values: Its value in each step, nan where it is not known; (n,).
    """

    label: str
    style: str
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Areas and lines over time.

    Attributes:
        title: What it is about.
        caption: What has to be known to read it, as HTML.
        edges_s: Begin of the first step, and the end of every step, s from 0; (n + 1,).
        layers: What is drawn, the first lowest.
        text_of: How a value is written.
        is_low: Whether it is a lower figure.
    """

    title: str
    caption: str
    edges_s: Floats
    layers: Sequence[Area | Line]
    text_of: Callable[[float], str]
    is_low: bool = False


def chart_html(chart: Chart) -> str:
    """Return a chart as a `figure` element."""
    most = _most(chart.layers)
    ticks = nice_ticks(most)
    unit, divisor = time_unit(float(chart.edges_s[-1]))
    across = nice_ticks(float(chart.edges_s[-1]) / divisor, 7)
    xs = chart.edges_s / chart.edges_s[-1] * WIDTH
    legend = "".join(_key(layer) for layer in chart.layers)
    ups = "".join(
        f'<span class="up" style="bottom:{100 * tick / most:.2f}%">{chart.text_of(tick)}</span>'
        for tick in ticks
    )
    alongs = "".join(
        f'<span class="along" style="left:{_percent(tick * divisor, chart)}">{tick:g}</span>'
        for tick in across
    )
    rules = "".join(f'<path class="rule" d="M0 {_y(tick, most)}H{WIDTH}"/>' for tick in ticks)
    layers = "".join(_drawn(layer, xs, most) for layer in chart.layers)
    labels = ", ".join(layer.label for layer in chart.layers)
    said = escape(f"{chart.title} over time: {labels}")
    kind = "plot low" if chart.is_low else "plot"
    return (
        f"<figure><h2>{escape(chart.title)}</h2>"
        f'<div class="legend">{legend}</div>'
        f'<div class="{kind}">{ups}<svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-label="{said}">'
        f"{rules}{layers}</svg>{alongs}</div>"
        f'<p class="unit">{unit} since the job was made</p>'
        f"<figcaption>{chart.caption}</figcaption></figure>"
    )


def nice_ticks(most: float, count: int = 5) -> tuple[float, ...]:
    """Return round numbers from 0 to `most`, about `count` of them."""
    rough = most / count
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * nice for nice in (1, 2, 5, 10) if scale * nice >= rough * (1 - 1e-9))
    return tuple(step * number for number in range(int(most / step * (1 + 1e-9)) + 1))


def time_unit(end_s: float) -> tuple[str, float]:
    """Return the unit that suits a length of time, and its length, s."""
    if end_s <= 600:
        return "seconds", 1.0
    return ("minutes", 60.0) if end_s <= 3 * 3600 else ("hours", 3600.0)


def _most(layers: Sequence[Area | Line]) -> float:
    """Return the upper end of the axis."""
    tops = [layer.high if isinstance(layer, Area) else layer.values for layer in layers]
    known = [float(np.nanmax(top)) for top in tops if np.isfinite(top).any()]
    return 1.06 * max([*known, 1e-9])


def _key(layer: Area | Line) -> str:
    """Return the entry of a layer in the legend."""
    mark = f'<i class="{layer.style} {_kind(layer)}"></i>'
    return f'<span class="key">{mark}{escape(layer.label)}</span>'


def _kind(layer: Area | Line) -> str:
    return "area" if isinstance(layer, Area) else "line"


def _percent(at_s: float, chart: Chart) -> str:
    return f"{100 * at_s / float(chart.edges_s[-1]):.2f}%"


def _y(value: float, most: float) -> str:
    return f"{HEIGHT * (1 - value / most):.1f}"


def _drawn(layer: Area | Line, xs: Floats, most: float) -> str:
    match layer:
        case Area(low=low, high=high):
            path = "".join(
                f"{_steps(xs, high, (begin, end), most)}{_back(xs, low, (begin, end), most)}Z"
                for begin, end in _known(high)
            )
        case Line(values=values):
            path = "".join(_steps(xs, values, known, most) for known in _known(values))
    return f'<path class="{layer.style} {_kind(layer)}" d="{path}"/>'


def _known(values: Floats) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of known values."""
    padded = np.concatenate(([0], np.isfinite(values).astype(int), [0]))
    changes = np.flatnonzero(np.diff(padded))
    yield from zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True)


def _steps(xs: Floats, values: Floats, known: tuple[int, int], most: float) -> str:
    """Return the path along the values of some steps, from left to right."""
    begin, end = known
    parts = [f"M{xs[begin]:.1f} {_y(float(values[begin]), most)}"]
    for step in range(begin, end):
        up = f"V{_y(float(values[step]), most)}" if step > begin else ""
        parts.append(f"{up}H{xs[step + 1]:.1f}")
    return "".join(parts)


def _back(xs: Floats, values: Floats, known: tuple[int, int], most: float) -> str:
    """Return the path along the values of some steps, from right to left."""
    begin, end = known
    return "".join(
        f"V{_y(float(values[step]), most)}H{xs[step]:.1f}" for step in range(end - 1, begin - 1, -1)
    )
