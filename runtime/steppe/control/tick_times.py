"""When the control loop ticks: once a period, and around each step of the budget that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

LEAST_WINDOW_S = 0.1
"""Least time between ticks, s: the update period of an energy counter."""
LATE_S = 0.01
"""A tick that is due this much too soon after another is postponed, not left out, s. Otherwise a
loop that wakes a little late would miss every other tick."""
STEP_SHARE = 0.05
"""Least change of the budget within a moment that is a step, share."""
HOLD_S = 1.0
"""Time before a step in which clocks are held, s: a clock limit changes at most once a second."""
FALL_SHARE = 0.02
"""Least fall of the budget before the next tick that is planned for, share."""
_PARTS, _HALVINGS = 8, 12
_ARRIVED = 0.01
"""A step has ended when this share of it is left."""


def _is_step(before_w: float, after_w: float, apart_s: float = LEAST_WINDOW_S) -> bool:
    """Return whether the budget changed so much that a tick should not wait.

    Over more than a moment, a ramp that is no step changes more, too.
    """
    moments = max(1.0, apart_s / LEAST_WINDOW_S)
    return abs(after_w - before_w) > moments * STEP_SHARE * max(before_w, after_w)


class BudgetReading(NamedTuple):
    """The budget at a time.

    Attributes:
        at_s: The time, s.
        budget_w: The GPUs' budget, W.
    """

    at_s: float
    budget_w: float


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Ticks once a period, ahead of a known cut, and when the budget has stepped.

    A trace is a schedule: its next second is known. The limits are lowered before a cut by the time
    that the fleet takes to follow, so that the draw is down when the budget is. Nothing of a live
    signal is known ahead: the driver reads it every `LEAST_WINDOW_S` and ticks when it has stepped
    (`has_stepped`).

    Attributes:
        budget_w: Returns the GPUs' budget at a time, as far as it is known now, W.
        period_s: Control period, s; ticks lie at multiples of it, as far as windows allow.
        lead_s: Time that the fleet takes to follow a cut, s.
    """

    budget_w: Callable[[float], float]
    period_s: float
    lead_s: float

    def read_budget(self, now_s: float) -> BudgetReading:
        """Return the budget now."""
        return BudgetReading(now_s, self.budget_w(now_s))

    def fall_w(self, now_s: float) -> float:
        """Return by how much the budget falls before another tick could follow it, W.

        A slow fall counts as none: one tick a period is off by as much anyway.
        """
        soon_s = now_s + self.lead_s + LEAST_WINDOW_S
        now_w, soon_w = self.budget_w(now_s), self.budget_w(soon_s)
        return now_w - soon_w if now_w - soon_w > FALL_SHARE * now_w else 0.0

    def after(self, now_s: float) -> float:
        """Return the time of the tick after one at `now_s`, s."""
        soonest_s = now_s + LEAST_WINDOW_S
        due_s = self.period_s * math.ceil((soonest_s - LATE_S) / self.period_s)
        return max(soonest_s, min(due_s, self._step_tick_s(now_s, due_s)))

    def has_stepped(self, before: BudgetReading, now: BudgetReading, next_s: float) -> bool:
        """Return whether the budget stepped between two readings, and a tick should not wait.

        A tick in the middle of a known rise would set clocks that are then held.

        Args:
            before: The reading before.
            now: This reading.
            next_s: Time of the next tick, s.
        """
        if not _is_step(before.budget_w, now.budget_w, now.at_s - before.at_s):
            return False
        next_w = self.budget_w(next_s)
        rises_on = now.budget_w < next_w and _is_step(now.budget_w, next_w)
        return not rises_on or next_s - now.at_s >= LEAST_WINDOW_S

    def holds_clocks(self, now_s: float) -> bool:
        """Return whether a step comes so soon that clocks should be held for its own tick.

        At a step they are moved, so a sequence of steps is followed one by one.
        """
        before_w = self.budget_w(max(0.0, now_s - LEAST_WINDOW_S))
        if _is_step(before_w, self.budget_w(now_s)):
            return False
        return self._step_tick_s(now_s, now_s + HOLD_S) < now_s + HOLD_S

    def _step_tick_s(self, now_s: float, until_s: float) -> float:
        """Return the time of the tick for a step before `until_s`, s; infinity without one."""
        step_s, is_cut = self._step(now_s, until_s + self.lead_s)
        ahead_s = step_s - self.lead_s
        return ahead_s if is_cut and ahead_s > now_s + LEAST_WINDOW_S else step_s

    def _step(self, begin_s: float, end_s: float) -> tuple[float, bool]:
        """Return when the first step ends, infinity without one, s, and whether it is a cut."""
        part_s, before_w = (end_s - begin_s) / _PARTS, self.budget_w(begin_s)
        for part in range(1, _PARTS + 1):
            at_s = begin_s + part * part_s
            after_w = self.budget_w(at_s)
            if _is_step(before_w, after_w):
                near_w = _ARRIVED * abs(after_w - before_w)
                return self._first_near(after_w, near_w, at_s - part_s, at_s), after_w < before_w
            before_w = after_w
        return math.inf, False

    def _first_near(self, watts: float, near_w: float, low_s: float, high_s: float) -> float:
        """Return when the budget comes within `near_w` of `watts`, between two times, s."""
        for _ in range(_HALVINGS):
            middle_s = (low_s + high_s) / 2
            if abs(self.budget_w(middle_s) - watts) <= near_w:
                high_s = middle_s
            else:
                low_s = middle_s
        return high_s
