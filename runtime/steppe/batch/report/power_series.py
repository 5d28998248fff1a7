"""Supply, budget and draw over the life of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steppe.batch.report.row_spans import Floats, RowSpans, amount_until
from steppe.batch.report.timeline import TimelinePoint
from steppe.control.admission import DEFERRABLE, PRIORITIES

MOST_STEPS = 360
"""Most steps of a series; no figure on a page shows more."""
SHORTEST_STEP_S = 1.0
"""Shortest step of a series, s."""
MOST_GAP_S = 60.0
"""A point of the timeline covers the time since the one before, but no more than this, s."""
SMOOTH_S = 10.0
"""The joules of a request are known at its end, so that their power is a mean of this time, s."""


@dataclass(frozen=True, slots=True, eq=False)
class PowerSeries:
    """What a job and its fleet drew, one value a step; nan where it is not known.

    Attributes:
        edges_s: Begin of the first step, and the end of every step, s since the epoch; (n + 1,).
        renewable_w: Supply without bought power, and what a battery gave, W at the site; 0 while a
            supply was stale; (n,).
        bought_w: Bought power on offer, W at the site; (n,).
        surplus_w: What of the renewable power overhead and the rest of the nodes leave for the
            GPUs, what a battery gave included, W; 0 while a supply was stale; (n,).
        site_draw_w: Draw of the site, W; (n,).
        budget_w: Power budget of the GPUs, W; (n,).
        draw_w: Draw of the GPUs, W; (n,).
        batch_w: Draw of the job's rows, W; (n,).
        interactive_w: Draw of the requests of the other classes, W; (n,).
        busy: Share of the step in which at least one row ran; (n,).
        output_tps: Output tokens per second of the job's rows; (n,).
        rows_done: Rows that had ended at the end of the step; (n,).
    """

    edges_s: Floats
    renewable_w: Floats
    bought_w: Floats
    surplus_w: Floats
    site_draw_w: Floats
    budget_w: Floats
    draw_w: Floats
    batch_w: Floats
    interactive_w: Floats
    busy: Floats
    output_tps: Floats
    rows_done: Floats

    @property
    def step_s(self) -> float:
        """Length of a step, s."""
        return float(self.edges_s[1] - self.edges_s[0])


def series_of(
    rows: RowSpans, timeline: Sequence[TimelinePoint], begin_s: float, end_s: float
) -> PowerSeries:
    """Return the series of a job from `begin_s` to `end_s`, s since the Unix epoch."""
    length_s = max(end_s - begin_s, SHORTEST_STEP_S)
    steps = int(min(MOST_STEPS, np.ceil(length_s / SHORTEST_STEP_S)))
    edges_s = begin_s + np.linspace(0.0, length_s, steps + 1)
    width_s = length_s / steps

    def mean(value_of: Callable[[TimelinePoint], float | None]) -> Floats:
        return _means(edges_s, timeline, value_of)

    draw_w, batch_w = mean(lambda point: point.draw_w), _rates(rows.energy_until_j, edges_s)
    return PowerSeries(
        edges_s=edges_s,
        renewable_w=mean(_renewable_w),
        bought_w=mean(lambda point: point.firm_w),
        surplus_w=mean(_surplus_w),
        site_draw_w=mean(lambda point: point.site_draw_w),
        budget_w=mean(lambda point: point.budget_w),
        draw_w=draw_w,
        batch_w=batch_w,
        interactive_w=np.minimum(
            _interactive_w(edges_s, timeline), np.maximum(0.0, draw_w - batch_w)
        ),
        busy=np.diff(rows.busy_until_s(edges_s)) / width_s,
        output_tps=_rates(rows.tokens_until, edges_s),
        rows_done=rows.rows_until(edges_s[1:]),
    )


def _renewable_w(point: TimelinePoint) -> float | None:
    """Return the supply that is not bought, and what a battery gave; a fallback is no supply."""
    if point.supply_w is None:
        return None
    if point.stale:
        return 0.0
    own_w = max(0.0, point.supply_w - (point.firm_w or 0.0))
    return own_w + max(0.0, point.battery_w or 0.0)


def _surplus_w(point: TimelinePoint) -> float | None:
    if point.surplus_w is None:
        return None
    if point.stale:
        return 0.0
    given_w = max(0.0, point.battery_w or 0.0)
    return point.surplus_w + given_w * _gpu_share(point)


def _gpu_share(point: TimelinePoint) -> float:
    """Return the watts at the GPUs for each watt at the site."""
    if not point.site_draw_w or point.draw_w is None:
        return 0.0
    return min(1.0, point.draw_w / point.site_draw_w)


def _rates(until: Callable[[Floats], Floats], edges_s: Floats) -> Floats:
    rates: Floats = np.diff(until(edges_s)) / np.diff(edges_s)
    return np.maximum(0.0, rates)


def _means(
    edges_s: Floats,
    timeline: Sequence[TimelinePoint],
    value_of: Callable[[TimelinePoint], float | None],
) -> Floats:
    """Return the time-weighted mean of a value in each step, nan where the timeline has none."""
    spans = [
        (before.at_epoch_s, after.at_epoch_s, value)
        for before, after in _covered(timeline)
        if (value := value_of(after)) is not None
    ]
    if not spans:
        return np.full(len(edges_s) - 1, np.nan)
    begun_s, ended_s, values = np.array(spans, dtype=np.float64).T
    length_s = ended_s - begun_s
    total = np.diff(amount_until(edges_s, begun_s, ended_s, values * length_s))
    known_s = np.diff(amount_until(edges_s, begun_s, ended_s, length_s))
    enough = known_s > 0.5 * np.diff(edges_s)
    return np.where(enough, total / np.where(enough, known_s, 1.0), np.nan)


def _interactive_w(edges_s: Floats, timeline: Sequence[TimelinePoint]) -> Floats:
    """Return the mean power of the requests that cannot wait, nan without a timeline."""
    pairs = _covered(timeline)
    if not pairs:
        return np.full(len(edges_s) - 1, np.nan)
    begun_s = np.array([before.at_epoch_s for before, _ in pairs])
    ended_s = np.array([after.at_epoch_s for _, after in pairs])
    # A gateway that has started anew counts from 0.
    added_j = np.array([max(0.0, _urgent_j(after) - _urgent_j(before)) for before, after in pairs])
    margin_s = max(0.0, SMOOTH_S - (edges_s[1] - edges_s[0])) / 2
    low_s = np.maximum(edges_s[:-1] - margin_s, begun_s[0])
    high_s = np.maximum(np.minimum(edges_s[1:] + margin_s, ended_s[-1]), low_s + 1e-6)
    low_j, high_j = (amount_until(at_s, begun_s, ended_s, added_j) for at_s in (low_s, high_s))
    power_w: Floats = np.maximum(0.0, (high_j - low_j) / (high_s - low_s))
    return power_w


def _urgent_j(point: TimelinePoint) -> float:
    deferrable = PRIORITIES[DEFERRABLE]
    return sum(joules for name, joules in point.request_energy_j.items() if name != deferrable)


def _covered(timeline: Sequence[TimelinePoint]) -> list[tuple[TimelinePoint, TimelinePoint]]:
    """Return the pairs of neighbours that are near enough for the later one to hold between."""
    return [
        (before, after)
        for before, after in pairwise(timeline)
        if 0 < after.at_epoch_s - before.at_epoch_s <= MOST_GAP_S
    ]
