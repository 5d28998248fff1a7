"""Small charts as inline SVG: no script, no file, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 46
INK, MUTED, GRID = "#1f2933", "#5d6b78", "#e4e8ec"


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: Quantity and unit.
        low: Least value shown.
        high: Largest value shown.
        is_log: Whether equal distances are equal factors; both ends are then above 0.
        ticks: Values to write; chosen when empty.
    """

    label: str
    low: float
    high: float
    is_log: bool = False
    ticks: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1 inside."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @property
    def marks(self) -> tuple[float, ...]:
        """Values to write beside the axis."""
        return self.ticks or round_ticks(self.low, self.high)


def linear_axis(label: str, values: Sequence[float], margin: float = 0.08) -> Axis:
    """Return a linear axis with some room around the values."""
    low, high = min(values), max(values)
    room = margin * ((high - low) or abs(high) or 1.0)
    return Axis(label, max(0.0, low - room) if low >= 0 else low - room, high + room)


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """Return a logarithmic axis around positive values, with round ticks."""
    low, high = min(values) / 1.15, max(values) * 1.15
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = tuple(
        f * 10.0**d for d in decades for f in (1, 2, 3, 5, 7) if low <= f * 10.0**d <= high
    )
    return Axis(label, low, high, is_log=True, ticks=ticks)


def round_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Return at most `most` round values between two ends; one at an end is that end."""
    raw = (high - low) / most
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * f for f in (1, 2, 2.5, 5, 10) if scale * f >= raw)
    first = math.ceil(low / step - 1e-9)
    ticks = (step * i for i in range(first, math.floor(high / step + 1e-9) + 1))
    return tuple(min(high, max(low, tick)) for tick in ticks)


@dataclass(slots=True)
class Chart:
    """A chart that grows by drawing into it.

    Attributes:
        x: Horizontal axis.
        y: Vertical axis.
        parts: SVG elements so far.
    """

    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw_axes()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a value, pixels."""
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * self.x.share(x), HEIGHT - BOTTOM - up * self.y.share(y)

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.8, dash: str = ""
    ) -> None:
        """Join points by straight lines."""
        places = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(x, y) for x, y in points))
        self.parts.append(
            f'<polyline points="{places}" fill="none" stroke="{colour}" '
            f'stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )

    def dot(self, x: float, y: float, colour: str, title: str, radius: float = 4.5) -> None:
        """Draw a dot; a browser shows its title under the pointer."""
        a, b = self.at(x, y)
        self.parts.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="{colour}" '
            f'stroke="white" stroke-width="1"><title>{escape(title)}</title></circle>'
        )

    def whisker(self, begin: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """Draw an error bar."""
        (a, b), (c, d) = self.at(*begin), self.at(*end)
        self.parts.append(
            f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" '
            f'stroke="{colour}" stroke-width="1.4"/>'
        )

    def badge(self, x: float, y: float, letter: str, colour: str) -> None:
        """Mark a point with a letter in a ring around it."""
        a, b = self.at(x, y)
        self.parts.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="9" fill="none" stroke="{colour}" '
            'stroke-width="2.4"/>'
        )
        up = -16 if b > TOP + 30 else 27
        halo = 'stroke="white" stroke-width="4" paint-order="stroke"'
        text = _text(a, b + up, letter, colour, size=16, weight="bold", extra=halo)
        self.parts.append(text)

    def note(self, x: float, y: float, text: str, colour: str = MUTED, anchor: str = "end") -> None:
        """Write a word at a value."""
        a, b = self.at(x, y)
        self.parts.append(_text(a, b - 5, text, colour, anchor=anchor))

    def render(self, label: str) -> str:
        """Return the SVG element; `label` describes it for screen readers."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
            + "".join(self.parts)
            + "</svg>"
        )

    def _draw_axes(self) -> None:
        for value in self.y.marks:
            _, b = self.at(self.x.low, value)
            self.parts.append(
                f'<line x1="{LEFT}" y1="{b:.1f}" x2="{WIDTH - RIGHT}" y2="{b:.1f}" '
                f'stroke="{GRID}"/>'
            )
            self.parts.append(_text(LEFT - 7, b + 4, tick_label(value), MUTED, anchor="end"))
        for value in self.x.marks:
            a, _ = self.at(value, self.y.low)
            self.parts.append(_text(a, HEIGHT - BOTTOM + 17, tick_label(value), MUTED))
        self.parts.append(
            f'<line x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" '
            f'y2="{HEIGHT - BOTTOM}" stroke="{MUTED}"/>'
        )
        middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        self.parts.append(_text(middle, HEIGHT - 8, self.x.label, INK, weight="600"))
        up = TOP + (HEIGHT - TOP - BOTTOM) / 2
        turned = f'transform="rotate(-90 14 {up:.0f})"'
        self.parts.append(_text(14, up, self.y.label, INK, weight="600", extra=turned))


def tick_label(value: float) -> str:
    """Return a tick's value without needless digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(
    x: float,
    y: float,
    text: str,
    colour: str,
    *,
    anchor: str = "middle",
    size: int = 12,
    weight: str = "normal",
    extra: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}" {extra}>{escape(text)}</text>'
    )
