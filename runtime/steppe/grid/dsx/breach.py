"""`grid.powerbreach.alert.v1`: a feed that draws more than its target. Pure: no clock.

A breach goes from active, through escalated where it becomes critical, to resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from steppe.grid.dsx.envelope import time_of
from steppe.grid.dsx.power import power_of

CRITICAL_SHARE = 0.20
"""A feed that draws more than this above its target is in a critical breach."""

Severity = Literal["warning", "critical"]
Action = Literal["SHUTDOWN_NODES", "SHUTDOWN_RACKS", "CUT_DATA_FEEDS", "TRIP_BREAKERS"]
ACTIONS: tuple[Action, ...] = (
    "SHUTDOWN_NODES",
    "SHUTDOWN_RACKS",
    "CUT_DATA_FEEDS",
    "TRIP_BREAKERS",
)
"""From the least to the most disruptive."""


@dataclass(frozen=True, slots=True)
class ShedHint:
    """What could be shed.

    Attributes:
        resource: Its name.
        kind: What it is.
        action: What to do.
        target_w: Power to cap it to, W; None for other actions.
    """

    resource: str
    kind: Literal["node", "gpu", "chassis"]
    action: Literal["power_cap", "throttle", "suspend"]
    target_w: float | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """A measurement of a feed against its target.

    Attributes:
        feed: Its tag.
        load_w: What it draws, W.
        limit_w: Its target, W.
        correlation_id: The command that set the target.
    """

    feed: str
    load_w: float
    limit_w: float
    correlation_id: str

    def is_above(self, share: float) -> bool:
        """Whether the draw is above the target by more than a share of it."""
        return self.load_w > self.limit_w * (1 + share)


@dataclass(frozen=True, slots=True)
class Breach:
    """A breach of a feed.

    Attributes:
        id: UUID of version 4, the same to the end of the breach.
        detected_s: When it was found, s since the Unix epoch.
        severity: The worst so far.
        last: The last measurement above the target.
    """

    id: str
    detected_s: float
    severity: Severity
    last: Over


@dataclass(frozen=True, slots=True)
class BreachTerms:
    """When a breach begins.

    Attributes:
        threshold_share: How far above the target the draw may be, as a share of it.
        actions: What the infrastructure may do, in a warning none of them.
    """

    threshold_share: float = 0.0
    actions: tuple[Action, ...] = ACTIONS[:1]


def step(
    breach: Breach | None,
    measured: Over | None,
    now_s: float,
    terms: BreachTerms,
    hints: Sequence[ShedHint] = (),
) -> tuple[Breach | None, dict[str, Any] | None]:
    """Return the breach after a measurement, and the content of an alert if one is due.

    Args:
        breach: The breach before it.
        measured: The measurement; None where no target holds.
        now_s: Time, s since the Unix epoch.
        terms: When a breach begins.
        hints: What could be shed, first things first.
    """
    if measured is None or not measured.is_above(terms.threshold_share):
        if breach is None:
            return None, None
        end = breach.last if measured is None else measured
        return None, _content(breach, end, resolved_s=now_s)
    critical = measured.is_above(CRITICAL_SHARE)
    severity: Severity = "critical" if critical else "warning"
    if breach is None:
        new = Breach(str(uuid4()), now_s, severity, measured)
        return new, _alert(new, "active", hints, terms)
    if breach.severity == "critical" or not critical:
        return replace(breach, last=measured), None
    worse = replace(breach, severity="critical", last=measured)
    return worse, _alert(worse, "escalated", hints, terms)


def _alert(
    breach: Breach,
    status: Literal["active", "escalated"],
    hints: Sequence[ShedHint],
    terms: BreachTerms,
) -> dict[str, Any]:
    return _content(breach, breach.last) | {
        "status": status,
        "infrastructure_actions": list(terms.actions) if breach.severity == "critical" else [],
        "shed_hints": [_hint(each, number) for number, each in enumerate(hints, 1)],
    }


def _content(breach: Breach, measured: Over, resolved_s: float | None = None) -> dict[str, Any]:
    """Return the content of an alert that the breach is resolved."""
    times = {"detected_at": time_of(breach.detected_s)}
    if resolved_s is not None:
        times["resolved_at"] = time_of(resolved_s)
    return {
        "feed_tag": measured.feed,
        "status": "resolved",
        "severity": breach.severity,
        "breach": {"breach_id": breach.id, **times},
        "target": {
            "correlation_id": measured.correlation_id,
            "load_constraint": power_of(measured.limit_w),
        },
        "measured_load": power_of(measured.load_w),
        "infrastructure_actions": [],
    }


def _hint(hint: ShedHint, priority: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "resource_id": hint.resource,
        "resource_type": hint.kind,
        "action": hint.action,
        "priority": priority,
    }
    return content | ({} if hint.target_w is None else {"target_power": power_of(hint.target_w)})
