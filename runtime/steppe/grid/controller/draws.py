"""What the site drew in the last ticks, and what it would have drawn without an event."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from steppe.grid.service.seam import Sample

MOST_KEPT = 900
"""Latest ticks that are kept."""


@dataclass(frozen=True, slots=True)
class _Draw:
    """A tick.

    Attributes:
        sample: What the site drew.
        in_event: Whether an event limited it meanwhile.
    """

    sample: Sample
    in_event: bool


class Draws:
    """The draw of the site in the last ticks."""

    def __init__(self, after: int = 0) -> None:
        """Begin without a tick.

        Args:
            after: The number before the first one. Numbers must rise over a restart, too.
        """
        self._draws: deque[_Draw] = deque(maxlen=MOST_KEPT)
        self._number = after

    def add(
        self, at_s: float, site_w: float, span_s: float, energy_source: str, *, in_event: bool
    ) -> None:
        """Add a tick.

        Args:
            at_s: Its end, s since the Unix epoch.
            site_w: Mean draw of the site, W.
            span_s: Its length, s.
            energy_source: Where the figure comes from.
            in_event: Whether an event limited the site meanwhile.
        """
        self._number += 1
        sample = Sample(self._number, at_s, site_w, span_s, energy_source)
        self._draws.append(_Draw(sample, in_event))

    def since(self, number: int) -> tuple[Sample, ...]:
        """Return the ticks after the one with this number, the oldest first."""
        return tuple(each.sample for each in self._draws if each.sample.number > number)

    def baseline_w(self, span_s: float) -> float | None:
        """Return the mean draw of the last `span_s` without the time of events, W.

        None if there is no such time.
        """
        left_s, energy_j, counted_s = span_s, 0.0, 0.0
        for each in reversed(self._draws):
            took_s = min(left_s, each.sample.span_s)
            if took_s <= 0:
                break
            left_s -= took_s
            if not each.in_event:
                energy_j += took_s * each.sample.site_w
                counted_s += took_s
        return energy_j / counted_s if counted_s > 0 else None
