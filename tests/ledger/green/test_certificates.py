"""Certificates: what one is, and the register in which each Wh is used once."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from steppe.errors import UsageError
from steppe.ledger.entries import Kind, available
from steppe.ledger.green.books import GreenError
from steppe.ledger.green.certificates import (
    GEC_WH,
    Certificate,
    certificate_of,
    matched,
    matched_to,
)
from steppe.ledger.green.register import Register

FARM = Certificate("farm-1", "granular", "hohhot", "farm", "mengxi", "wind", 300, 100, 101)
GEC = Certificate("9" * 32, "gec", "hohhot", "sun-park", "mengxi", "sun", GEC_WH, 90, 120)
OWN = Certificate("hohhot.wind.100", "granular", "hohhot", "hohhot", "mengxi", "wind", 50, 100, 101)


def register_of(*certificates: Certificate) -> Register:
    register = Register()
    for each in certificates:
        register.issue(each)
    return register


@pytest.mark.parametrize("certificate", [FARM, GEC, OWN])
def test_a_certificate_is_read_back_from_its_bytes(certificate: Certificate) -> None:
    assert Certificate.read(certificate.entry) == certificate


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"to_hour": 102}, "farm-1: asked for whole Wh of one hour, found 300 Wh of 2 h"),
        ({"wh": 0}, "found 0 Wh of 1 h"),
        ({"form": "gec"}, "asked for 1000000 Wh of at least one hour, found 300 Wh"),
        ({"form": "rec"}, "asked for granular or gec, found 'rec'"),
        ({"id": "a@b"}, "certificate.id: asked for letters, digits"),
        ({"wh": 1.5}, "certificate.wh: asked for int, found 1.5"),
        ({"wh": True}, "certificate.wh: asked for int, found True"),
        ({"colour": "green"}, "certificate: asked for form, from_hour, .* found .*colour"),
    ],
)
def test_what_is_no_certificate_is_refused_in_one_line(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        certificate_of(asdict(FARM) | changes)


def test_own_generation_comes_first_and_the_longest_certificate_last() -> None:
    register = register_of(GEC, FARM, OWN)
    moved = register.match("hohhot", "mengxi", 100, 1_000)
    assert [(each.unit, each.amount) for each in moved] == [
        (OWN.unit, 50),
        (FARM.unit, 300),
        (GEC.unit, 650),
    ]
    assert register.matched_wh("hohhot", 100) == 1_000


@pytest.mark.parametrize(("zone", "hour"), [("mengxi", 99), ("mengxi", 101), ("mengdong", 100)])
def test_a_certificate_is_not_used_in_another_hour_or_zone(zone: str, hour: int) -> None:
    register = register_of(FARM)
    assert register.match("hohhot", zone, hour, 500) == []
    assert register.available_wh(FARM.id, "hohhot") == 300


def test_a_movement_to_another_hour_is_refused() -> None:
    wrong = [*register_of(FARM).movements, matched_to(FARM, "hohhot", 101, 300)]
    with pytest.raises(GreenError, match="asked to use it in hour 101, found it for 100 to 100"):
        Register([FARM], wrong)


def test_the_same_hour_again_matches_nothing_more() -> None:
    register = register_of(FARM)
    assert register.match("hohhot", "mengxi", 100, 200)
    assert register.match("hohhot", "mengxi", 100, 200) == []
    with pytest.raises(GreenError, match="asked to match 199 Wh, found 200 matched"):
        register.match("hohhot", "mengxi", 100, 199)


def test_a_late_certificate_fills_what_is_left_of_an_hour() -> None:
    register = register_of(OWN)
    register.match("hohhot", "mengxi", 100, 200)
    register.issue(FARM)
    assert [each.amount for each in register.match("hohhot", "mengxi", 100, 200)] == [150]


def test_a_certificate_is_cancelled_once() -> None:
    register = register_of(FARM)
    with pytest.raises(GreenError, match="found it unused"):
        register.cancel(FARM.id, "hohhot")
    register.match("hohhot", "mengxi", 100, 200)
    register.cancel(FARM.id, "hohhot")
    assert register.balance_wh("cancelled", FARM.id) == 200
    assert register.available_wh(FARM.id, "hohhot") == 100
    with pytest.raises(GreenError, match="found it cancelled"):
        register.cancel(FARM.id, "hohhot")


def test_the_rest_of_a_gec_expires_when_it_is_cancelled() -> None:
    register = register_of(GEC)
    for hour in (90, 119):
        register.match("hohhot", "mengxi", hour, 300_000)
    kinds = [(each.kind, each.amount) for each in register.cancel(GEC.id, "hohhot")]
    assert kinds == [(Kind.CAPTURE, 600_000), (Kind.EXPIRE, 400_000)]
    assert register.match("hohhot", "mengxi", 100, 1) == []
    assert register.balance_wh(matched("hohhot"), GEC.id) == 0


def test_what_was_sent_to_another_owner_is_not_used_here() -> None:
    register = register_of(OWN)
    register.send("order-1", OWN.id, "hohhot", "factory", 40)
    register.send("order-1", OWN.id, "hohhot", "factory", 40)
    assert [each.amount for each in register.match("hohhot", "mengxi", 100, 50)] == [10]
    assert [each.amount for each in register.match("factory", "mengxi", 100, 50)] == [40]
    with pytest.raises(GreenError, match=r"tenant/hohhot/available: asked for 1 .* found 0"):
        register.send("order-2", OWN.id, "hohhot", "factory", 1)


def test_a_gec_is_sent_as_a_whole() -> None:
    register = register_of(GEC)
    with pytest.raises(UsageError, match="asked to send 5 Wh of a GEC"):
        register.send("order-1", GEC.id, "hohhot", "factory", 5)
    register.send("order-1", GEC.id, "hohhot", "factory", GEC_WH)
    assert register.available_wh(GEC.id, "factory") == GEC_WH


@pytest.mark.parametrize(
    "other",
    [
        replace(OWN, id="registry-7"),
        replace(GEC, producer="hohhot", source="wind"),
        replace(GEC, producer="hohhot", source="wind", from_hour=100),
    ],
)
def test_generation_is_certified_once(other: Certificate) -> None:
    for first, second in ((OWN, other), (other, OWN)):
        with pytest.raises(GreenError, match="for the same generation"):
            register_of(first, second)


@pytest.mark.parametrize(
    "other",
    [
        replace(OWN, id="hohhot.battery-wind.100", source="battery/wind"),
        replace(GEC, producer="hohhot", source="wind", from_hour=101),
        replace(GEC, producer="hohhot", source="wind", to_hour=100),
        replace(GEC, producer="hohhot", source="sun"),
        replace(FARM, id="farm-2"),
    ],
)
def test_other_generation_has_certificates_of_its_own(other: Certificate) -> None:
    assert len(register_of(FARM, OWN, other).movements) == 3
    assert len(register_of(other, OWN, FARM).movements) == 3


def test_the_same_certificate_again_changes_nothing_and_another_of_its_id_is_refused() -> None:
    register = register_of(FARM, FARM)
    assert len(register.movements) == 1
    with pytest.raises(GreenError, match="farm-1: asked to take it in, found another of farm, 300"):
        register.issue(replace(FARM, wh=301))
    with pytest.raises(GreenError, match="found none of this id"):
        register.cancel("farm-9", "hohhot")


def test_a_register_is_made_again_from_its_movements() -> None:
    register = register_of(FARM, GEC)
    register.match("hohhot", "mengxi", 100, 400)
    again = Register([FARM, GEC], register.movements)
    assert again.movements == register.movements
    assert again.matched_wh("hohhot", 100) == 400
    assert again.match("hohhot", "mengxi", 100, 400) == []
    assert again.available_wh(GEC.id, "hohhot") == GEC_WH - 100
    assert again.balance_wh(available("hohhot"), FARM.id) == 0
