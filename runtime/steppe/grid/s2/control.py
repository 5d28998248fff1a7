"""The two control types that a site offers, and what an instruction of each means in watts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from steppe.grid.limits.limit import Step
from steppe.grid.offers.offer import FlexOffer
from steppe.grid.s2.instructions import Instruction
from steppe.grid.s2.messages import BadMessageError, message, when
from steppe.grid.s2.offered import Bounds, Mode, bounds_of, mode_at, modes_of, transition_s

QUANTITY = "ELECTRIC.POWER.3_PHASE_SYMMETRIC"
"""The power of the site; what it draws is above 0."""
_SAME_SHARE = 0.01
_ROUNDING_W = 1e-6


@dataclass(frozen=True, slots=True)
class SiteNow:
    """What the site is and offers now.

    Attributes:
        draw_w: What it draws, W; None if that is not known yet.
        baseline_w: What it would draw without the grid, W.
        most_w: Most that it ever draws, W.
        limit_w: The limit in force, of any link, W; None if nothing limits it.
        offer: What it offers.
    """

    draw_w: float | None
    baseline_w: float
    most_w: float
    limit_w: float | None
    offer: FlexOffer


class ControlType(Protocol):
    """One way in which an energy manager may control the site."""

    name: str
    """Its name, as SelectControlType has it."""
    instruction: str
    """Type of its instructions."""
    limit: str
    """Name of the limit that its instructions make."""

    def described(self, site: SiteNow, now_s: float) -> list[str]:
        """Return the messages that describe what may be asked; the last description counts."""
        ...

    def changed(self, site: SiteNow, now_s: float) -> list[str]:
        """Return the messages that are due because the site has changed."""
        ...

    def read(self, found: Any, now_s: float) -> Instruction:
        """Return what an instruction means.

        Raises:
            BadMessageError: It asks for what is not offered.
        """
        ...


class Envelopes:
    """PEBC: limits over time, within bounds that the site states."""

    name = "POWER_ENVELOPE_BASED_CONTROL"
    instruction = "PEBC.Instruction"
    limit = "envelope"

    def __init__(self) -> None:
        """Begin without a description."""
        self._bounds: Bounds | None = None
        self._ids: set[str] = set()

    def described(self, site: SiteNow, now_s: float) -> list[str]:
        """Return the power constraints."""
        self._bounds = bounds = bounds_of(site.offer, site.baseline_w, site.most_w)
        id_ = str(uuid4())
        self._ids.add(id_)
        return [power_constraints(bounds, id_, now_s)]

    def changed(self, site: SiteNow, now_s: float) -> list[str]:
        """Return new power constraints if the old ones are off by more than 1 %."""
        bounds = bounds_of(site.offer, site.baseline_w, site.most_w)
        if self._bounds is not None and bounds.is_near(self._bounds, _SAME_SHARE):
            return []
        return self.described(site, now_s)

    def read(self, found: Any, now_s: float) -> Instruction:
        """Return the limits of an envelope."""
        if str(found.power_constraints_id) not in self._ids or self._bounds is None:
            raise _refused(found, "power constraints of this session", found.power_constraints_id)
        envelope = found.power_envelopes[0]
        if len(found.power_envelopes) != 1 or envelope.commodity_quantity.value != QUANTITY:
            names = ", ".join(each.commodity_quantity.value for each in found.power_envelopes)
            raise _refused(found, f"one envelope of {QUANTITY}", names)
        at_s, steps = found.execution_time.timestamp(), []
        for each in envelope.power_envelope_elements:
            self._check(found, each)
            steps.append(Step(at_s, each.upper_limit))
            at_s += each.duration.root / 1000
        if at_s <= now_s:
            raise _refused(found, "an envelope that has not ended", f"{now_s - at_s:.0f} s ago")
        return Instruction(str(found.id), _from_now(steps, now_s), at_s)

    def _check(self, found: Any, element: Any) -> None:
        assert self._bounds is not None
        upper_w, lower_w = element.upper_limit, element.lower_limit
        floor_w = 0.0 if found.abnormal_condition else self._bounds.floor_w
        most_w = self._bounds.most_w
        if not floor_w - _ROUNDING_W <= upper_w <= most_w + _ROUNDING_W:
            raise _refused(found, f"an upper limit of {floor_w:g} to {most_w:g} W", upper_w)
        if lower_w != 0.0:
            raise _refused(found, "a lower limit of 0 W", lower_w)
        if element.duration.root <= 0:
            raise _refused(found, "elements with a duration", element.duration.root)


class Modes:
    """OMBC: modes, each a range of limits at one price, with the time of each transition."""

    name = "OPERATION_MODE_BASED_CONTROL"
    instruction = "OMBC.Instruction"
    limit = "mode"

    def __init__(self, currency: str) -> None:
        """Begin without a description; costs are in this currency, none if empty."""
        self._with_costs = bool(currency)
        self._modes: tuple[Mode, ...] = ()
        self._ids: tuple[str, ...] = ()
        self._active: tuple[str, float] | None = None

    def described(self, site: SiteNow, now_s: float) -> list[str]:
        """Return the system description, and which mode is active."""
        self._modes = modes_of(site.offer, site.baseline_w, site.most_w)
        self._ids = tuple(str(uuid4()) for _ in self._modes)
        self._active = None
        described = system_description(
            self._modes, self._ids, site.offer, now_s, with_costs=self._with_costs
        )
        return [described, *self._status(site, now_s)]

    def changed(self, site: SiteNow, now_s: float) -> list[str]:
        """Return a new description if the modes moved by more than 1 %, else a new status."""
        modes = modes_of(site.offer, site.baseline_w, site.most_w)
        if _are_near(modes, self._modes, _SAME_SHARE * max(site.most_w, 1.0)):
            return self._status(site, now_s)
        return self.described(site, now_s)

    def read(self, found: Any, now_s: float) -> Instruction:
        """Return the limit of a mode at a factor."""
        id_, factor = str(found.operation_mode_id), found.operation_mode_factor
        if id_ not in self._ids:
            raise _refused(found, "a mode of the last description", id_)
        mode = self._modes[self._ids.index(id_)]
        if mode.emergency and not found.abnormal_condition:
            raise _refused(found, "a mode for normal conditions", mode.name)
        if not 0.0 <= factor <= 1.0:
            raise _refused(found, "a factor of 0 to 1", factor)
        step = Step(found.execution_time.timestamp(), mode.watts(factor))
        return Instruction(str(found.id), _from_now([step], now_s))

    def _status(self, site: SiteNow, now_s: float) -> list[str]:
        watts = math.inf if site.limit_w is None else site.limit_w
        number, factor = mode_at(self._modes, min(watts, self._modes[0].high_w))
        active, before = (self._ids[number], round(factor, 3)), self._active
        if active == before:
            return []
        self._active = active
        return [
            message(
                "OMBC.Status",
                active_operation_mode_id=active[0],
                operation_mode_factor=active[1],
                previous_operation_mode_id=None if before is None else before[0],
                transition_timestamp=None if before is None else when(now_s),
            )
        ]


def power_constraints(bounds: Bounds, id_: str, now_s: float) -> str:
    """Return the bounds as PEBC.PowerConstraints."""
    ranges = [
        _range("UPPER_LIMIT", bounds.floor_w, bounds.most_w, abnormal=False),
        _range("LOWER_LIMIT", 0.0, 0.0, abnormal=False),
    ]
    if bounds.floor_w > 0.0:
        ranges.append(_range("UPPER_LIMIT", 0.0, bounds.floor_w, abnormal=True))
    return message(
        "PEBC.PowerConstraints",
        id=id_,
        valid_from=when(now_s),
        consequence_type="DEFER" if bounds.defers else "VANISH",
        allowed_limit_ranges=ranges,
    )


def system_description(
    modes: Sequence[Mode],
    ids: Sequence[str],
    offer: FlexOffer,
    now_s: float,
    *,
    with_costs: bool,
) -> str:
    """Return the modes as OMBC.SystemDescription, with a transition between any two of them."""
    pairs = list(zip(modes, ids, strict=True))
    transitions = [
        _transition(before, after, transition_s(before[0], after[0], offer))
        for before in pairs
        for after in pairs
        if before is not after
    ]
    return message(
        "OMBC.SystemDescription",
        valid_from=when(now_s),
        operation_modes=[_mode(mode, id_, with_costs) for mode, id_ in pairs],
        transitions=transitions,
        timers=[],
    )


def _range(kind: str, low_w: float, high_w: float, *, abnormal: bool) -> dict[str, Any]:
    return {
        "commodity_quantity": QUANTITY,
        "limit_type": kind,
        "range_boundary": {"start_of_range": low_w, "end_of_range": high_w},
        "abnormal_condition_only": abnormal,
    }


def _mode(mode: Mode, id_: str, with_costs: bool) -> dict[str, Any]:
    ranged = {
        "start_of_range": mode.low_w,
        "end_of_range": mode.high_w,
        "commodity_quantity": QUANTITY,
    }
    found: dict[str, Any] = {
        "id": id_,
        "diagnostic_label": mode.name,
        "power_ranges": [ranged],
        "abnormal_condition_only": mode.emergency,
    }
    if with_costs:
        costs = {"start_of_range": mode.least_cost, "end_of_range": mode.most_cost}
        found["running_costs"] = costs
    return found


def _transition(
    before: tuple[Mode, str], after: tuple[Mode, str], takes_s: float
) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "from": before[1],
        "to": after[1],
        "start_timers": [],
        "blocking_timers": [],
        "transition_duration": math.ceil(1000 * takes_s),
        "abnormal_condition_only": before[0].emergency or after[0].emergency,
    }


def _are_near(some: Sequence[Mode], others: Sequence[Mode], within_w: float) -> bool:
    return len(some) == len(others) and all(
        abs(one.low_w - other.low_w) <= within_w and abs(one.high_w - other.high_w) <= within_w
        for one, other in zip(some, others, strict=True)
    )


def _from_now(steps: Sequence[Step], now_s: float) -> tuple[Step, ...]:
    """Return the steps from the one that holds now on; what is in the past begins now."""
    later = [step for step in steps if step.from_s > now_s]
    begun = [step for step in steps if step.from_s <= now_s]
    return (*((Step(now_s, begun[-1].watts),) if begun else ()), *later)


def _refused(found: Any, wanted: str, got: object) -> BadMessageError:
    line = f"{found.message_type} {found.id}: asked for {wanted}, found {str(got)[:80]}"
    return BadMessageError(line, "INVALID_CONTENT", str(found.message_id))
