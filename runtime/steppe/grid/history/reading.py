"""One reading of the site's draw, as its history keeps it, and where its energy is from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import orjson

from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.ledger.receipt import ENERGY_SOURCES

LONGEST_SPAN_MS = 3_600_000
"""A reading of a longer span is refused: what was drawn within it is not known."""
_RANKS = {name: rank for rank, name in enumerate(ENERGY_SOURCES)}
_MADE = _RANKS["emulated"]


@dataclass(frozen=True, slots=True)
class SiteReading:
    """Mean draw of the site over the span of one tick, in whole numbers.

    Attributes:
        number: Number of the tick; a controller that starts anew begins with small ones.
        end_ms: End of the span, ms since the Unix epoch.
        span_ms: Length of the span, ms.
        draw_mw: Mean draw, mW; below 0 where the site feeds the grid.
        rank: Where the energy is from, its place in `ENERGY_SOURCES`.
    """

    number: int
    end_ms: int
    span_ms: int
    draw_mw: int
    rank: int

    @property
    def key(self) -> tuple[int, int]:
        """What no other reading has in common with it."""
        return self.number, self.end_ms

    @property
    def line(self) -> bytes:
        """Its line in a file."""
        return orjson.dumps((*self.key, self.span_ms, self.draw_mw, self.rank)) + b"\n"


def reading_of(
    number: int, at_s: float, draw_w: float, span_s: float, energy_source: str
) -> SiteReading:
    """Return a reading.

    Args:
        number: Number of the tick.
        at_s: End of the span, s since the Unix epoch.
        draw_w: Mean draw, W.
        span_s: Length of the span, s.
        energy_source: Where the energy is from, as in a receipt.

    Raises:
        UsageError: It is not finite, its span is 0 or over an hour, or its source is unknown.
    """
    is_finite = all(map(math.isfinite, (at_s, draw_w, span_s)))
    is_known = energy_source in _RANKS and abs(draw_w) <= LARGEST if is_finite else False
    if not is_known or not 0 < round(span_s * 1e3) <= LONGEST_SPAN_MS or at_s < span_s:
        asked = "asked for W, an end, a span of at most an hour and a known energy source"
        found = f"found {draw_w} W, {at_s} s, {span_s} s, {energy_source!r:.40}"
        raise UsageError(f"reading {number}: {asked}, {found}")
    end_ms, begin_ms = round(at_s * 1e3), round((at_s - span_s) * 1e3)
    span_ms = max(1, end_ms - begin_ms)
    return SiteReading(number, end_ms, span_ms, round(draw_w * 1e3), _RANKS[energy_source])


def reading_in(line: bytes) -> SiteReading | None:
    """Return the reading of a line; None if it is none, such as a line that was cut off."""
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, list) or [type(each) for each in values] != [int] * 5:
        return None
    found = SiteReading(*values)
    is_one = 0 < found.span_ms <= LONGEST_SPAN_MS <= LONGEST_SPAN_MS + found.end_ms
    return found if is_one and 0 <= found.rank < len(ENERGY_SOURCES) else None


def is_alike(rank: int, other: int) -> bool:
    """Return whether two sources may stand in one baseline: both measured, or both the same.

    What was emulated is no baseline of what was measured, nor the other way round.
    """
    return rank == other or (rank < _MADE and other < _MADE)


def rank_of(energy_source: str) -> int:
    """Return the place of a source in `ENERGY_SOURCES`.

    Raises:
        UsageError: It is not known.
    """
    if energy_source not in _RANKS:
        known = ", ".join(ENERGY_SOURCES)
        found = f"found {energy_source!r:.40}"
        raise UsageError(f"energy source: asked for one of {known}, {found}")
    return _RANKS[energy_source]
