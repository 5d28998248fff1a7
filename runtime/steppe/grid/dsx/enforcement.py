"""`grid.powerbreach.enforcement.v1`: what the infrastructure did about a breach. Pure.

It changes no limit: the draw that follows says what was done to the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.grid.dsx.envelope import UUID4, MessageError, seconds_of, shown
from steppe.grid.dsx.power import watts_of

_MOST_RESULTS = 4096
_ACTIONS = ("applied", "reverted")
_CODES = ("success", "partial", "error")
_RESULTS = ("applied", "failed", "skipped")
_KINDS = ("node", "gpu", "chassis")
_REQUESTED = ("power_cap", "throttle", "suspend")


@dataclass(frozen=True, slots=True)
class EnforcementResult:
    """What was done to one resource.

    Attributes:
        resource: Its name, as in the hint of the alert.
        kind: What it is: node, gpu or chassis.
        requested: What was asked: power_cap, throttle or suspend.
        code: applied, failed or skipped.
        message: Why, for people; empty if nothing was said.
        applied_w: The power that it is capped to, W; None if that was not said.
    """

    resource: str
    kind: str
    requested: str
    code: str
    message: str = ""
    applied_w: float | None = None


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What was done about a breach.

    Attributes:
        breach_id: The breach, as the alert named it.
        feed: Tag of the feed.
        action: applied or reverted.
        code: success, partial or error.
        message: Why, for people; empty if nothing was said.
        at_s: When it was done, s since the Unix epoch.
        results: What was done to each resource.
    """

    breach_id: str
    feed: str
    action: str
    code: str
    message: str
    at_s: float
    results: tuple[EnforcementResult, ...]

    @property
    def line(self) -> str:
        """It as one line."""
        counts = [(each, sum(r.code == each for r in self.results)) for each in _RESULTS]
        found = ", ".join(f"{number} {name}" for name, number in counts if number)
        did = f"{self.action}, {self.code} ({found or 'no resources'})"
        why = f": {self.message}" if self.message else ""
        return f"feed {self.feed}: breach {self.breach_id}: {did}{why}"


def parse_enforcement(content: Mapping[str, Any]) -> Enforcement:
    """Return the content of a message.

    Raises:
        MessageError: A field is missing or wrong.
    """
    breach_id = content.get("breach_id")
    if not (isinstance(breach_id, str) and UUID4.fullmatch(breach_id)):
        raise MessageError(f"breach_id: asked for a UUID of version 4, found {shown(breach_id)}")
    results = content.get("results")
    if not isinstance(results, list) or len(results) > _MOST_RESULTS:
        raise MessageError(f"results: asked for at most {_MOST_RESULTS}, found {shown(results)}")
    return Enforcement(
        breach_id=breach_id,
        feed=_text("feed_tag", content.get("feed_tag")),
        action=_one_of("action", content.get("action"), _ACTIONS),
        code=_one_of("code", content.get("code"), _CODES),
        message=_said("diag_msg", content.get("diag_msg")),
        at_s=seconds_of("timestamp", content.get("timestamp")),
        results=tuple(_result(f"results[{n}]", each) for n, each in enumerate(results)),
    )


def _result(what: str, found: object) -> EnforcementResult:
    if not isinstance(found, dict):
        raise MessageError(f"{what}: asked for an object, found {shown(found)}")
    power = found.get("applied_power")
    return EnforcementResult(
        resource=_text(f"{what}.resource_id", found.get("resource_id")),
        kind=_one_of(f"{what}.resource_type", found.get("resource_type"), _KINDS),
        requested=_one_of(f"{what}.requested_action", found.get("requested_action"), _REQUESTED),
        code=_one_of(f"{what}.code", found.get("code"), _RESULTS),
        message=_said(f"{what}.message", found.get("message")),
        applied_w=None if power is None else watts_of(f"{what}.applied_power", power),
    )


def _one_of(what: str, found: object, known: tuple[str, ...]) -> str:
    if isinstance(found, str) and found in known:
        return found
    raise MessageError(f"{what}: asked for one of {', '.join(known)}, found {shown(found)}")


def _text(what: str, found: object) -> str:
    if isinstance(found, str) and 0 < len(found) <= 128 and found.isprintable():
        return found
    raise MessageError(f"{what}: asked for 1 to 128 characters, found {shown(found)}")


def _said(what: str, found: object) -> str:
    """Return a text for people in one line; empty for none."""
    if found is None:
        return ""
    if not isinstance(found, str):
        raise MessageError(f"{what}: asked for a text, found {shown(found)}")
    return "".join(each if each.isprintable() else " " for each in found[:200])
