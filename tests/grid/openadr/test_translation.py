from __future__ import annotations

import math
from typing import Any

import pytest
from tests.fixtures.openadr_events import NOON_S, event_of

from steppe.grid.events.event import GridEvent, Share, Watts
from steppe.grid.openadr.intervals import RefusedEventError
from steppe.grid.openadr.messages import Event, PayloadDescriptor
from steppe.grid.openadr.translation import AgreedTerms, Translation, check, translate

TERMS = AgreedTerms(subscription_w=500e3, most_w=10e6)


def meaning(event: Event) -> Translation:
    return translate(event, TERMS, NOON_S, 0.0)


def described(type_: str, units: str | None = None, **more: Any) -> list[dict[str, Any]]:
    kind = "EVENT_PAYLOAD_DESCRIPTOR"
    return [{"objectType": kind, "payloadType": type_, "units": units, **more}]


def test_a_capacity_limit_is_a_schedule_of_limits_in_watts() -> None:
    found = meaning(event_of("IMPORT_CAPACITY_LIMIT", 400, 300.5, priority=2)).events
    assert found[1] == GridEvent(
        id="event-1/1/IMPORT_CAPACITY_LIMIT",
        program="program-1",
        priority=2,
        issued_s=NOON_S - 600,
        starts_s=NOON_S + 1800,
        ramp_down_s=0.0,
        hold_until_s=NOON_S + 3600,
        ramp_up_s=0.0,
        target=Watts(300_500.0),
        kind="limit",
        source="openadr",
    )
    assert found[0].target == Watts(400_000.0)


@pytest.mark.parametrize(
    ("units", "watts"), [("W", 250), ("KW", 250e3), ("kW", 250e3), (None, 250e3)]
)
def test_a_setpoint_is_in_the_units_that_the_event_names(units: str | None, watts: float) -> None:
    descriptors = described("DISPATCH_SETPOINT", units)
    found = meaning(event_of("DISPATCH_SETPOINT", 250, payloadDescriptors=descriptors)).events
    assert [(each.kind, each.target) for each in found] == [("setpoint", Watts(watts))]


def test_the_units_of_the_program_hold_where_the_event_names_none() -> None:
    program = [PayloadDescriptor(payloadType="DISPATCH_SETPOINT", units="MW")]
    found = translate(event_of("DISPATCH_SETPOINT", 2), TERMS, NOON_S, 0.0, program).events
    assert found[0].target == Watts(2e6)


def test_a_simple_level_is_the_agreed_share_of_the_baseline() -> None:
    found = meaning(event_of("SIMPLE", 0, 1, 2, 3)).events
    assert [each.target for each in found] == [Share(0.9), Share(0.75), Share(0.5)]
    assert {each.kind for each in found} == {"relative"}


def test_an_alert_is_an_emergency_with_the_agreed_share() -> None:
    found = meaning(event_of("ALERT_GRID_EMERGENCY", "frequency is falling")).events
    assert [(each.kind, each.target) for each in found] == [("emergency", Share(0.5))]


def test_a_subscription_is_no_event_but_what_holds_without_one() -> None:
    found = meaning(event_of("IMPORT_CAPACITY_SUBSCRIPTION", 350))
    assert found.events == ()
    assert [each.target for each in found.subscriptions] == [Watts(350e3)]


def test_a_price_has_its_currency_and_is_per_kilowatt_hour() -> None:
    descriptors = described("PRICE", "MWH", currency="EUR")
    found = meaning(event_of("PRICE", 85.0, -20, payloadDescriptors=descriptors)).rates
    assert [(each.per_kwh, each.currency) for each in found] == [(0.085, "EUR"), (-0.02, "EUR")]
    assert found[0].ends_s == found[1].starts_s == NOON_S + 1800


def test_emissions_are_in_grams_per_kilowatt_hour() -> None:
    found = meaning(event_of("GHG", 412)).rates
    assert [(each.type, each.per_kwh) for each in found] == [("GHG", 412.0)]


def test_an_event_without_a_priority_comes_last() -> None:
    assert meaning(event_of("SIMPLE", 1)).events[0].priority == 1000
    assert meaning(event_of("SIMPLE", 1, priority=2_000_000)).events[0].priority == 1000
    assert meaning(event_of("SIMPLE", 1, priority=0)).events[0].priority == 0


def test_what_is_not_followed_is_named() -> None:
    payloads = [{"type": "CURVE", "values": []}, {"type": "SIMPLE", "values": [1]}]
    found = meaning(event_of("SIMPLE", intervals=[{"id": 0, "payloads": payloads}]))
    assert (found.ignored, len(found.events)) == (("CURVE",), 1)


@pytest.mark.parametrize(
    ("type_", "value", "why"),
    [
        ("IMPORT_CAPACITY_LIMIT", -1, "beyond 0 to 1e.07 W"),
        ("IMPORT_CAPACITY_LIMIT", 10_001, "beyond 0 to 1e.07 W"),
        ("IMPORT_CAPACITY_LIMIT", math.nan, "no number that can be meant"),
        ("IMPORT_CAPACITY_LIMIT", math.inf, "no number that can be meant"),
        ("IMPORT_CAPACITY_LIMIT", 10**400, "no number that can be meant"),
        ("IMPORT_CAPACITY_LIMIT", True, "no number that can be meant"),
        ("IMPORT_CAPACITY_LIMIT", "400", "no number that can be meant"),
        ("DISPATCH_SETPOINT", {"x": 1, "y": 2}, "no number that can be meant"),
        ("SIMPLE", 4, "no level from 0 to 3"),
        ("SIMPLE", 1.5, "no level from 0 to 3"),
        ("PRICE", 1e6, "beyond -1000 to 1000"),
        ("GHG", -5, "beyond 0 to 5000"),
        ("DISPATCH_SETPOINT_RELATIVE", 30, "is not followed here"),
        ("CONTROL_SETPOINT", 30, "is not followed here"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(type_: str, value: Any, why: str) -> None:
    with pytest.raises(RefusedEventError, match=f"event event-1: .*{why}"):
        check(event_of(type_, value), TERMS)


def test_a_limit_in_units_of_energy_is_refused() -> None:
    descriptors = described("IMPORT_CAPACITY_LIMIT", "KWH")
    with pytest.raises(RefusedEventError, match="is in 'KWH', not in W, KW, MW"):
        check(event_of("IMPORT_CAPACITY_LIMIT", 1, payloadDescriptors=descriptors), TERMS)


def test_a_payload_with_two_values_is_refused() -> None:
    payloads = [{"type": "SIMPLE", "values": [1, 2]}]
    with pytest.raises(RefusedEventError, match="has 2 values, not 1"):
        check(event_of("SIMPLE", intervals=[{"id": 0, "payloads": payloads}]), TERMS)


def test_terms_that_are_impossible_are_refused() -> None:
    with pytest.raises(ValueError, match="subscription_w <= most_w"):
        AgreedTerms(subscription_w=2.0, most_w=1.0)
    with pytest.raises(ValueError, match="within 0 and 1"):
        AgreedTerms(subscription_w=1.0, most_w=2.0, emergency_share=1.5)
