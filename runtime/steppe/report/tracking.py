"""How well did the draw follow the budget?

A budget is an upper limit, so draw above it, power left unused while requests waited, and settling
are scored apart. Time at the end of the fleet's range is counted apart, too: there the draw cannot
follow, however good the control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from steppe.report.pjm import pjm_score
from steppe.report.records import TickRecord

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEP_SHARE = 0.10
"""A budget change of at least this share of the budget before it is a step."""
SETTLED_SHARE = 0.02
"""The draw has settled within this share of the budget."""
_ROUNDING_SHARE = 1e-9


class Tracking(TypedDict):
    """How well the draw followed the budget; what is unknown or undefined is None.

    Keys: `relative_mae` (share; None if no window is scored, or only some with a budget of 0 W),
    `at_ceiling_s` and `at_floor_s` (s), the time that it leaves out because the fleet could draw no
    more or no less (`report.tick_records.bound_of`); `over_budget_j` (J), `over_budget_s` (s) and
    `max_over_fraction` (share; None if there was a draw on a budget of 0 W), all three None without
    a window; `over_at_floor_j`, the part of `over_budget_j` that the fleet drew at its floor;
    `unused_while_waiting_j` (J), `settle_p95_s` (s; None without a step), `pjm_score` (0 to 1; None
    if undefined) and `meter_delay_s`, the delay that the over-budget figures allow (s).
    """

    relative_mae: float | None
    at_ceiling_s: float
    at_floor_s: float
    over_budget_j: float | None
    over_budget_s: float | None
    max_over_fraction: float | None
    over_at_floor_j: float | None
    unused_while_waiting_j: float
    settle_p95_s: float | None
    pjm_score: float | None
    meter_delay_s: float


@dataclass(frozen=True, slots=True, eq=False)
class PowerTrace:
    """Budget and draw, one value a window; the windows follow on one another.

    Attributes:
        end_s: End of each window, s, rising.
        width_s: Length of each window, s.
        budget_w: Budget that governed the window, W.
        draw_w: Mean draw over the window, W.
        waiting: Whether requests waited, at the gateway or in the engines.
        at_ceiling: Whether the fleet could draw no more.
        at_floor: Whether the fleet could draw no less.
    """

    end_s: Floats
    width_s: Floats
    budget_w: Floats
    draw_w: Floats
    waiting: Flags
    at_ceiling: Flags
    at_floor: Flags

    @classmethod
    def from_ticks(cls, ticks: Sequence[TickRecord]) -> PowerTrace:
        """Take the trace of a run.

        The first window begins with the run, or is as long as the second if that is shorter.
        """
        end_s = np.array([tick.t_s for tick in ticks], dtype=np.float64)
        width_s = np.diff(end_s, prepend=0.0)
        if len(width_s) > 1:
            width_s[0] = min(width_s[0], width_s[1])
        return cls(
            end_s=end_s,
            width_s=width_s,
            budget_w=np.array([tick.budget_w for tick in ticks], dtype=np.float64),
            draw_w=np.array([tick.draw_w for tick in ticks], dtype=np.float64),
            waiting=np.array([tick.work_waits for tick in ticks], dtype=np.bool_),
            at_ceiling=np.array([tick.bound == "ceiling" for tick in ticks], dtype=np.bool_),
            at_floor=np.array([tick.bound == "floor" for tick in ticks], dtype=np.bool_),
        )

    @property
    def pressed(self) -> Flags:
        """The windows in which work waited or the budget was exceeded."""
        return self.waiting | (self.draw_w > self.budget_w)

    @property
    def scored(self) -> Flags:
        """The pressed windows in which the fleet could draw both more and less."""
        return self.pressed & ~(self.at_ceiling | self.at_floor)


@dataclass(frozen=True, slots=True)
class OverBudget:
    """Draw above the budget, beyond the meter's own delay.

    Attributes:
        energy_j: Energy above the budget, J.
        time_s: Time above it, s.
        max_fraction: Largest share by which one window's energy exceeded what it was allowed;
            None when something was drawn where nothing was allowed.
        at_floor_j: The part of the energy that the fleet drew at its floor, J.
    """

    energy_j: float
    time_s: float
    max_fraction: float | None
    at_floor_j: float = 0.0


def relative_mae(trace: PowerTrace) -> float | None:
    """Return mean(|draw - budget|) / mean(budget) over the scored windows.

    None if no window is scored, or the budget was 0 W in all of them.
    """
    width_s = trace.width_s * trace.scored
    error_j = float(np.abs(trace.draw_w - trace.budget_w) @ width_s)
    budget_j = float(trace.budget_w @ width_s)
    return error_j / budget_j if budget_j > 0 else None


def over_budget(trace: PowerTrace, meter_delay_s: float) -> OverBudget:
    """Return by how much, and for how long, the draw was above the budget.

    A controller cannot react before its meter shows the draw, so a draw counts as over only once
    the budget has been below it for longer than `meter_delay_s`: at every instant the draw is
    compared with the largest budget of the `meter_delay_s` before it. Needs at least one window.
    """
    begin_s = trace.end_s[0] - trace.width_s[0]
    edges_s = np.unique(np.concatenate(([begin_s], trace.end_s, trace.end_s + meter_delay_s)))
    edges_s = edges_s[edges_s <= trace.end_s[-1]]
    span_s = np.diff(edges_s)
    middle_s = edges_s[:-1] + span_s / 2
    window = np.searchsorted(trace.end_s, middle_s)
    oldest = np.searchsorted(trace.end_s, middle_s - meter_delay_s)
    reach = zip(oldest, window, strict=True)
    allowed_w = np.array([trace.budget_w[first : last + 1].max() for first, last in reach])
    over_w = np.maximum(0.0, trace.draw_w[window] - allowed_w)
    over_j = np.bincount(window, weights=over_w * span_s)
    allowed_j = np.bincount(window, weights=allowed_w * span_s)
    exceeded = over_j > 0
    undefined = bool(np.any(allowed_j[exceeded] <= 0))
    shares = over_j[exceeded] / np.where(allowed_j[exceeded] > 0, allowed_j[exceeded], 1.0)
    return OverBudget(
        energy_j=float(over_j.sum()),
        time_s=float(span_s[over_w > 0].sum()),
        max_fraction=None if undefined else float(shares.max(initial=0.0)),
        at_floor_j=float(over_j @ trace.at_floor[: len(over_j)]),
    )


def unused_while_waiting_j(trace: PowerTrace) -> float:
    """Return the energy of the budget that was not drawn while requests waited, J."""
    unused_w = np.maximum(0.0, trace.budget_w - trace.draw_w)
    return float((unused_w * trace.width_s)[trace.waiting].sum())


def budget_steps(trace: PowerTrace) -> NDArray[np.int64]:
    """Return the windows with which a budget step begins: a change of at least `STEP_SHARE`."""
    change_w = np.abs(np.diff(trace.budget_w))
    stepped = (change_w > 0) & (change_w >= (STEP_SHARE - _ROUNDING_SHARE) * trace.budget_w[:-1])
    return np.flatnonzero(stepped) + 1


def held_s(trace: PowerTrace) -> float | None:
    """Return how long each budget step was held at least, until the next one or the end, s.

    None without a step.
    """
    steps = budget_steps(trace)
    begin_s = trace.end_s[steps] - trace.width_s[steps]
    return float(np.diff(begin_s, append=trace.end_s[-1:]).min()) if len(steps) else None


def settle_times_s(trace: PowerTrace) -> Floats:
    """Return, for every budget step, how long the draw took to settle, s.

    The time runs from the step until the draw stays within `SETTLED_SHARE` of the budget up to the
    next step. A window that is not scored counts as settled. A step that has not settled when the
    next one comes continues through it; one that has not settled by the end counts with the time to
    the end, a lower bound. The resolution is one window. The short window just before a cut, in
    which the draw goes down ahead of it, does not count against the step before.
    """
    budget_w, steps = trace.budget_w, budget_steps(trace)
    if not len(steps):
        return np.zeros(0)
    band_w = (SETTLED_SHARE + _ROUNDING_SHARE) * budget_w
    off = trace.scored & (np.abs(trace.draw_w - budget_w) > band_w)
    before_cut = steps[budget_w[steps] < budget_w[steps - 1]] - 1
    off[before_cut[trace.width_s[before_cut] < np.median(trace.width_s) / 2]] = False
    last_off = np.maximum.accumulate(np.where(off, np.arange(len(off)), -1))
    begin_s = trace.end_s - trace.width_s
    settled_s = trace.end_s[-1]
    times_s = []
    stops = np.append(steps[1:], len(off))
    for step, stop in zip(steps[::-1], stops[::-1], strict=True):
        if last_off[stop - 1] < stop - 1:
            settled_s = begin_s[max(step, last_off[stop - 1] + 1)]
        times_s.append(settled_s - begin_s[step])
    return np.array(times_s[::-1], dtype=np.float64)


def percentile_s(times_s: Floats, percent: float) -> float:
    """Return the time within which a percentage of the steps settled.

    It is the time of one of the steps, because times are whole windows: nothing lies between 19
    steps that settled at once and one that took three windows.
    """
    return float(np.percentile(times_s, percent, method="higher"))


def track(ticks: Sequence[TickRecord], meter_delay_s: float) -> Tracking:
    """Return every tracking figure of a run."""
    trace = PowerTrace.from_ticks(ticks)
    over = over_budget(trace, meter_delay_s) if ticks else None
    times_s = settle_times_s(trace)
    return Tracking(
        relative_mae=relative_mae(trace),
        at_ceiling_s=float(trace.width_s @ (trace.pressed & trace.at_ceiling)),
        at_floor_s=float(trace.width_s @ (trace.pressed & trace.at_floor)),
        over_budget_j=over.energy_j if over else None,
        over_budget_s=over.time_s if over else None,
        max_over_fraction=over.max_fraction if over else None,
        over_at_floor_j=over.at_floor_j if over else None,
        unused_while_waiting_j=unused_while_waiting_j(trace),
        settle_p95_s=percentile_s(times_s, 95) if len(times_s) else None,
        pjm_score=pjm_score(trace.width_s, trace.budget_w, trace.draw_w),
        meter_delay_s=meter_delay_s,
    )
