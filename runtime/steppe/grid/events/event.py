"""An event of the grid: what it asks, from when, how fast and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

Kind = Literal["limit", "setpoint", "relative", "price", "emergency"]
"""What an event is; a `price` sets no limit."""


@dataclass(frozen=True, slots=True)
class Watts:
    """A target in watts.

    Attributes:
        watts: Most that the site may draw, W.
    """

    watts: float


@dataclass(frozen=True, slots=True)
class Share:
    """A target as a share of the baseline.

    Attributes:
        share: Most that the site may draw, as a share of the baseline; 0.7 is 30 % less.
    """

    share: float


Target = Watts | Share


@dataclass(frozen=True, slots=True)
class GridEvent:
    """An event; all times are seconds since the Unix epoch, all spans are seconds.

    The limit goes from the baseline to the target between `starts_s` and the end of the ramp
    down, stays there until `hold_until_s`, and goes back to the baseline within `ramp_up_s`.

    Attributes:
        id: Its name, unique for a source.
        program: The programme of which it is an event.
        priority: 0 is the highest.
        issued_s: When this version of it was sent; a newer one replaces an older one.
        starts_s: Start of the ramp down.
        ramp_down_s: Duration of the ramp down.
        hold_until_s: End of the hold, and start of the ramp up.
        ramp_up_s: Duration of the ramp up.
        target: What holds between the ramps; None if and only if it is a `price`.
        kind: What it is.
        source: The link that delivered it.
        settle_s: How long the baseline stays the limit after the ramp up, so that what waited
            makes no rebound.
    """

    id: str
    program: str
    priority: int
    issued_s: float
    starts_s: float
    ramp_down_s: float
    hold_until_s: float
    ramp_up_s: float
    target: Target | None
    kind: Kind
    source: str
    settle_s: float = 0.0

    @property
    def holds_s(self) -> float:
        """End of the ramp down and start of the hold, s."""
        return self.starts_s + self.ramp_down_s

    @property
    def ends_s(self) -> float:
        """The time from which it asks for nothing more, s."""
        return self.hold_until_s + self.ramp_up_s + self.settle_s

    def target_w(self, baseline_w: float) -> float | None:
        """Return the target, W; None for a price."""
        match self.target:
            case None:
                return None
            case Watts(watts):
                return watts
            case Share(share):
                return share * baseline_w
            case _:
                assert_never(self.target)


def limit_w(event: GridEvent, now_s: float, baseline_w: float) -> float | None:
    """Return the most that the site may draw, W; None before the start and after the end.

    After the hold it is never above the baseline, even where the target is.

    Args:
        event: The event.
        now_s: Time, s since the Unix epoch.
        baseline_w: What the site drew before the event, W.
    """
    target_w = event.target_w(baseline_w)
    if target_w is None or not event.starts_s <= now_s < event.ends_s:
        return None
    if now_s < event.holds_s:
        share = (now_s - event.starts_s) / event.ramp_down_s
        return baseline_w + share * (target_w - baseline_w)
    if now_s < event.hold_until_s:
        return target_w
    if now_s < event.hold_until_s + event.ramp_up_s:
        share = (now_s - event.hold_until_s) / event.ramp_up_s
        return min(baseline_w, target_w + share * (baseline_w - target_w))
    return baseline_w


def cancelled(event: GridEvent, now_s: float, baseline_w: float) -> GridEvent | None:
    """Return what is left of an event that is cancelled: its ramp up from where the limit is now.

    Args:
        event: The event.
        now_s: Time of the cancellation, s since the Unix epoch.
        baseline_w: What the site drew before the event, W.

    Returns:
        An event that ramps up at the rate of the first one; None if it had not begun or has ended.
    """
    now_w = limit_w(event, now_s, baseline_w)
    if now_w is None or now_s >= event.hold_until_s:
        return event if now_w is not None else None
    target_w = event.target_w(baseline_w)
    depth_w = baseline_w - (now_w if target_w is None else target_w)
    share = min(1.0, max(0.0, (baseline_w - now_w) / depth_w)) if depth_w > 0 else 0.0
    return replace(
        event,
        starts_s=now_s,
        ramp_down_s=0.0,
        hold_until_s=now_s,
        ramp_up_s=share * event.ramp_up_s,
        target=Watts(now_w),
    )
