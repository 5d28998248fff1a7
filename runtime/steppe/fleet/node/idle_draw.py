"""What a replica draws while it does not step, learned from the pauses between its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from steppe.energy.window import EnergyWindow
from steppe.engine.control_block import StepRecord

EDGE_S = 0.1
"""So much next to a step is left out, s: a counter that is published now and then blurs it."""
SHORTEST_S = 0.05
"""A shorter pause tells nothing, s."""
SETTLED_S = 3.0
"""An engine rests when its last step is so long ago: what it drew since is its draw at rest, s."""
_MEMORY = 0.7


class IdleDraw:
    """Follows the draw of the pauses.

    Attributes:
        idle_w: Draw in the latest pauses, W; 0 before the first one.
        rest_w: The most it drew at rest, W; None before it ever rested.
    """

    def __init__(self, begun_s: float) -> None:
        """Begin; what was before counts as work."""
        self.idle_w = 0.0
        self.rest_w: float | None = None
        self._worked_s = begun_s
        self._is_known = False

    def skip(self, until_s: float) -> None:
        """Take what was until then for work, s: it was starting."""
        self._worked_s = until_s

    def learn(
        self,
        steps: Sequence[StepRecord],
        since_s: float,
        until_s: float,
        window: Callable[[float, float], EnergyWindow],
    ) -> None:
        """Take a window.

        Args:
            steps: The steps that ended in it.
            since_s: Its begin, s.
            until_s: Its end, s; nothing steps between the last step and then.
            window: The energy between two instants of it; of 0 J where it is not known.
        """
        settled_s = self._worked_s + SETTLED_S
        for start_s, end_s in self._pauses(steps, since_s, until_s):
            draw_w = window(start_s, end_s).energy_j / (end_s - start_s)
            if draw_w > 0:
                old_w = self.idle_w if self._is_known else draw_w
                self.idle_w = _MEMORY * old_w + (1 - _MEMORY) * draw_w
                self._is_known = True
                if not steps and start_s > settled_s:
                    self.rest_w = max(draw_w, self.rest_w or 0.0)

    def _pauses(
        self, steps: Sequence[StepRecord], since_s: float, until_s: float
    ) -> Iterator[tuple[float, float]]:
        ends_s = [*(step.start_s - EDGE_S for step in steps), until_s]
        for number, end_s in enumerate(ends_s):
            start_s = max(since_s, self._worked_s + EDGE_S)
            if end_s - start_s >= SHORTEST_S:
                yield start_s, end_s
            if number < len(steps):
                self._worked_s = steps[number].end_s
