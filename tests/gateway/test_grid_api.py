"""The grid's door: everybody may look, administrators may change something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.grid_fleet import GridFleet
from tests.gateway.site import Site, SiteFactory

from steppe.config import GridSection, RunConfig, parse_config
from steppe.gateway.server import DriverNews
from steppe.grid.service.links import links_of
from steppe.grid.service.service import GridService
from steppe.grid.service.settings import GridSettings

ADMIN_KEY = "0123456789abcdef"
BUDGET = "/steppe/v1/budget"


@pytest.fixture
def config() -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        "grid": {},
    }
    return parse_config(values, "test", Path("/runs"))


async def send(site: Site, method: str, path: str, body: Any = None, key: str = "") -> Any:
    headers = {"X-Steppe-Admin-Key": key} if key else {}
    url = site.url + path
    async with site.client.request(method, url, json=body, headers=headers) as answer:
        found = await answer.json()
        return answer.status, found.get("error", {}).get("code"), found


async def test_changes_need_the_right_to_administrate(
    open_site: SiteFactory, config: RunConfig, tmp_path: Path
) -> None:
    site = await open_site(config=config, admin_key=ADMIN_KEY)
    fleet = GridFleet(tmp_path, links_of(GridSection()))
    service = GridService(GridSettings(GridSection(), tmp_path / "grid", "1-a", 0.0), fleet)
    site.gateway.tell(DriverNews(services={"grid": await service.start()}))
    event = "/steppe/v1/grid/events/e1"
    try:
        for path, body in ((BUDGET, {"limit_w": 1}), (event, {"hold_s": 5, "share": 0.5})):
            for method in ("PUT", "DELETE"):
                status, code, _ = await send(site, method, path, body)
                assert (status, code) == (403, "admin_key_required")
        assert fleet.taken == []
        found = await send(site, "PUT", BUDGET, {"limit_w": 300}, ADMIN_KEY)
        assert found[0] == 200
        status, _, shown = await send(site, "GET", BUDGET)
        assert (status, shown["in_force"]["limit_w"]) == (200, 300)
        assert (await send(site, "GET", "/steppe/v1/grid"))[0] == 200
        assert (await send(site, "GET", "/steppe/v1/flexibility"))[0] == 200
        assert (await send(site, "PUT", event, {"hold_s": 5, "share": 0.5}, ADMIN_KEY))[0] == 200
        lifted = (await send(site, "DELETE", BUDGET, None, ADMIN_KEY))[2]
        assert lifted["in_force"] == {"name": "http/e1", "limit_w": 500}
    finally:
        await service.stop()


@pytest.mark.parametrize(
    ("admin_key", "headers"),
    [
        (ADMIN_KEY, {"X-Steppe-Admin-Key": "another"}),
        (ADMIN_KEY, {"Authorization": "Bearer another"}),
        (ADMIN_KEY, {"X-Steppe-Tenant": "admin"}),
        ("", {"X-Forwarded-For": "127.0.0.1"}),
        ("", {"X-Real-Ip": "127.0.0.1"}),
        ("", {"Forwarded": "for=127.0.0.1"}),
    ],
)
async def test_no_header_gives_the_right_to_change_a_limit(
    open_site: SiteFactory, config: RunConfig, admin_key: str, headers: dict[str, str]
) -> None:
    site = await open_site(config=config, admin_key=admin_key)
    url = site.url + BUDGET
    for method in ("PUT", "DELETE", "POST", "PATCH", "put"):
        async with site.client.request(method, url, json={"limit_w": 1}, headers=headers) as answer:
            assert answer.status == 403, method
    read = {**headers, "X-HTTP-Method-Override": "PUT"}
    async with site.client.get(url, headers=read) as answer:
        assert answer.status == 503  # a read, of a service that is not there


async def test_a_run_without_a_grid_says_so(open_site: SiteFactory, config: RunConfig) -> None:
    site = await open_site(config=config.model_copy(update={"grid": None}))
    status, code, _ = await send(site, "GET", "/steppe/v1/grid")
    assert (status, code) == (404, "grid_not_configured")


async def test_a_service_that_starts_gets_a_503(open_site: SiteFactory, config: RunConfig) -> None:
    site = await open_site(config=config)
    status, code, _ = await send(site, "GET", BUDGET)
    assert (status, code) == (503, "grid_unavailable")
