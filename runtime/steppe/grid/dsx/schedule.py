"""The targets of one feed over time, and the limit that follows from them. Pure: no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from steppe.grid.dsx.envelope import MessageError
from steppe.grid.dsx.load_target import LoadTarget

_MOST_HELD = 256


@dataclass(frozen=True, slots=True)
class Feed:
    """A supply line of the site.

    Attributes:
        tag: Its name in messages.
        minimum_w: Least that it can be brought to, W.
        maximum_w: Most that it carries, W.
        default_w: Most that it may draw where no target holds, W.
    """

    tag: str
    minimum_w: float
    maximum_w: float
    default_w: float


@dataclass(frozen=True, slots=True)
class HeldTarget:
    """A target of a feed that has not ended.

    Attributes:
        target: The target; its start is known.
        starts_s: Its start, s since the Unix epoch.
        correlation_id: The command that set it.
        until_s: Infinite, or the time to which it is held since the link was lost, s.
    """

    target: LoadTarget
    starts_s: float
    correlation_id: str
    until_s: float = math.inf

    @property
    def is_confirmed(self) -> bool:
        """Whether the link was there all the time since it was set."""
        return math.isinf(self.until_s)

    @property
    def ends_s(self) -> float:
        """The time from which it has no effect, s since the Unix epoch."""
        return min(self.target.ends_s, self.until_s)


@dataclass(frozen=True, slots=True)
class FeedLimit:
    """The limit of a feed at a time.

    Attributes:
        watts: Most that it may draw, W.
        held: The target that sets it; None where the default does.
    """

    watts: float
    held: HeldTarget | None


@dataclass(frozen=True, slots=True)
class FeedSchedule:
    """The targets of a feed, in the order in which they came: the latest one wins.

    Attributes:
        feed: The feed.
        held: Its targets.
    """

    feed: Feed
    held: tuple[HeldTarget, ...] = ()

    def with_target(self, target: LoadTarget, correlation_id: str, now_s: float) -> FeedSchedule:
        """Return the schedule with one target more, without those that it covers or that ended.

        Raises:
            MessageError: The target has ended, or there are too many.
        """
        starts_s = now_s if target.starts_s is None else target.starts_s
        if target.ends_s <= now_s:
            late_s = now_s - target.ends_s
            raise MessageError(f"targets: asked for an end ahead, found one {late_s:.0f} s ago")
        new = HeldTarget(target, starts_s, correlation_id)
        left = tuple(
            each
            for each in self.held
            if each.ends_s > now_s
            and not (new.starts_s <= max(each.starts_s, now_s) and each.ends_s <= new.ends_s)
        )
        if len(left) >= _MOST_HELD:
            raise MessageError(f"targets: asked for {_MOST_HELD} at once at most, found more")
        return replace(self, held=(*left, new))

    def unconfirmed(self, until_s: float) -> FeedSchedule:
        """Return the schedule after the link was lost: targets are held to `until_s`."""
        held = (replace(each, until_s=until_s) if each.is_confirmed else each for each in self.held)
        return replace(self, held=tuple(held))

    def limit(self, at_s: float) -> FeedLimit:
        """Return the limit at a time.

        A target that was not repeated since the link was lost never lifts the limit above the
        default, and after its time the default holds.
        """
        for each in reversed(self.held):
            if each.starts_s <= at_s < each.ends_s:
                return self._limit_of(each)
        return FeedLimit(self.feed.default_w, None)

    def _limit_of(self, held: HeldTarget) -> FeedLimit:
        if held.target.limit_w is None:
            return FeedLimit(self.feed.default_w, None)
        if held.is_confirmed:
            return FeedLimit(min(held.target.limit_w, self.feed.maximum_w), held)
        if held.target.limit_w > self.feed.default_w:
            return FeedLimit(self.feed.default_w, None)
        return FeedLimit(held.target.limit_w, held)

    def changes(self, from_s: float, until_s: float) -> Iterator[float]:
        """Yield the times after `from_s` and before `until_s` at which the limit may change."""
        for each in self.held:
            for at_s in (each.starts_s, each.ends_s):
                if from_s < at_s < until_s:
                    yield at_s
