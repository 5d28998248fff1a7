"""The gateway keeps to the OpenAPI document of its own API, whatever a client sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.fixtures.grid_fleet import GridFleet
from tests.gateway.site import SiteFactory

from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.config import BatchSection, GridSection, LedgerSection, RunConfig, parse_config
from steppe.config.change import changed_config
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.openapi import document
from steppe.gateway.server import ChangeResult, DriverNews, Gateway
from steppe.grid.service.links import links_of
from steppe.grid.service.service import GridService
from steppe.grid.service.settings import GridSettings
from steppe.ledger.service.service import LedgerService
from steppe.ledger.service.settings import LedgerSettings

schemathesis = pytest.importorskip("schemathesis")
positive_data_acceptance = pytest.importorskip(
    "schemathesis.specs.openapi.checks"
).positive_data_acceptance

EXAMPLES = 4
"""Requests made up for each operation."""


@pytest.fixture
def config() -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        "grid": {},
    }
    return parse_config(values, "test", Path("/runs"))


async def carry_out(gateway: Gateway, config: RunConfig, services: dict[str, str]) -> None:
    """Carry out all changes, as the driver does."""
    version, news = 0, DriverNews(services=services)
    while True:
        found = gateway.tell(news).changes
        for change in found:
            config, version = changed_config(config, change.section, change.values), version + 1
        results = tuple(ChangeResult(change.id, t_s=1.0) for change in found)
        changed = (config, version) if found else None
        news = DriverNews(results=results, config=changed, services=services)
        await asyncio.sleep(0.002)


def test_the_document_names_every_route_and_every_section() -> None:
    found = document()
    assert set(found["paths"]) == {
        "/steppe/v1/status",
        "/steppe/v1/usage",
        "/steppe/v1/requests/{id}",
        "/steppe/v1/openapi.json",
        "/steppe/v1/work/{id}",
        "/steppe/v1/batches/{id}/report",
        "/v1/files",
        "/v1/files/{id}",
        "/v1/files/{id}/content",
        "/v1/batches",
        "/v1/batches/{id}",
        "/v1/batches/{id}/cancel",
        "/steppe/v1/receipts",
        "/steppe/v1/receipts/{id}",
        "/steppe/v1/receipts/{id}/proof",
        "/steppe/v1/balance",
        "/steppe/v1/quote",
        "/steppe/v1/tariffs",
        "/steppe/v1/tariffs/{id}",
        "/steppe/v1/tariffs/{id}/proof",
        "/steppe/v1/log/checkpoint",
        "/steppe/v1/log/key",
        "/steppe/v1/budget",
        "/steppe/v1/grid",
        "/steppe/v1/grid/commitments",
        "/steppe/v1/grid/events",
        "/steppe/v1/grid/events/{id}",
        "/steppe/v1/grid/events/{id}/report",
        "/steppe/v1/grid/reports",
        "/steppe/v1/flexibility",
        "/steppe/v1/sites",
        "/steppe/v1/sites/settlements",
        "/steppe/v1/config",
        "/steppe/v1/config/power",
        "/steppe/v1/config/control",
        "/steppe/v1/config/slo",
        "/steppe/v1/config/models",
    }
    names = set(found["components"]["schemas"])
    assert {"power", "control", "slo", "ConstantSupply", "Error", "Batch", "Receipt"} <= names
    assert set(references(found)) <= {f"#/components/schemas/{name}" for name in names}


def references(schema: Any) -> Iterator[str]:
    match schema:
        case {"$ref": str(name)}:
            yield name
        case dict():
            for value in schema.values():
                yield from references(value)
        case list():
            for value in schema:
                yield from references(value)


async def test_made_up_requests_get_the_answers_of_the_document(
    open_site: SiteFactory, config: RunConfig, tmp_path: Path
) -> None:
    site = await open_site(config=config, uploads=UploadLimits(), ledger=LedgerLink())
    await site.awake_replica()
    await site.post(X_Request_Id="mine")
    batches = BatchService(BatchSettings(BatchSection(folder=tmp_path / "batch"), site.url))
    ledger = LedgerService(LedgerSettings(LedgerSection(site="hohhot"), tmp_path / "ledger"))
    fleet = GridFleet(tmp_path, links_of(GridSection()))
    grid = GridService(GridSettings(GridSection(), tmp_path / "grid", "1-a", 0.0), fleet)
    services = {
        "batch": await batches.start(),
        "ledger": await ledger.start(),
        "grid": await grid.start(),
    }
    driver = asyncio.create_task(carry_out(site.gateway, config, services))
    try:
        await asyncio.to_thread(_try_all, site.url)
    finally:
        driver.cancel()
        await grid.stop()
        await ledger.stop()
        await batches.stop()
    assert (await site.get("/health/live"))[0] == 200


def _try_all(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/steppe/v1/openapi.json")
    for result in schema.get_all_operations():
        _try(result.ok())


def _try(operation: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def ask(case: Any) -> None:
        # A section whose values are all in range may still not fit the run: that is a 400.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
