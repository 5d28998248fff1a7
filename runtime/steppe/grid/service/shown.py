"""What the API shows of the grid, as JSON values."""

from __future__ import annotations

import math
from typing import Any

from steppe.config.section import LARGEST
from steppe.grid.events.comply import CannotComply, Complies
from steppe.grid.events.event import Share, Target, Watts
from steppe.grid.limits.held import InForce
from steppe.grid.limits.limit import Limit, Link
from steppe.grid.offers.sources import Source
from steppe.grid.service.part import Part
from steppe.grid.service.refusals import Refusal
from steppe.grid.service.seam import EventNow, GridView

Json = dict[str, Any]


def shown_budget(view: GridView) -> Json:
    """Return the budget, what sets it, and the limits that are held."""
    return {
        "object": "steppe.budget",
        "at": view.at_s,
        "budget_w": view.budget_w,
        "budget_source": view.budget_source,
        "draw_w": view.draw_w,
        "in_force": shown_in_force(view.in_force),
        "limits": [shown_limit(each) for each in view.limits],
    }


def shown_in_force(found: InForce | None) -> Json | None:
    """Return the limit in force; None if nothing limits the site."""
    if found is None or found.watts >= LARGEST:
        return None
    return {"name": found.name, "limit_w": found.watts}


def shown_limit(limit: Limit) -> Json:
    """Return a limit that is held."""
    return {
        "link": limit.source,
        "name": limit.name,
        "issued": limit.issued_s,
        "schedule": [{"from": step.from_s, "limit_w": step.watts} for step in limit.watts],
        "expires": limit.expires_s,
        "default_w": _number(limit.default_w),
    }


def shown_event(now: EventNow) -> Json:
    """Return an event that is held, as it is now."""
    event = now.event
    return {
        "object": "steppe.grid_event",
        "id": event.id,
        "link": event.source,
        "program": event.program,
        "kind": event.kind,
        "priority": event.priority,
        "issued": event.issued_s,
        "starts": event.starts_s,
        "holds": event.holds_s,
        "hold_until": event.hold_until_s,
        "ends": event.ends_s,
        "target": _target(event.target),
        "baseline_w": now.baseline_w,
        "target_w": now.target_w,
        "delivered_w": now.delivered_w,
        "verdict": _verdict(now.verdict),
    }


def shown_link(link: Link, view: GridView | None, part: Part | None, problem: str) -> Json:
    """Return a link: whether it is lost, what holds then, and what it says of itself."""
    is_lost = None if view is None or link.lost_s >= LARGEST else link.name in view.lost
    said = {} if part is None else dict(part.shown)
    return {
        **said,
        "name": link.name,
        "lost": is_lost,
        "default_w": _number(link.default_w),
        "lost_s": _number(link.lost_s),
        "problem": problem or said.get("problem", ""),
    }


def shown_refusal(refusal: Refusal) -> Json:
    """Return what was refused, and why."""
    return {
        "at": refusal.at_s,
        "link": refusal.link,
        "reason": refusal.reason,
        "times": refusal.times,
    }


def shown_source(source: Source) -> Json:
    """Return where flexibility comes from."""
    return {
        "name": source.name,
        "watts": source.watts,
        "notice_s": source.notice_s,
        "ramp_w_per_s": _number(source.ramp_w_per_s),
        "energy_j": _number(source.energy_j),
        "price_per_j": source.price,
        "tokens_per_j": source.tokens_per_j,
        "rebound_share": source.rebound_share,
        "recovery_s": _number(source.recovery_s),
    }


def _target(target: Target | None) -> Json | None:
    match target:
        case None:
            return None
        case Watts(watts):
            return {"limit_w": watts}
        case Share(share):
            return {"share": share}


def _verdict(verdict: Complies | CannotComply) -> Json:
    match verdict:
        case Complies(needs_s):
            return {"complies": True, "needs_s": needs_s, "reason": "", "short_w": 0.0}
        case CannotComply(reason, short_w):
            return {"complies": False, "needs_s": None, "reason": reason, "short_w": short_w}


def _number(value: float) -> float | None:
    """Return a number; None for one that stands for no bound."""
    return value if math.isfinite(value) and value < LARGEST else None
