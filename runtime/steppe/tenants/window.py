"""How much was used in the last minute, hour or day?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

SLOTS = 60
"""Slots of a window. A slot counts until all of it is older than the window, so the sum covers up
to 1/60 more than the window and is never too small: no window exceeds a limit kept with it."""


class SlidingWindow:
    """Sums amounts over a sliding window in a fixed number of slots; times are s, monotonic."""

    def __init__(self, length_s: float) -> None:
        """Begin empty; `length_s` is the length of the window, s."""
        self._slot_s = length_s / SLOTS
        self._slots: deque[tuple[int, float]] = deque()  # number and amount, oldest first
        self._total = 0.0

    def total(self, now_s: float) -> float:
        """Return the sum over the window."""
        oldest = self._number(now_s) - SLOTS
        while self._slots and self._slots[0][0] < oldest:
            self._total -= self._slots.popleft()[1]
        if not self._slots:
            self._total = 0.0  # without the rounding errors of the sums
        return self._total

    def add(self, now_s: float, amount: float) -> None:
        """Add an amount that is used now."""
        self.total(now_s)
        number = self._number(now_s)
        if self._slots and self._slots[-1][0] >= number:
            number, before = self._slots.pop()
            self._slots.append((number, before + amount))
        else:
            self._slots.append((number, amount))
        self._total += amount

    def give_back(self, at_s: float, now_s: float, amount: float) -> None:
        """Subtract what was added at `at_s` and not used; nothing if that has left the window."""
        self.total(now_s)
        number = self._number(at_s)
        for index, (slot, before) in enumerate(self._slots):
            if slot == number:
                taken = min(amount, before)
                self._slots[index] = (slot, before - taken)
                self._total -= taken
                return

    def parts(self, now_s: float) -> tuple[tuple[float, float], ...]:
        """Return what was added, as ages of slots, s, and amounts, the oldest first."""
        self.total(now_s)
        return tuple((now_s - number * self._slot_s, amount) for number, amount in self._slots)

    def merge(self, now_s: float, parts: Iterable[tuple[float, float]]) -> None:
        """Add what `parts` of another window returned."""
        amounts = dict(self._slots)
        for age_s, amount in parts:
            # A slot that begins between two of ours counts as the later one.
            number = min(math.ceil((now_s - age_s) / self._slot_s - 1e-9), self._number(now_s))
            amounts[number] = amounts.get(number, 0.0) + amount
        self._slots = deque(sorted(amounts.items()))
        self._total = sum(amounts.values())

    def room_in_s(self, now_s: float, limit: float, amount: float) -> float:
        """Return the time until the sum and `amount` are within `limit`, s; infinite if never."""
        excess = self.total(now_s) + amount - limit
        if excess <= 0:
            return 0.0
        for number, used in self._slots:
            excess -= used
            if excess <= 1e-9 * limit:
                return self._leaves_s(number) - now_s
        return math.inf

    def reset_s(self, now_s: float) -> float:
        """Return the time until the sum is 0 if nothing more is added, s."""
        self.total(now_s)
        return self._leaves_s(self._slots[-1][0]) - now_s if self._slots else 0.0

    def _number(self, now_s: float) -> int:
        return math.floor(now_s / self._slot_s)

    def _leaves_s(self, number: int) -> float:
        return (number + SLOTS + 1) * self._slot_s
