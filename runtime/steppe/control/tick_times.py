"""When the control loop ticks: once a period, and around each step of the budget that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

LEAST_WINDOW_S = 0.1
"""Ticks lie at least so far apart, s: an energy counter's period, for it tells nothing finer."""
LATE_S = 0.01
"""A tick that is due by so much too soon after another is postponed, not left out, s: a loop that
wakes a little late must not miss every other tick."""
STEP_SHARE = 0.05
"""A change of the budget that is a step if it takes no longer than a part of a period, share."""
REST_S = 1.0
"""Clocks rest so long before a step, s: the limit of a GPU changes at most once a second."""
FALL_SHARE = 0.02
"""A fall before the next tick can follow that is worth to plan for, share of the budget."""
_PARTS, _HALVINGS = 8, 12
_ARRIVED = 0.01
"""A step is over when this share of it is left."""


def _is_step(before_w: float, after_w: float, apart_s: float = LEAST_WINDOW_S) -> bool:
    """Tell whether budgets a moment apart are so far apart that a tick should not wait.

    Further apart than a moment, a ramp that is no step goes further, too.
    """
    moments = max(1.0, apart_s / LEAST_WINDOW_S)
    return abs(after_w - before_w) > moments * STEP_SHARE * max(before_w, after_w)


class Look(NamedTuple):
    """A look at the budget: when, s, and what it was, W."""

    at_s: float
    budget_w: float


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Ticks once a period, ahead of a cut that is known, and when the budget has stepped.

    A trace is a schedule: what it says of the next second is known. The limits are lowered so
    long before a cut as the fleet takes to follow, so that the draw is down when the budget is.
    Of a live signal nothing is known ahead: who drives the loop looks at it every
    `LEAST_WINDOW_S`, and ticks when it has stepped (`has_stepped`).

    Attributes:
        budget_w: The budget at a time, as far as it is known now, W.
        period_s: Control period, s; ticks lie at multiples of it, as far as windows allow.
        lead_s: What the fleet takes to follow a cut, s.
    """

    budget_w: Callable[[float], float]
    period_s: float
    lead_s: float

    def look(self, now_s: float) -> Look:
        """Look at the budget."""
        return Look(now_s, self.budget_w(now_s))

    def fall_w(self, now_s: float) -> float:
        """Return by how much the budget falls before another tick could follow it, W.

        A slow fall counts as none: it is within what a tick a period is off by anyway.
        """
        soon_s = now_s + self.lead_s + LEAST_WINDOW_S
        now_w, soon_w = self.budget_w(now_s), self.budget_w(soon_s)
        return now_w - soon_w if now_w - soon_w > FALL_SHARE * now_w else 0.0

    def after(self, now_s: float) -> float:
        """Return the time of the tick after one at `now_s`, s."""
        soonest_s = now_s + LEAST_WINDOW_S
        due_s = self.period_s * math.ceil((soonest_s - LATE_S) / self.period_s)
        return max(soonest_s, min(due_s, self._step_tick_s(now_s, due_s)))

    def has_stepped(self, before: Look, now: Look, next_s: float) -> bool:
        """Tell whether the budget stepped between two looks, and no tick is better awaited.

        Where a rise that is known goes on, a tick amid it would set clocks that then rest.

        Args:
            before: The look before.
            now: This look.
            next_s: When the next tick is due, s.
        """
        if not _is_step(before.budget_w, now.budget_w, now.at_s - before.at_s):
            return False
        next_w = self.budget_w(next_s)
        rises_on = now.budget_w < next_w and _is_step(now.budget_w, next_w)
        return not rises_on or next_s - now.at_s >= LEAST_WINDOW_S

    def clocks_rest(self, now_s: float) -> bool:
        """Tell whether a step so soon asks for a tick of its own that clocks should rest for it.

        They do not at a step: one after the other, each is followed.
        """
        before_w = self.budget_w(max(0.0, now_s - LEAST_WINDOW_S))
        if _is_step(before_w, self.budget_w(now_s)):
            return False
        return self._step_tick_s(now_s, now_s + REST_S) < now_s + REST_S

    def _step_tick_s(self, now_s: float, until_s: float) -> float:
        """Return when the next step asks for a tick, if one does until then; else infinity, s."""
        step_s, is_cut = self._step(now_s, until_s + self.lead_s)
        ahead_s = step_s - self.lead_s
        return ahead_s if is_cut and ahead_s > now_s + LEAST_WINDOW_S else step_s

    def _step(self, begin_s: float, end_s: float) -> tuple[float, bool]:
        """Return when the first step is over, infinity if there is none, and if it is a cut."""
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
        """Return when the budget comes near `watts`, between two times, s."""
        for _ in range(_HALVINGS):
            middle_s = (low_s + high_s) / 2
            if abs(self.budget_w(middle_s) - watts) <= near_w:
                high_s = middle_s
            else:
                low_s = middle_s
        return high_s
