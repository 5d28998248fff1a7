from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree

import pytest
from s2python.s2_parser import S2Parser
from tests.fixtures.openadr_events import NOON_S
from tests.fixtures.openadr_schema import OpenAdrSchema

from steppe.errors import UsageError
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.renderings.dsx import dsx_status
from steppe.grid.renderings.openadr import available, openadr_reports
from steppe.grid.renderings.s2 import s2_messages
from steppe.grid.renderings.site import OfferingSite
from steppe.grid.renderings.steps import price_steps
from steppe.grid.renderings.uftp import UftpTerms, uftp_flex_offer

SITE = OfferingSite("steppe-site", 1000.0, 1500.0, 1200.0, "EUR")
TERMS = UftpTerms("agr.example.org", "dso.example.org", "ean.871685900012636543")
CALL = Call(60.0, 1800.0)


def offer(hours: float = 2.0, down_w: float = 300.0) -> FlexOffer:
    """Return an offer from noon UTC: watts for nothing, 200 W for 1e-7 per J, 400 W upwards."""
    down = [Source("work", down_w, 0.0, 50.0, 0.0), Source("streams", 200.0, 0.0, 50.0, 1e-7)]
    up = [Source("work", 400.0, 0.0, 50.0, 0.0)]
    until_s = NOON_S + 3600 * hours
    return FlexOffer("o1", NOON_S, until_s, offered([down] * 9, CALL), offered([up] * 9, CALL))


def test_reports_say_what_is_available_in_each_of_48_hours(schema: OpenAdrSchema) -> None:
    reports = openadr_reports([offer()], "event-1", "site", NOON_S)
    found = {}
    for report in reports:
        schema.check("reportRequest", report)
        intervals = report["resources"][0]["intervals"]
        assert len(intervals) == 48
        assert report["payloadDescriptors"][0]["readingType"] == "FORECAST"
        values = [each["payloads"][0]["values"][0] for each in intervals]
        found[intervals[0]["payloads"][0]["type"]] = values[:3]
    assert found == {
        "LOAD_SHED_DELTA_AVAILABLE": [0.5, 0.5, 0.0],
        "UP_REGULATION_AVAILABLE": [0.5, 0.5, 0.0],
        "DOWN_REGULATION_AVAILABLE": [0.4, 0.4, 0.0],
    }


def test_hours_that_lie_in_two_offers_have_the_fewer_watts() -> None:
    first = replace(offer(hours=1.0), id="o0")
    second = replace(offer(down_w=100.0), from_s=NOON_S + 3600, until_s=NOON_S + 7200)
    late = replace(offer(), from_s=NOON_S + 7260, until_s=NOON_S + 9e4)
    spans = available([second, first, late], "LOAD_SHED_DELTA_AVAILABLE", NOON_S + 1800, 3, 3600.0)
    assert [span.value for span in spans] == [300.0, 0.0, 500.0]


def test_a_status_of_dsx_says_between_which_watts_the_site_can_be_set() -> None:
    content = dsx_status(offer(), SITE, NOON_S)
    feed = content["feeds"]["steppe-site"]
    watts = {name: each["value"] for name, each in feed["metadata"].items()}
    assert watts == {"power_minimum": 500, "power_maximum": 1500, "default_constraint": 1200}
    assert feed["calculated_load"]["value"] == 1000


def test_messages_of_s2_are_parsed_by_another_project() -> None:
    constraints, modes = (json.loads(each) for each in s2_messages(offer(), SITE, NOON_S))
    for each in (constraints, modes):
        S2Parser.parse_as_any_message(each)
    assert constraints["allowed_limit_ranges"][0]["range_boundary"]["start_of_range"] == 500
    assert [each["power_ranges"][0]["start_of_range"] for each in modes["operation_modes"]] == [
        1000,
        700,
        500,
        0,
    ]


def test_steps_rise_in_price_and_come_in_whole_lots() -> None:
    found = [
        (each["direction"], each["watts"], each["total_watts"], each["price_per_mwh"])
        for each in price_steps(offer(), 250)
    ]
    assert found == [("down", 250, 250, 0.0), ("down", 250, 500, 360.0), ("up", 250, 250, 0.0)]


def test_an_offer_of_uftp_has_an_option_for_each_price_in_whole_periods() -> None:
    root = ElementTree.fromstring(uftp_flex_offer(offer(), SITE, TERMS, NOON_S - 100))
    assert (root.tag, root.get("Period"), root.get("ISP-Duration")) == (
        "FlexOffer",
        "2026-12-01",
        "PT15M",
    )
    options = []
    for each in root:
        (isp,) = each
        assert (isp.get("Start"), isp.get("Duration")) == ("53", "2")  # 13:00 in Amsterdam
        options.append((isp.get("Power"), each.get("Price"), each.get("OptionReference")))
    assert options == [
        ("-300", "0.0000", "1"),
        ("-500", "0.0360", "2"),
        ("400", "0.0000", "3"),
    ]


def test_an_offer_of_uftp_counts_from_the_day_that_it_is_for() -> None:
    text = uftp_flex_offer(offer(hours=24.0), SITE, TERMS, NOON_S, date(2026, 12, 2))
    isp = ElementTree.fromstring(text)[0][0]
    assert (isp.get("Start"), isp.get("Duration")) == ("1", "2")


@pytest.mark.parametrize(
    ("bad", "site"),
    [
        (offer(hours=0.2), SITE),
        (offer(), OfferingSite("site", 1000.0, 1500.0, 1200.0)),
    ],
)
def test_what_uftp_cannot_say_is_refused(bad: FlexOffer, site: OfferingSite) -> None:
    with pytest.raises(UsageError, match="UFTP: asked for watts in whole periods"):
        uftp_flex_offer(bad, site, TERMS, NOON_S)


@pytest.mark.parametrize(
    "fields",
    [
        ("agr", "dso.example.org", "ean.871685900012636543"),
        ("agr.example.org", "dso.example.org", "here"),
        ("agr.example.org", "dso.example.org", "ean.871685900012636543", "Moon/Sea"),
    ],
)
def test_terms_of_uftp_that_cannot_be_are_refused(fields: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="UFTP: asked for"):
        UftpTerms(*fields)
