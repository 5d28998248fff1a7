"""What an event of OpenADR asks of the site, in watts, shares and prices. Pure.

Payload types that are followed: IMPORT_CAPACITY_LIMIT, IMPORT_CAPACITY_SUBSCRIPTION,
DISPATCH_SETPOINT, SIMPLE, ALERT_GRID_EMERGENCY, PRICE and GHG. DISPATCH_SETPOINT_RELATIVE is not:
the standard allows no negative value and does not say whether a positive one is more load or less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.events.event import GridEvent, Kind, Share, Target, Watts
from steppe.grid.openadr.intervals import RefusedEventError, Slot, slots
from steppe.grid.openadr.messages import Event, Payload, PayloadDescriptor, Value
from steppe.grid.openadr.times import time_of

POWER_UNITS = {"W": 1.0, "KW": 1e3, "MW": 1e6}
"""W in each unit of power; KW where a message names none."""
ENERGY_UNITS = {"WH": 1e-3, "KWH": 1.0, "MWH": 1e3}
"""kWh in each unit of energy; KWH where a message names none."""
KINDS: dict[str, Kind] = {
    "IMPORT_CAPACITY_LIMIT": "limit",
    "IMPORT_CAPACITY_SUBSCRIPTION": "limit",
    "DISPATCH_SETPOINT": "setpoint",
    "SIMPLE": "relative",
    "ALERT_GRID_EMERGENCY": "emergency",
}
"""Payload types that set a limit, and the kind of event that each becomes."""
RATES = ("PRICE", "GHG")
"""Payload types that say what energy costs."""
SOURCE = "openadr"
"""`GridEvent.source` of what comes from here."""
_MOST_GHG = 5000.0


@dataclass(frozen=True, slots=True)
class AgreedTerms:
    """What a site and its grid agreed beside the messages.

    Attributes:
        subscription_w: Import that holds when no limit does, or the link is lost, W at the site; a
            lower IMPORT_CAPACITY_SUBSCRIPTION of the server replaces it.
        most_w: A value above this is refused as an error of units, W.
        simple_shares: Share of the baseline that may be drawn at SIMPLE level 1, 2 and 3.
        emergency_share: Share of the baseline that may be drawn in an ALERT_GRID_EMERGENCY.
        lost_s: The link counts as lost after this long without an answer, s.
        skew_s: An event written later than this ahead of our clock is refused, s.
        farthest_s: An event that starts later than this from now is refused, s.
        horizon_s: How far ahead intervals are unfolded, s.
        most_per_kwh: A price above this, up or down, is refused, per kWh.
        last_priority: Priority of an event that names none, and of one that names a larger number.
    """

    subscription_w: float
    most_w: float
    simple_shares: tuple[float, float, float] = (0.9, 0.75, 0.5)
    emergency_share: float = 0.5
    lost_s: float = 300.0
    skew_s: float = 30.0
    farthest_s: float = 400 * 86400.0
    horizon_s: float = 2 * 86400.0
    most_per_kwh: float = 1000.0
    last_priority: int = 1000

    def __post_init__(self) -> None:
        """Check that the terms are possible.

        Raises:
            ValueError: They are not.
        """
        if not 0 <= self.subscription_w <= self.most_w < math.inf:
            raise ValueError(f"0 <= subscription_w <= most_w: found {self}")
        if not all(0 <= share <= 1 for share in (*self.simple_shares, self.emergency_share)):
            raise ValueError(f"shares of the baseline are within 0 and 1: found {self}")


@dataclass(frozen=True, slots=True)
class Rate:
    """A price or the emissions of energy for a while.

    Attributes:
        id: Event and interval.
        program: Identity of the program.
        type: PRICE or GHG.
        priority: 0 is the highest.
        starts_s: Start, s since the Unix epoch.
        ends_s: End, s since the Unix epoch; infinite if it has none.
        per_kwh: Currency units, or g of CO2, per kWh.
        currency: ISO 4217 code of a price, as the server names it; empty for GHG.
    """

    id: str
    program: str
    type: str
    priority: int
    starts_s: float
    ends_s: float
    per_kwh: float
    currency: str


@dataclass(frozen=True, slots=True)
class Translation:
    """What an event means to the site.

    Attributes:
        events: Limits, setpoints, levels and alerts, one for each interval.
        subscriptions: Import capacity that holds where no limit does.
        rates: Prices and emissions.
        ignored: Payload types that are not followed.
    """

    events: tuple[GridEvent, ...] = ()
    subscriptions: tuple[GridEvent, ...] = ()
    rates: tuple[Rate, ...] = ()
    ignored: tuple[str, ...] = ()


def translate(
    event: Event,
    terms: AgreedTerms,
    now_s: float,
    share: float,
    descriptors: Sequence[PayloadDescriptor] = (),
) -> Translation:
    """Return what an event asks from now until the horizon.

    Args:
        event: The event.
        terms: What was agreed beside the messages.
        now_s: Time, s since the Unix epoch.
        share: Where in the range of `randomizeStart` the site starts, in [0, 1).
        descriptors: Units of the program; those of the event go before.

    Raises:
        RefusedEventError: A time, value or unit is impossible, or nothing in it is followed.
    """
    reader = _Reader(event, terms, descriptors)
    found: dict[str, list[GridEvent]] = {"events": [], "subscriptions": []}
    rates: list[Rate] = []
    ignored: set[str] = set()
    for slot in slots(event, now_s, now_s + terms.horizon_s, share):
        for payload in slot.payloads:
            if payload.type in RATES:
                rates.append(reader.rate(slot, payload))
            elif payload.type in KINDS:
                is_base = payload.type == "IMPORT_CAPACITY_SUBSCRIPTION"
                found["subscriptions" if is_base else "events"] += reader.asked(slot, payload)
            else:
                ignored.add(payload.type)
    return Translation(
        tuple(found["events"]), tuple(found["subscriptions"]), tuple(rates), tuple(sorted(ignored))
    )


def check(event: Event, terms: AgreedTerms, descriptors: Sequence[PayloadDescriptor] = ()) -> None:
    """Look at every value of an event, also of the intervals that begin beyond the horizon.

    Raises:
        RefusedEventError: A value or unit is impossible, or nothing in it is followed.
    """
    reader = _Reader(event, terms, descriptors)
    types = {payload.type for interval in event.intervals for payload in interval.payloads}
    if not types & {*KINDS, *RATES}:
        names = ", ".join(sorted(types)) or "an event without payloads"
        raise RefusedEventError(f"event {event.id}: {names[:200]} is not followed here")
    for interval in event.intervals:
        slot = Slot(str(interval.id), 0.0, 0.0, interval.payloads)
        for payload in interval.payloads:
            if payload.type in RATES:
                reader.rate(slot, payload)
            elif payload.type in KINDS:
                reader.asked(slot, payload)


class _Reader:
    """Reads the payloads of one event."""

    def __init__(
        self, event: Event, terms: AgreedTerms, descriptors: Sequence[PayloadDescriptor]
    ) -> None:
        described = (*descriptors, *(event.payloadDescriptors or ()))
        self._described = {each.payloadType: each for each in described}
        self._event, self._terms = event, terms
        self._issued_s = time_of(event.modificationDateTime)
        self._priority = min(
            terms.last_priority, terms.last_priority if event.priority is None else event.priority
        )

    def asked(self, slot: Slot, payload: Payload) -> list[GridEvent]:
        """Return the event of a payload; none for SIMPLE level 0."""
        value = self._only(slot, payload)
        target: Target
        if payload.type == "SIMPLE":
            level = self._level(value)
            if level == 0:
                return []
            target = Share(self._terms.simple_shares[level - 1])
        elif payload.type == "ALERT_GRID_EMERGENCY":
            target = Share(self._terms.emergency_share)
        else:
            target = Watts(self._watts(payload.type, value))
        return [
            GridEvent(
                id=f"{self._event.id}/{slot.name}/{payload.type}",
                program=self._event.programID,
                priority=self._priority,
                issued_s=self._issued_s,
                starts_s=slot.starts_s,
                ramp_down_s=0.0,
                hold_until_s=slot.ends_s,
                ramp_up_s=0.0,
                target=target,
                kind=KINDS[payload.type],
                source=SOURCE,
            )
        ]

    def rate(self, slot: Slot, payload: Payload) -> Rate:
        """Return the rate of a payload."""
        value = self._number(payload.type, self._only(slot, payload))
        currency, per_kwh, least, most = "", value, 0.0, _MOST_GHG
        if payload.type == "PRICE":
            currency = self._currency()
            per_kwh = value / self._factor(payload.type, ENERGY_UNITS, "KWH")
            least, most = -self._terms.most_per_kwh, self._terms.most_per_kwh
        if not least <= per_kwh <= most:
            raise self._refused(
                f"{payload.type} {per_kwh:g} per kWh is beyond {least:g} to {most:g}"
            )
        return Rate(
            id=f"{self._event.id}/{slot.name}/{payload.type}",
            program=self._event.programID,
            type=payload.type,
            priority=self._priority,
            starts_s=slot.starts_s,
            ends_s=slot.ends_s,
            per_kwh=per_kwh,
            currency=currency,
        )

    def _only(self, slot: Slot, payload: Payload) -> Value:
        if len(payload.values) != 1:
            found = f"{len(payload.values)} values"
            raise self._refused(f"{payload.type} of interval {slot.name} has {found}, not 1")
        return payload.values[0]

    def _level(self, value: Value) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 3:
            raise self._refused(f"SIMPLE {str(value)[:40]!r} is no level from 0 to 3")
        return value

    def _watts(self, type_: str, value: Value) -> float:
        watts = self._number(type_, value) * self._factor(type_, POWER_UNITS, "KW")
        if not 0 <= watts <= self._terms.most_w:
            raise self._refused(f"{type_} {watts:g} W is beyond 0 to {self._terms.most_w:g} W")
        return watts

    def _number(self, type_: str, value: Value) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) < 1e15:  # type: ignore[arg-type]
            raise self._refused(f"{type_} {str(value)[:40]!r} is no number that can be meant")
        return float(value)  # type: ignore[arg-type]

    def _factor(self, type_: str, units: dict[str, float], default: str) -> float:
        described = self._described.get(type_)
        unit = default if described is None or described.units is None else described.units
        if unit.upper() not in units:
            raise self._refused(f"{type_} is in {unit[:40]!r}, not in {', '.join(units)}")
        return units[unit.upper()]

    def _currency(self) -> str:
        described = self._described.get("PRICE")
        return (described.currency or "") if described is not None else ""

    def _refused(self, why: str) -> RefusedEventError:
        return RefusedEventError(f"event {self._event.id}: {why}")
