"""The reports that an OpenADR server asks for, beside a client that keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.openadr_events import NOON_S, event_of
from tests.fixtures.openadr_schema import FOLDER, published

from steppe.grid.limits.held import InForce
from steppe.grid.offers.offer import Call, FlexOffer, offered
from steppe.grid.offers.sources import Source
from steppe.grid.openadr.client import VtnError, VtnRefusedError
from steppe.grid.openadr.messages import Event
from steppe.grid.service.openadr_part import present_offers
from steppe.grid.service.openadr_reports import Reporting
from steppe.grid.service.seam import GridView, Sample

EVERY = {"startInterval": 0, "numIntervals": 1, "frequency": 1, "repeat": -1}


class Ven:
    """A client; `refuses` is what the server answers instead of taking a report."""

    def __init__(self, *asked: dict[str, Any]) -> None:
        payload = {"payloads": [{"type": "SIMPLE", "values": [1]}]}
        event = event_of(
            "SIMPLE",
            1,
            intervalPeriod={"start": "2026-12-01T12:00:00Z", "duration": "PT1M"},
            intervals=[{"id": number, **payload} for number in range(3)],
            reportDescriptors=list(asked),
        )
        self.events: tuple[Event, ...] = (event,)
        self.got: list[Mapping[str, Any]] = []
        self.refuses: VtnError | None = None

    async def report(self, body: Mapping[str, Any]) -> str:
        if self.refuses is not None:
            raise self.refuses
        if FOLDER.is_dir():
            published().check("reportRequest", body)
        self.got.append(body)
        return "report-1"

    def values(self) -> list[tuple[str, str, list[Any]]]:
        """Return type, reading and values of each report."""
        return [
            (
                body["payloadDescriptors"][0]["payloadType"],
                body["payloadDescriptors"][0]["readingType"],
                [each["payloads"][0]["values"][0] for each in body["resources"][0]["intervals"]],
            )
            for body in self.got
        ]


def offers(_view: GridView) -> list[FlexOffer]:
    power = offered([[Source("work", 300.0, 0.0, 50.0, 0.0)]] * 9, Call(60.0, 60.0))
    return [FlexOffer("o1", NOON_S, NOON_S + 120, power, power)]


def view(at_s: float, since_s: float, source: str, limit: str | None = None) -> GridView:
    """Return the site after it drew 1200 W for a while."""
    return GridView(
        at_s=at_s,
        in_force=None if limit is None else InForce(1e3, limit),
        budget_w=2e3,
        budget_source="supply",
        draw_w=1200.0,
        energy_source=source,
        samples=(Sample(1, at_s, 1200.0, since_s, source),) if since_s else (),
    )


async def run(ven: Ven, reporting: Reporting, *, until_s: int = 200) -> None:
    """Show the site every ten seconds from 20 s before the event."""
    for at_s in range(-20, until_s, 10):
        limit = "openadr/event-1" if 0 <= at_s <= 180 else None
        reporting.see(view(NOON_S + at_s, 10.0, "counter", limit))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await reporting.stop()


async def test_each_interval_is_reported_once_with_what_was_drawn() -> None:
    ven = Ven(*({"payloadType": each, **EVERY} for each in ("USAGE", "DEMAND", "OPERATING_STATE")))
    reporting = Reporting(ven, "site", offers)
    await run(ven, reporting)
    assert sorted(ven.values()) == sorted(
        3
        * [
            ("USAGE", "ESTIMATED", [0.02]),
            ("DEMAND", "ESTIMATED", [1.2]),
            ("OPERATING_STATE", "DIRECT_READ", ["RUNNING_CURTAILED"]),
        ]
    )
    assert reporting.sent == 9


async def test_what_can_be_shed_is_a_forecast() -> None:
    asked = {**EVERY, "historical": False, "numIntervals": 3}
    ven = Ven({"payloadType": "LOAD_SHED_DELTA_AVAILABLE", **asked})
    await run(ven, Reporting(ven, "site", offers), until_s=70)
    assert ven.values() == [
        ("LOAD_SHED_DELTA_AVAILABLE", "FORECAST", [0.3, 0.3, 0.0]),
        ("LOAD_SHED_DELTA_AVAILABLE", "FORECAST", [0.3, 0.0]),
    ]


async def test_what_the_site_could_give_now_counts_from_the_first_interval_on() -> None:
    asked = {**EVERY, "historical": False, "repeat": 1}
    ven = Ven({"payloadType": "LOAD_SHED_DELTA_AVAILABLE", **asked})
    work = (Source("work", 200.0, 0.0, 50.0, 0.0),)
    reporting = Reporting(ven, "site", present_offers)
    for at_s in (-0.3, 0.7):
        reporting.see(replace(view(NOON_S + at_s, 1.0, "counter"), sources=work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await reporting.stop()
    assert ven.values() == [("LOAD_SHED_DELTA_AVAILABLE", "FORECAST", [0.2])]


async def test_an_interval_that_was_not_seen_is_left_out() -> None:
    ven = Ven({"payloadType": "USAGE"})
    reporting = Reporting(ven, "site", offers)
    reporting.see(view(NOON_S + 90, 0.0, "counter"))
    for at_s in range(120, 200, 10):
        reporting.see(view(NOON_S + at_s, 10.0, "counter"))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await reporting.stop()
    assert ven.values() == [("USAGE", "ESTIMATED", [0.02])]


async def test_the_last_report_is_sent_where_the_server_lists_the_event_no_more() -> None:
    ven = Ven({"payloadType": "USAGE"})
    reporting = Reporting(ven, "site", offers)
    for at_s in range(-10, 200, 10):
        if at_s >= 180:
            ven.events = ()
        reporting.see(view(NOON_S + at_s, 10.0, "counter"))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await reporting.stop()
    assert ven.values() == [("USAGE", "ESTIMATED", [0.02, 0.02, 0.02])]


async def test_an_event_that_was_taken_back_is_not_reported() -> None:
    ven = Ven({"payloadType": "USAGE"})
    reporting = Reporting(ven, "site", offers)
    for at_s in range(-10, 200, 10):
        if at_s >= 100:
            ven.events = ()
        reporting.see(view(NOON_S + at_s, 10.0, "counter"))
        await asyncio.sleep(0)
    await reporting.stop()
    assert ven.got == []


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (VtnError("no answer"), 1),
        (VtnRefusedError("500", 500), 1),
        (VtnRefusedError("409", 409), 0),
    ],
)
async def test_a_report_that_did_not_arrive_is_sent_again(error: VtnError, sent: int) -> None:
    ven = Ven({"payloadType": "USAGE"})
    reporting = Reporting(ven, "site", offers)
    ven.refuses = error
    await run(ven, reporting)
    assert reporting.problem == str(error)
    ven.refuses = None
    reporting.see(view(NOON_S + 220, 10.0, "counter"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reporting.sent == sent
    await reporting.stop()


async def test_a_report_that_is_not_given_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    ven = Ven({"payloadType": "STORAGE_CHARGE_LEVEL"})
    await run(ven, Reporting(ven, "site", offers))
    lines = [each for each in caplog.messages if "STORAGE_CHARGE_LEVEL" in each]
    assert len(lines) == 1
