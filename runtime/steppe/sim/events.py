"""Virtual time: a queue of events."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Act = Callable[[float, Any], None]


class EventQueue:
    """Events in the order of their time; events of one instant in the order of their insertion.

    Nothing else decides the order, so runs are deterministic.

    Attributes:
        now_s: The present, s since the run began.
    """

    __slots__ = ("_heap", "_number", "now_s")

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Act, Any]] = []
        self._number = 0

    def at(self, when_s: float, act: Act, subject: Any = None) -> None:
        """Call `act(when_s, subject)` at a time that has not passed."""
        self._number += 1
        heapq.heappush(self._heap, (when_s, self._number, act, subject))

    def run_until(self, end_s: float) -> None:
        """Process all events that are due by `end_s`, and set the present to it."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end_s:
            self.now_s, _, act, subject = pop(heap)
            act(self.now_s, subject)
        self.now_s = end_s
