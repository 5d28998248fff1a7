"""A limit from outside, and the link that delivers it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.grid.events.check import DAY_S, check_name


@dataclass(frozen=True, slots=True)
class Link:
    """Where limits come from, and what holds while it is lost.

    Attributes:
        name: Its name, such as `openadr`.
        default_w: Most that the site may draw while the link is lost, has not been heard yet, or
            has not repeated its limits since, W.
        lost_s: Time without a sign of life after which it counts as lost, s.
    """

    name: str
    default_w: float
    lost_s: float

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: A figure is absurd.
        """
        check_name("link", self.name)
        check_watts(f"link {self.name}: default_w", self.default_w)
        if not 0 < self.lost_s <= LARGEST:
            wanted = f"link {self.name}: asked for lost_s above 0 and up to {LARGEST:g} s"
            raise UsageError(f"{wanted}, found {self.lost_s:g} s")


@dataclass(frozen=True, slots=True)
class Step:
    """A limit from a time on.

    Attributes:
        from_s: When it begins, s since the Unix epoch.
        watts: Most that the site may draw, W.
    """

    from_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A schedule of limits, and what holds when the schedule says nothing.

    Attributes:
        name: Its name, unique for a source; a newer one replaces an older one of the same name.
        source: The link that delivered it.
        issued_s: When it was sent, s since the Unix epoch.
        watts: The schedule, in the order of time.
        expires_s: End of the schedule, s since the Unix epoch; None if it holds until replaced.
        default_w: What holds before the schedule, after its end, and after it is lifted, W.
    """

    name: str
    source: str
    issued_s: float
    watts: tuple[Step, ...]
    expires_s: float | None
    default_w: float

    def at(self, now_s: float) -> float | None:
        """Return what the schedule allows, W; None before its first step and after its end."""
        if self.expires_s is not None and now_s >= self.expires_s:
            return None
        begun = bisect_right(self.watts, now_s, key=lambda step: step.from_s)
        return self.watts[begun - 1].watts if begun else None


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """What a limit may ask.

    Attributes:
        horizon_s: How far ahead of the present a step may begin, s.
        most_steps: Most steps of a schedule.
        most_held: Most names of one source.
    """

    horizon_s: float = 31 * DAY_S
    most_steps: int = 3000
    most_held: int = 64


def check_watts(what: str, watts: float) -> None:
    """Check a number of watts.

    Raises:
        UsageError: It is negative, not finite or absurd.
    """
    if not 0 <= watts <= LARGEST:
        raise UsageError(f"{what}: asked for 0 to {LARGEST:g} W, found {watts:g} W")


def check_limit(limit: Limit, now_s: float, held: Iterable[Limit], terms: LimitTerms) -> None:
    """Check a new limit, or a new version of one.

    Args:
        limit: The limit.
        now_s: Time, s since the Unix epoch.
        held: The limits of the same source that are held.
        terms: What it may ask.

    Raises:
        UsageError: It is stale, too far ahead, absurd, or not newer than the one of its name.
    """
    check_name("limit", limit.name)
    if len(limit.watts) > terms.most_steps:
        wanted = f"at most {terms.most_steps} steps"
        raise _refused(limit, wanted, f"{len(limit.watts)}")
    check_watts(f"limit {limit.name}: default_w", limit.default_w)
    for step in limit.watts:
        check_watts(f"limit {limit.name}", step.watts)
    _check_times(limit, now_s, terms)
    own = {each.name: each for each in held}
    before = own.get(limit.name)
    if before is None:
        if len(own) >= terms.most_held:
            raise _refused(limit, f"at most {terms.most_held} names of a link", "one more")
    elif limit.issued_s < before.issued_s:
        wanted = f"a version newer than that of {before.issued_s:.3f} s"
        raise _refused(limit, wanted, f"one of {limit.issued_s:.3f} s")
    elif limit.issued_s == before.issued_s and limit != before:
        raise _refused(limit, "one limit per name and issue", "another one with the same")


def _check_times(limit: Limit, now_s: float, terms: LimitTerms) -> None:
    times = [limit.issued_s, *(step.from_s for step in limit.watts)]
    absurd = [each for each in times if not (math.isfinite(each) and each >= 0)]
    if absurd:
        raise _refused(limit, "times from 0 s on", f"{absurd[0]:g} s")
    starts = times[1:]
    if any(after <= before for before, after in pairwise(starts)):
        raise _refused(limit, "steps in the order of time", "one that is not after the one before")
    ahead_s = max(times) - now_s
    if ahead_s > terms.horizon_s:
        wanted = f"steps and an issue within {terms.horizon_s:.0f} s"
        raise _refused(limit, wanted, f"one that is {ahead_s:.0f} s ahead")
    match limit.expires_s:
        case None:
            return
        case float() | int() as end_s if not end_s > now_s:
            raise _refused(limit, "an end in the future", f"one that was {now_s - end_s:.0f} s ago")
        case end_s if starts and end_s <= starts[-1]:
            raise _refused(limit, "an end after the last step", "one before it")
        case end_s if not math.isfinite(end_s):
            raise _refused(limit, "an end, or none", f"{end_s:g} s")


def _refused(limit: Limit, wanted: str, found: str) -> UsageError:
    return UsageError(f"limit {limit.name}: asked for {wanted}, found {found}")
