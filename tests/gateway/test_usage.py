"""The usage of tenants over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.gateway.site import Site

from steppe.gateway.server import DriverNews
from steppe.gateway.usage import MOST_HOURS, UsageRow, UsageTable

ROWS = (
    UsageRow("lab", "m", 471_000, 2, 1, 20, 4, 10, 6.0),
    UsageRow("web", "m", 471_000, 1, 1, 5, 0, 1, 2.0),
    UsageRow("lab", "sql", 471_001, 1, 1, 5, 0, 1, 2.0),
)


async def usage(site: Site, query: str = "") -> Any:
    status, _, body = await site.get(f"/steppe/v1/usage{query}")
    return status, json.loads(body)


async def test_usage_is_listed_by_tenant_model_and_hour(site: Site) -> None:
    site.gateway.tell(DriverNews(usage=ROWS))
    status, found = await usage(site)
    assert (status, [row["tenant"] for row in found["data"]]) == (200, ["lab", "web", "lab"])
    assert found["data"][0] == {
        "tenant": "lab",
        "model": "m",
        "hour": "2023-09-25T00:00:00.000Z",
        "requests": 2,
        "completed": 1,
        "prompt_tokens": 20,
        "cached_tokens": 4,
        "output_tokens": 10,
        "energy_j": 6.0,
        "source": "counter",
        "boundary": "gpu",
    }


@pytest.mark.parametrize(
    ("query", "count"),
    [("?tenant=lab", 2), ("?model=sql", 1), ("?since=2023-09-25T01:00:00Z", 1), ("?tenant=no", 0)],
)
async def test_usage_can_be_narrowed(site: Site, query: str, count: int) -> None:
    site.gateway.tell(DriverNews(usage=ROWS))
    assert len((await usage(site, query))[1]["data"]) == count


async def test_a_time_that_cannot_be_read_is_refused(site: Site) -> None:
    status, found = await usage(site, "?since=yesterday")
    assert (status, found["error"]["param"]) == (400, "since")
    assert found["error"]["message"] == "since: asked for a time in ISO 8601, found 'yesterday'"


def test_rows_that_are_too_old_are_forgotten() -> None:
    table = UsageTable()
    table.set(ROWS)
    table.set([UsageRow("lab", "m", 471_000 + MOST_HOURS)])
    assert [row.hour for row in table.rows()] == [471_001, 471_000 + MOST_HOURS]
