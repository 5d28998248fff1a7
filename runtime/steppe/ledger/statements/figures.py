"""Figures of a statement by hour, as inline SVG that any width and both colour schemes suit.

Coordinates are integers: an hour is `STEP` wide, a plot `HEIGHT` high; the page stretches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from steppe.ledger.statements.amounts import MICRO_DIGITS, NANO_DIGITS, grouped_text
from steppe.ledger.statements.escaping import escaped
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.statement import ReceiptSums, Statement

STEP, HEIGHT = 10, 1000
_PER_MILLION, _PERCENT = 10**6, 100


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of the bars, stacked on the part before.

    Attributes:
        label: What it is.
        style: CSS class of its colour.
        values: Its value by hour; not below 0.
    """

    label: str
    style: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Figure:
    """Stacked bars by hour.

    Attributes:
        title: What it shows, with its unit.
        caption: What has to be known to read it.
        hours: The hours, since the Unix epoch.
        layers: What is stacked, the lowest first.
        text_of: How a value is written.
        most: The upper end of the axis; 0 to fit the bars.
    """

    title: str
    caption: str
    hours: range
    layers: Sequence[Layer]
    text_of: Callable[[int], str]
    most: int = 0

    @property
    def heights(self) -> list[int]:
        """Height of the bar of each hour."""
        by_layer = [layer.values for layer in self.layers]
        return [sum(values) for values in zip(*by_layer, strict=True)]


def figures_of(statement: Statement) -> tuple[Figure, ...]:
    """Return the figures of a statement: tokens, joules, green share, price.

    One without any value is left out.
    """
    if not statement.hours:
        return ()
    hours, by_hour = _whole_days(statement), dict(statement.hours)
    sums = [by_hour.get(hour, ReceiptSums()) for hour in hours]
    sources = ", ".join(statement.energy_sources)
    tokens = (
        Layer(
            "prompt, computed", "prompt", [one.prompt_tokens - one.cached_tokens for one in sums]
        ),
        Layer("prompt, cached", "cached", [one.cached_tokens for one in sums]),
        Layer("output", "output", [one.output_tokens for one in sums]),
    )
    energy = (
        Layer("green", "green", [one.green_uj for one in sums]),
        Layer("other", "other", [max(0, one.energy_uj - one.green_uj) for one in sums]),
        Layer(
            "share of idle, not green",
            "idle",
            [one.used_uj - max(one.energy_uj, one.green_uj) for one in sums],
        ),
    )
    green = [_share(one.green_uj * _PERCENT, one.used_uj) for one in sums]
    price = [_share(one.amount_nano * _PER_MILLION, one.tokens) for one in sums]
    is_energy = f"Energy source: {sources}."
    figures = (
        Figure("Tokens by hour", "", hours, tokens, lambda n: grouped_text(n, 0)),
        Figure("Joules by hour, J", is_energy, hours, energy, _joules_text),
        Figure(
            "Green share by hour, %",
            f"Of the energy with its share of idle, matched by the hour. {is_energy}",
            hours,
            (Layer("green", "green", green),),
            str,
            _PERCENT,
        ),
        Figure(
            f"Price by hour, {statement.currency} per million tokens",
            "Prompt and output tokens together.",
            hours,
            (Layer("price", "price", price),),
            _price_text,
        ),
    )
    return tuple(one for one in figures if one.most or max(one.heights))


def figure_html(figure: Figure, month: Month) -> str:
    """Return a figure as an HTML element."""
    most = figure.most or axis_end(max(figure.heights))
    width = len(figure.hours) * STEP
    bars = "".join(
        f'<path class="{layer.style}" d="{"".join(bars)}"/>'
        for layer, bars in zip(figure.layers, _bars(figure.layers, most), strict=True)
    )
    rules = f'<path class="rule" d="M0 0H{width}M0 {HEIGHT // 2}H{width}M0 {HEIGHT}H{width}"/>'
    ups = "".join(
        f'<span class="up" style="bottom:{percent}%">{figure.text_of(most * percent // 100)}</span>'
        for percent in (0, 50, 100)
    )
    alongs = "".join(
        f'<span class="along" style="left:{_percent_text(place, len(figure.hours))}">{text}</span>'
        for place, text in ticks(figure.hours, month)
    )
    keys = "".join(
        f'<span class="key"><i class="{layer.style}"></i>{escaped(layer.label)}</span>'
        for layer in figure.layers
        if len(figure.layers) > 1
    )
    return (
        f"<figure><h2>{escaped(figure.title)}</h2>"
        f'<div class="legend">{keys}</div><div class="plot">{ups}'
        f'<svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(figure.title)}">{rules}{bars}</svg>{alongs}</div>'
        f"<figcaption>{escaped(figure.caption)}</figcaption></figure>"
    )


def axis_end(most: int) -> int:
    """Return the smallest of 2, 4, 10, 20, 40, 100, ... that is not below `most`."""
    scale = 1
    while True:
        for nice in (2, 4, 10):
            if nice * scale >= most:
                return nice * scale
        scale *= 10


def ticks(hours: range, month: Month) -> Iterator[tuple[int, str]]:
    """Yield where a label stands along the hours, and its text: a day or a time of day."""
    days = len(hours) // 24
    every = 6 if days <= 2 else 24 * -(-days // 8)
    for place in range(0, len(hours), every):
        begin = month.local(hours[place])
        yield place, f"{begin:%H:%M}" if days <= 2 and begin.hour else f"{begin:%m-%d}"


def _bars(layers: Sequence[Layer], most: int) -> Iterator[Iterator[str]]:
    """Yield the bars of each layer."""
    below = [0] * len(layers[0].values)
    for layer in layers:
        above = [low + value for low, value in zip(below, layer.values, strict=True)]
        edges = [(_y(low, most), _y(high, most)) for low, high in zip(below, above, strict=True)]
        yield (
            f"M{place * STEP} {high}h{STEP - 1}V{low}h-{STEP - 1}z"
            for place, (low, high) in enumerate(edges)
            if high < low
        )
        below = above


def _y(value: int, most: int) -> int:
    return HEIGHT - value * HEIGHT // most


def _whole_days(statement: Statement) -> range:
    """Return the hours from the first day with receipts to the end of the last one."""
    start, first, last = statement.month.hours.start, statement.hours[0][0], statement.hours[-1][0]
    return range(first - (first - start) % 24, last - (last - start) % 24 + 24)


def _share(part: int, of: int) -> int:
    return part // of if of else 0


def _percent_text(place: int, count: int) -> str:
    return f"{100 * place // count}.{1000 * place // count % 10}%"


def _joules_text(energy_uj: int) -> str:
    return _trimmed(grouped_text(energy_uj, MICRO_DIGITS))


def _price_text(price_nano: int) -> str:
    return _trimmed(grouped_text(price_nano, NANO_DIGITS))


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".")
