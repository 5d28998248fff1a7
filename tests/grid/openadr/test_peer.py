"""The business logic of another project, the package `openadr3`, beside our client and server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fixtures.openadr_vtn import OpenAdrVtn

from steppe.grid.openadr.client import VtnPlace
from steppe.grid.openadr.reports import Span, report_of
from steppe.grid.openadr.times import text_of
from steppe.grid.openadr.translation import AgreedTerms
from steppe.grid.openadr.ven import Hook, OpenAdrVen, VenSettings

openadr3 = pytest.importorskip("openadr3", reason="the package openadr3 is not installed")

TERMS = AgreedTerms(subscription_w=500e3, most_w=10e6)


@pytest.fixture
async def ven(vtn: OpenAdrVtn) -> AsyncIterator[OpenAdrVen]:
    place = VtnPlace(vtn.url, "site", "site secret")
    found = OpenAdrVen(
        VenSettings(place, "steppe site", TERMS, hook=Hook("http://127.0.0.1:{port}"))
    )
    await found.open()
    yield found
    await found.stop()


def event_body(program: str, kw: float, **fields: Any) -> dict[str, Any]:
    kind = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT"}
    return {
        "programID": program,
        "payloadDescriptors": [{**kind, "units": "KW"}],
        "intervalPeriod": {"start": text_of(time.time() // 1 - 60), "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [kw]}]}],
        **fields,
    }


# The package drops the connection that it asked for the place of tokens, without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_business_logic_of_another_project_sets_limits_and_reads_reports(
    vtn: OpenAdrVtn, ven: OpenAdrVen
) -> None:
    grid = openadr3.OpenADRClient(vtn.url)
    call = asyncio.to_thread
    await call(grid.fetch_token, "grid", "grid secret")
    await ven.poll()
    site = (await call(grid.vens))[0]
    assert site.ven_name == "steppe site"
    request = {"objectType": "BL_VEN_REQUEST", "clientID": "site", "venName": "steppe site"}
    await call(grid.update_ven, site.id, {**request, "targets": ["feeder-7"]})
    program = (await call(grid.create_program, {"programName": "envelope"})).json()["id"]
    await ven.poll()

    def limit_w() -> float:
        return ven.standing().limit_w(time.time(), 450e3)

    other = event_body(program, 100, targets=["feeder-8"])
    assert (await call(grid.create_event, other)).status_code == 201
    ours = event_body(program, 300, targets=["feeder-7"])
    event = (await call(grid.create_event, ours)).json()
    assert limit_w() == 300e3
    await call(grid.update_event, event["id"], event_body(program, 200, targets=["feeder-7"]))
    assert limit_w() == 200e3
    body = report_of(event["id"], "steppe site", "DEMAND", [Span(1.8e9, 900.0, 199e3)])
    await ven.report(body)
    report = (await call(grid.reports))[0]
    assert report.resources[0].intervals[0].payloads[0].values == [199]
    await call(grid.delete_event, event["id"])
    assert limit_w() == 500e3
    assert vtn.delivered == [200, 200, 200]
    await call(grid.close)
