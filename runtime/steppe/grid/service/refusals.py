"""What was refused lately, and why: for operators, and for the log once."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steppe.grid.service.seam import (
    Cancel,
    Change,
    FleetLimits,
    FleetPoints,
    GridView,
    Heard,
    Lift,
    PutEvent,
    PutLimit,
    Repeated,
)

MOST = 100
"""Most reasons that are kept."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was refused.

    Attributes:
        at_s: When that was last, s since the Unix epoch.
        link: The link over which it came.
        reason: Why, in one line.
        times: How often.
    """

    at_s: float
    link: str
    reason: str
    times: int = 1


class Refusals:
    """Keeps the newest reasons, each once.

    Attributes:
        counts: How many changes and messages were refused, by link.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begin without any.

        Args:
            now_s: Reads the time, s since the Unix epoch.
        """
        self.counts: Counter[str] = Counter()
        self._now_s = now_s
        self._known: OrderedDict[tuple[str, str], Refusal] = OrderedDict()

    @property
    def newest(self) -> tuple[Refusal, ...]:
        """The newest ones, the oldest first."""
        return tuple(self._known.values())

    def note(self, link: str, reason: str) -> None:
        """Keep a reason; log it if it is new."""
        self.counts[link] += 1
        before = self._known.pop((link, reason), None)
        now_s = self._now_s()
        if before is None:
            _log.warning("%s: refused: %s", link, reason)
            found = Refusal(now_s, link, reason)
        else:
            found = replace(before, at_s=now_s, times=before.times + 1)
        self._known[link, reason] = found
        if len(self._known) > MOST:
            self._known.popitem(last=False)


class NotedLimits:
    """The limits of a fleet, with a note of what they refuse."""

    def __init__(self, limits: FleetLimits, refusals: Refusals) -> None:
        """Name the limits, and where refusals are noted."""
        self._limits, self._refusals = limits, refusals

    async def take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes, as `FleetLimits.take` does."""
        if not changes:
            return []
        answers = await self._limits.take(changes)
        for change, reason in zip(changes, answers, strict=True):
            if reason:
                self._refusals.note(link_of(change), reason)
        return answers

    async def view(self, after: int) -> GridView:
        """Return what is known now, as `FleetLimits.view` does."""
        return await self._limits.view(after)

    async def points(self) -> FleetPoints | None:
        """Return what the fleet can do, as `FleetLimits.points` does."""
        return await self._limits.points()


def link_of(change: Change) -> str:
    """Return the link of a change."""
    match change:
        case PutLimit(limit):
            return limit.source
        case PutEvent(event):
            return event.source
        case Lift(link) | Cancel(link) | Heard(link) | Repeated(link):
            return link
