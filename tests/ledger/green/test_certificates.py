"""Certificates: what one is, and what a site issues for itself."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from steppe.errors import UsageError
from steppe.ledger.green.certificates import (
    GEC_WH,
    Certificate,
    certificate_of,
    own_certificates,
    site_name,
)
from steppe.ledger.green.supply import HourSupply

FARM = Certificate("farm-1", "granular", "hohhot", "farm", "mengxi", "wind", 300, 100, 101)
GEC = Certificate("9" * 32, "gec", "hohhot", "sun-park", "mengxi", "sun", GEC_WH, 90, 120)
OWN = Certificate("hohhot.wind.100", "granular", "hohhot", "hohhot", "mengxi", "wind", 50, 100, 101)


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


def test_a_site_certifies_what_its_own_green_sources_gave() -> None:
    supply = HourSupply(100, 9, {"wind": 50, "battery/sun": 2, "grid/wind": 7, "sun": 0}, 9, 0)
    made = own_certificates("hohhot", "mengxi", supply)
    assert made == [OWN, replace(OWN, id="hohhot.battery-sun.100", source="battery/sun", wh=2)]
    assert all(each.is_own for each in made)
    assert not FARM.is_own


def test_a_long_name_of_a_site_is_shortened_and_stays_its_own() -> None:
    assert site_name("hohhot") == "hohhot"
    names = {site_name(f"example.org/{'x' * 60}/{number}") for number in range(9)}
    assert len(names) == 9
    assert all(len(name) == 36 for name in names)
    assert site_name("a/b") != site_name("a-b") == "a-b"
