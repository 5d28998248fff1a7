"""`grid.loadtarget.set.v1`: the most that feeds may draw, in intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.grid.dsx.envelope import MessageError, seconds_of, shown, time_of
from steppe.grid.dsx.power import power_of, watts_of

_MOST_TARGETS = 256


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """A limit for some feeds in an interval.

    Attributes:
        limit_w: Most that each of the feeds may draw, W; None takes earlier targets away.
        starts_s: First second, s since the Unix epoch; None is when the message arrives.
        ends_s: End, s since the Unix epoch; infinite holds until it is replaced.
        feeds: The feeds; empty for all.
        best_effort: Whether the site sheds what it can without a disruption, and no more.
    """

    limit_w: float | None
    starts_s: float | None = None
    ends_s: float = math.inf
    feeds: tuple[str, ...] = ()
    best_effort: bool = False

    def content(self) -> dict[str, Any]:
        """Return it as an item of `targets`."""
        interval = {} if self.starts_s is None else {"start_time": time_of(self.starts_s)}
        if math.isfinite(self.ends_s):
            interval["end_time"] = time_of(self.ends_s)
        return {
            "interval": interval,
            "feed_tags": list(self.feeds),
            "load_constraint": None if self.limit_w is None else power_of(self.limit_w),
            "strategy": {"best_effort": self.best_effort},
        }


def load_target_content(*targets: LoadTarget) -> dict[str, Any]:
    """Return the content of a message that sets targets."""
    return {"targets": [each.content() for each in targets]}


def parse_load_targets(content: Mapping[str, Any]) -> tuple[LoadTarget, ...]:
    """Return the targets of a message; one wrong target refuses all of them.

    Raises:
        MessageError: A target is wrong, or there are none or too many.
    """
    found = content.get("targets")
    if not isinstance(found, list) or not 1 <= len(found) <= _MOST_TARGETS:
        size = f"{len(found)}" if isinstance(found, list) else shown(found)
        raise MessageError(f"targets: asked for a list of 1 to {_MOST_TARGETS}, found {size}")
    return tuple(_parse(f"targets[{index}]", each) for index, each in enumerate(found))


def _parse(what: str, found: object) -> LoadTarget:
    fields = _object(what, found)
    for name in ("interval", "load_constraint"):
        if name not in fields:
            raise MessageError(f"{what}: asked for {name}, found none")
    interval = _object(f"{what}.interval", fields["interval"])
    starts_s = _time(f"{what}.interval.start_time", interval.get("start_time"))
    ends_s = _time(f"{what}.interval.end_time", interval.get("end_time"))
    if starts_s is not None and ends_s is not None and ends_s <= starts_s:
        raise MessageError(f"{what}: asked for an end after the start, found {shown(interval)}")
    constraint = fields["load_constraint"]
    strategy = _object(f"{what}.strategy", fields.get("strategy", {}))
    best_effort = strategy.get("best_effort", False)
    if not isinstance(best_effort, bool):
        raise MessageError(f"{what}.strategy: asked for true or false, found {shown(best_effort)}")
    return LoadTarget(
        None if constraint is None else watts_of(f"{what}.load_constraint", constraint),
        starts_s,
        math.inf if ends_s is None else ends_s,
        _feeds(f"{what}.feed_tags", fields.get("feed_tags", [])),
        best_effort,
    )


def _object(what: str, found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise MessageError(f"{what}: asked for an object, found {shown(found)}")
    return found


def _time(what: str, found: object) -> float | None:
    return None if found is None else seconds_of(what, found)


def _feeds(what: str, found: object) -> tuple[str, ...]:
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return tuple(dict.fromkeys(found))
    raise MessageError(f"{what}: asked for a list of names, found {shown(found)}")
