"""What the site drew lately, in steps of a second, for the reports of events. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

STEP_S = 1.0
"""Length of a step, s."""
KEPT_S = 86_400.0
"""How long steps are kept, s."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn in a span.

    Attributes:
        energy_j: Energy, J; where a part of the span was not seen, in proportion.
        seen_share: Share of the span that was seen.
        curtailed_share: Share of what was seen in which a limit of the grid was in force.
    """

    energy_j: float
    seen_share: float
    curtailed_share: float


@dataclass(slots=True)
class _Step:
    energy_j: float = 0.0
    seen_s: float = 0.0
    curtailed_s: float = 0.0


class RecentDraw:
    """The draw of the last day; what is older is forgotten."""

    def __init__(self) -> None:
        """Begin without any."""
        self._steps: OrderedDict[int, _Step] = OrderedDict()

    def add(self, ends_s: float, span_s: float, watts: float, *, curtailed: bool) -> None:
        """Note a mean draw.

        Args:
            ends_s: End of its span, s since the Unix epoch.
            span_s: Length of its span, s.
            watts: The draw, W.
            curtailed: Whether a limit of the grid was in force.
        """
        at_s = ends_s - min(span_s, KEPT_S)
        while at_s < ends_s - 1e-9:
            number = math.floor(at_s / STEP_S + 1e-9)
            part_s = min(ends_s, (number + 1) * STEP_S) - at_s
            step = self._steps.setdefault(number, _Step())
            step.energy_j += watts * part_s
            step.seen_s += part_s
            step.curtailed_s += part_s if curtailed else 0.0
            at_s += part_s
        while self._steps and (next(iter(self._steps)) + 1) * STEP_S < ends_s - KEPT_S:
            self._steps.popitem(last=False)

    def drawn(self, from_s: float, until_s: float) -> Drawn | None:
        """Return what was drawn in a span; None if nothing of it was seen."""
        energy_j = seen_s = curtailed_s = 0.0
        for number in range(math.floor(from_s / STEP_S), math.ceil(until_s / STEP_S)):
            step = self._steps.get(number)
            if step is None:
                continue
            begins_s, ends_s = max(from_s, number * STEP_S), min(until_s, (number + 1) * STEP_S)
            share = (ends_s - begins_s) / STEP_S
            energy_j += share * step.energy_j
            seen_s += share * step.seen_s
            curtailed_s += share * step.curtailed_s
        if seen_s <= 0.0:
            return None
        length_s = until_s - from_s
        seen_share = min(1.0, seen_s / length_s)
        return Drawn(energy_j / seen_share, seen_share, curtailed_s / seen_s)
