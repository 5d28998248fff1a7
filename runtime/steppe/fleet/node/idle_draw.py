"""What a replica draws while it does not step, learned from the gaps between its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from steppe.energy.window import EnergyWindow
from steppe.engine.control_block import StepRecord

EDGE_S = 0.1
"""So much next to a step is left out, s: a counter that is updated now and then blurs it."""
SHORTEST_S = 0.05
"""A shorter gap is not used, s."""
SETTLED_S = 3.0
"""The draw counts towards `max_idle_w` once the last step ended so long ago, s."""
_OLD_SHARE = 0.7
"""Weight of the old value against the draw in a new gap."""


class IdleDraw:
    """Follows the draw between steps.

    Attributes:
        idle_w: Draw in the latest gaps, W; 0 before the first one.
        is_known: Whether there was a gap already.
        max_idle_w: The largest draw in windows without any step, W, that of other users of its
            GPUs included; None before the first one.
    """

    def __init__(self, begin_s: float) -> None:
        """Begin; the time before counts as work."""
        self.idle_w = 0.0
        self.max_idle_w: float | None = None
        self._worked_until_s = begin_s
        self.is_known = False

    def skip(self, until_s: float) -> None:
        """Count the time until then as work, s: the replica was starting."""
        self._worked_until_s = until_s

    def learn(
        self,
        steps: Sequence[StepRecord],
        since_s: float,
        until_s: float,
        window: Callable[[float, float], EnergyWindow],
    ) -> None:
        """Learn from a window.

        Args:
            steps: The steps that ended in it.
            since_s: Its begin, s.
            until_s: Its end, s; there is no step between the last one and then.
            window: The energy between two instants of it; 0 J where it is not known.
        """
        settled_s = self._worked_until_s + SETTLED_S
        for start_s, end_s in self._gaps(steps, since_s, until_s):
            found = window(start_s, end_s)
            draw_w, whole_w = found.energy_j / (end_s - start_s), found.mean_w
            if draw_w > 0:
                old_w = self.idle_w if self.is_known else draw_w
                self.idle_w = _OLD_SHARE * old_w + (1 - _OLD_SHARE) * draw_w
                self.is_known = True
                if not steps and start_s > settled_s:
                    self.max_idle_w = max(whole_w, self.max_idle_w or 0.0)

    def _gaps(
        self, steps: Sequence[StepRecord], since_s: float, until_s: float
    ) -> Iterator[tuple[float, float]]:
        ends_s = [*(step.start_s - EDGE_S for step in steps), until_s]
        for number, end_s in enumerate(ends_s):
            start_s = max(since_s, self._worked_until_s + EDGE_S)
            if end_s - start_s >= SHORTEST_S:
                yield start_s, end_s
            if number < len(steps):
                self._worked_until_s = steps[number].end_s
