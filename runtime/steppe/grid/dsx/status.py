"""`grid.powerstate.status.v1`: what each feed may draw, draws, and is about to do. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from steppe.grid.dsx.envelope import time_of
from steppe.grid.dsx.power import power_of
from steppe.grid.dsx.schedule import Feed, FeedLimit, FeedSchedule, HeldTarget

Trigger = Literal[
    "target_set", "start_ramp_down", "end_ramp_down", "start_ramp_up", "end_ramp_up", "periodic"
]
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Ramp:
    """Where a feed is between two limits.

    Attributes:
        limit_w: The limit that it follows, W.
        direction: Which way it goes; None where it has arrived.
        since_s: Start of the power event, s since the Unix epoch; None where there is none.
    """

    limit_w: float
    direction: Literal["down", "up"] | None = None
    since_s: float | None = None

    def step(
        self, limit: FeedLimit, load_w: float, now_s: float, settle_s: float
    ) -> tuple[Ramp, Trigger | None]:
        """Return the ramp after a measurement, and what has changed.

        Args:
            limit: The limit now.
            load_w: What the feed draws, W.
            now_s: Time, s since the Unix epoch.
            settle_s: How long a ramp up takes, s: its end is in no measurement.
        """
        if limit.watts < self.limit_w:
            return Ramp(limit.watts, "down", now_s), "start_ramp_down"
        if limit.watts > self.limit_w:
            return Ramp(limit.watts, "up", now_s), "start_ramp_up"
        if self.direction == "down" and load_w <= limit.watts * (1 + _TOLERANCE):
            return replace(self, direction=None), "end_ramp_down"
        since_s = now_s if self.since_s is None else self.since_s
        if self.direction == "up" and now_s - since_s >= settle_s:
            left_s = self.since_s if limit.held is not None else None
            return replace(self, direction=None, since_s=left_s), "end_ramp_up"
        return self, None


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What the status says of a feed beside its targets.

    Attributes:
        load_w: What it draws, by our calculation, W.
        ramp: Where it is between two limits.
        trigger: Why the status is sent.
    """

    load_w: float
    ramp: Ramp
    trigger: Trigger


def status_content(
    schedules: Mapping[str, FeedSchedule], reports: Mapping[str, FeedReport], now_s: float
) -> dict[str, Any]:
    """Return the content of a status of all feeds."""
    return {
        "snapshot_time": time_of(now_s),
        "feeds": {tag: _feed(each, reports[tag], now_s) for tag, each in schedules.items()},
    }


def _feed(schedule: FeedSchedule, report: FeedReport, now_s: float) -> dict[str, Any]:
    limit = schedule.limit(now_s)
    targets = [
        _target(each, limit)
        for each in schedule.held
        if each.ends_s > now_s and each.target.limit_w is not None
    ]
    content = {
        "metadata": _metadata(schedule.feed),
        "targets": targets,
        "calculated_load": power_of(report.load_w),
        "in_flight": report.ramp.direction is not None,
        "event": report.trigger,
        "compliant": limit.held is None or report.load_w <= limit.watts * (1 + _TOLERANCE),
    }
    if report.ramp.since_s is not None:
        content["power_event_start_time"] = time_of(report.ramp.since_s)
    return content


def _metadata(feed: Feed) -> dict[str, Any]:
    return {
        "power_minimum": power_of(feed.minimum_w),
        "power_maximum": power_of(feed.maximum_w),
        "default_constraint": power_of(feed.default_w),
    }


def _target(held: HeldTarget, limit: FeedLimit) -> dict[str, Any]:
    interval = {"start_time": time_of(held.starts_s)}
    if math.isfinite(held.target.ends_s):
        interval["end_time"] = time_of(held.target.ends_s)
    return {
        "active": held is limit.held,
        "load_constraint": power_of(held.target.limit_w or 0.0),
        "interval": interval,
        "strategy": {"best_effort": held.target.best_effort},
        "correlation_id": held.correlation_id,
    }
