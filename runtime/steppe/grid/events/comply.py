"""Whether the site can comply with an event, before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.events.event import GridEvent

_TOLERANCE_W = 1e-6
_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True)
class Reach:
    """How far down the site gets with what acts within a time.

    Attributes:
        down_w: How much less than the baseline it draws then, W, with all that acts by then.
        within_s: Time from the decision until it does, s.
        longest_s: How long it can stay there, s.
    """

    down_w: float
    within_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Flexibility:
    """How far, how fast and for how long the site can go down.

    Attributes:
        reaches: What it reaches, such as with clocks, without batch work, with replicas asleep.
        fall_w_per_s: Fastest fall of its draw, W/s.
    """

    reaches: tuple[Reach, ...]
    fall_w_per_s: float


@dataclass(frozen=True, slots=True)
class Complies:
    """The site can comply.

    Attributes:
        needs_s: The part of the notice that it needs, s: it must begin this long before the start.
    """

    needs_s: float


@dataclass(frozen=True, slots=True)
class CannotComply:
    """The site cannot comply.

    Attributes:
        reason: Why, in one line.
        short_w: How much more than asked it draws at the worst, W.
    """

    reason: str
    short_w: float


def can_comply(
    event: GridEvent, baseline_w: float, flexibility: Flexibility, now_s: float
) -> Complies | CannotComply:
    """Return whether the site can comply with an event that it begins to follow now.

    The draw may fall before the ramp begins, but not behind it. Only what lasts until the end of
    the hold counts.

    Args:
        event: The event.
        baseline_w: What the site draws before the event, W.
        flexibility: What the site can do.
        now_s: Time, s since the Unix epoch.
    """
    target_w = event.target_w(baseline_w)
    is_above = target_w is None or target_w >= baseline_w - _TOLERANCE_W
    if target_w is None or is_above or event.hold_until_s <= now_s:
        return Complies(0.0)
    asked_w = baseline_w - target_w
    hold_s = event.hold_until_s - max(now_s, event.starts_s)
    lasting = [each for each in flexibility.reaches if each.longest_s >= hold_s]
    most_w = max((each.down_w for each in lasting), default=0.0)
    if asked_w > most_w + _TOLERANCE_W:
        asked = f"{asked_w:.0f} W less for {hold_s:.0f} s"
        return _cannot(event, asked, f"{most_w:.0f} W less for that long", asked_w - most_w)
    fall = _fastest_fall(lasting, asked_w, flexibility.fall_w_per_s)
    slope_s_per_w = event.ramp_down_s / asked_w
    needs_s = max(at_s - slope_s_per_w * down_w for at_s, down_w in fall)
    notice_s = event.starts_s - now_s
    if needs_s <= notice_s + _TOLERANCE_S:
        return Complies(max(0.0, needs_s))
    asked = f"{asked_w:.0f} W less within {max(0.0, event.holds_s - now_s):.0f} s"
    if event.ramp_down_s > 0:
        asked += f" at {asked_w / event.ramp_down_s:.1f} W/s"
    found = f"a notice of {max(0.0, notice_s):.0f} s where {needs_s:.0f} s are needed"
    return _cannot(event, asked, found, _short_w(event, asked_w, fall, now_s))


def _fastest_fall(
    reaches: Sequence[Reach], asked_w: float, fall_w_per_s: float
) -> list[tuple[float, float]]:
    """Return the corners of the fastest fall: seconds from now and watts down, up to `asked_w`."""
    corners = []
    at_s = down_w = 0.0
    for reach in sorted(reaches, key=lambda each: each.within_s):
        to_w = min(reach.down_w, asked_w)
        if to_w <= down_w:
            continue
        at_s = max(at_s, reach.within_s)
        corners.append((at_s, down_w))
        at_s += (to_w - down_w) / fall_w_per_s if fall_w_per_s > 0 else math.inf
        down_w = to_w
        corners.append((at_s, down_w))
    return corners


def _short_w(
    event: GridEvent, asked_w: float, fall: Sequence[tuple[float, float]], now_s: float
) -> float:
    """Return by how much the fastest fall is behind the event at the worst, W."""

    def wanted_w(after_s: float) -> float:
        since_s = now_s + after_s - event.starts_s
        if since_s < 0:
            return 0.0
        return asked_w * min(1.0, since_s / event.ramp_down_s) if event.ramp_down_s else asked_w

    def fallen_w(after_s: float) -> float:
        fallen = 0.0
        for (from_s, from_w), (to_s, to_w) in zip(fall[::2], fall[1::2], strict=True):
            if after_s >= to_s:
                fallen = to_w
            elif after_s > from_s:
                fallen = from_w + (after_s - from_s) / (to_s - from_s) * (to_w - from_w)
        return fallen

    times_s = [at_s for at_s, _ in fall if math.isfinite(at_s)]
    times_s += [event.starts_s - now_s, event.holds_s - now_s]
    return max(wanted_w(each) - fallen_w(each) for each in times_s if each >= 0)


def _cannot(event: GridEvent, asked: str, found: str, short_w: float) -> CannotComply:
    return CannotComply(f"event {event.id}: asked for {asked}, found {found}", short_w)
