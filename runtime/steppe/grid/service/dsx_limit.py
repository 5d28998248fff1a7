"""What the targets of DSX feeds mean for the limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from steppe.grid.dsx.schedule import FeedSchedule
from steppe.grid.dsx.site_limits import site_limits
from steppe.grid.limits.limit import Limit, Step
from steppe.grid.service.links import DSX
from steppe.grid.service.seam import GridView

SITE = "site"
"""Name of the limit that all feeds set together."""
HORIZON_S = 30 * 86400.0
"""How far ahead targets are handed over, s."""
_NEWER_S = 0.001


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier process of the service had handed over.

    Attributes:
        limit: The limit.
        until_s: Time to which it is held if no target is repeated, s since the Unix epoch.
    """

    limit: Limit
    until_s: float

    def most_w(self, at_s: float, default_w: float) -> float:
        """Return the most that it lets the site draw, W: like a target of a link that was lost.

        Args:
            at_s: The time, s since the Unix epoch.
            default_w: What holds without a target, W.
        """
        watts = self.limit.at(at_s) if at_s < self.until_s else None
        return default_w if watts is None else min(watts, default_w)


def site_limit(
    schedules: Mapping[str, FeedSchedule],
    now_s: float,
    last: Limit | None,
    before: Before | None,
) -> Limit:
    """Return the limit of the site from now on.

    Args:
        schedules: The targets of each feed.
        now_s: Time, s since the Unix epoch.
        last: The limit that is held; None if there is none.
        before: What an earlier process had handed over, until a target is repeated; else None.
    """
    default_w = sum(each.feed.default_w for each in schedules.values())
    steps = dict(site_limits(schedules, now_s, now_s + HORIZON_S))
    if before is not None:
        times = {now_s, before.until_s, *steps, *(e.from_s for e in before.limit.watts)}
        steps = {
            t: min(_at(steps, t), before.most_w(t, default_w)) for t in sorted(times) if t >= now_s
        }
    merged = (next(iter(same)) for _, same in groupby(steps.items(), key=lambda at: at[1]))
    issued_s = now_s if last is None else max(now_s, last.issued_s + _NEWER_S)
    watts = tuple(Step(at_s, w) for at_s, w in merged)
    return Limit(SITE, DSX, issued_s, watts, None, default_w)


def held_site(view: GridView) -> Limit | None:
    """Return the limit of the site that the limits hold; None if there is none."""
    return next((each for each in view.limits if (each.source, each.name) == (DSX, SITE)), None)


def _at(steps: Mapping[float, float], at_s: float) -> float:
    return steps[max(each for each in steps if each <= at_s)]
