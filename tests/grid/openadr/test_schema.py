from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from tests.fixtures.openadr_events import body_of
from tests.fixtures.openadr_schema import OpenAdrSchema
from tests.fixtures.openadr_vtn import OpenAdrVtn


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eventRequest", {"programID": "not / an id"}),
        ("eventRequest", body_of("SIMPLE", 4)),
        ("eventRequest", body_of("IMPORT_CAPACITY_LIMIT", "much")),
        ("eventRequest", body_of("PRICE", 1, duration="an hour")),
        ("eventRequest", body_of("PRICE", 1, intervalPeriod={"start": "2026-12-01T12:00:00"})),
        ("VenVenRequest", {"objectType": "VEN", "venName": "site"}),
        ("reportRequest", {"eventID": "event-1", "clientName": "site"}),
        ("notification", {"objectType": "EVENT", "operation": "CREATE", "object": {}}),
    ],
)
def test_the_schema_finds_a_message_that_breaks_it(
    schema: OpenAdrSchema, name: str, message: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match=name.removesuffix("Request") + "|SIMPLE|IMPORT"):
        schema.check(name, message)


def test_the_schema_lets_null_and_the_special_times_through(schema: OpenAdrSchema) -> None:
    period = {"start": "0001-01-01T00:00:00Z", "duration": "P9999Y", "randomizeStart": "PT5M"}
    body = body_of("PRICE", 0.17, intervalPeriod=period, priority=None, targets=None)
    schema.check("eventRequest", body)


async def test_the_test_server_refuses_a_name_that_is_taken(
    schema: OpenAdrSchema, vtn: OpenAdrVtn
) -> None:
    form = {"grant_type": "client_credentials", "client_id": "grid", "client_secret": "grid secret"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{vtn.url}/auth/token", data=form) as response:
            token = (await response.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        statuses = []
        for body in ({"programName": "one"}, {"programName": "one"}, {"name": "two"}):
            async with session.post(f"{vtn.url}/programs", json=body, headers=headers) as response:
                schema.check(
                    "problem" if response.status > 201 else "program", await response.json()
                )
                statuses.append(response.status)
    assert statuses == [201, 409, 400]
