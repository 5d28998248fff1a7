"""The draw of the site in each step of the market, from its draws in ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.service.seam import Sample


@dataclass(frozen=True, slots=True)
class MeteredStep:
    """The draw of the site in one step.

    Attributes:
        begins_s: When it began, s since the Unix epoch.
        draw_w: Mean draw over the time that was metered, W.
        covered_share: Share of the step that was metered.
        energy_source: Where the figure comes from; of several, all of them.
    """

    begins_s: float
    draw_w: float
    covered_share: float
    energy_source: str


class StepMeter:
    """Sums draws up to steps."""

    def __init__(self, step_s: float) -> None:
        """Begin with the length of a step, s."""
        self._step_s = step_s
        self._begins_s: float | None = None
        self._energy_j = self._covered_s = 0.0
        self._sources: set[str] = set()

    def add(self, samples: Sequence[Sample]) -> list[MeteredStep]:
        """Take note of draws; return the steps that have ended since."""
        found: list[MeteredStep] = []
        for sample in samples:
            from_s = sample.at_s - sample.span_s
            while from_s < sample.at_s:
                begins_s = from_s - from_s % self._step_s
                until_s = min(sample.at_s, begins_s + self._step_s)
                found += self._moved_to(begins_s)
                self._energy_j += sample.site_w * (until_s - from_s)
                self._covered_s += until_s - from_s
                self._sources.add(sample.energy_source)
                from_s = until_s
        return found

    def _moved_to(self, begins_s: float) -> list[MeteredStep]:
        """Begin a later step; return the one before, if it has ended."""
        before_s = self._begins_s
        if before_s is not None and begins_s <= before_s:
            return []
        ended = []
        if before_s is not None and self._covered_s > 0.0:
            ended.append(
                MeteredStep(
                    begins_s=before_s,
                    draw_w=self._energy_j / self._covered_s,
                    covered_share=min(1.0, self._covered_s / self._step_s),
                    energy_source="+".join(sorted(self._sources)),
                )
            )
        self._begins_s = begins_s
        self._energy_j = self._covered_s = 0.0
        self._sources = set()
        return ended
