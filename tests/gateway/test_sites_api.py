"""What a gateway shows of other sites, with a sites service behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fixtures.running_sites import SECRET, open_sites
from tests.gateway.site import Site, SiteFactory

from steppe.config import RunConfig, parse_config
from steppe.gateway.server import DriverNews

PATH = "/steppe/v1/sites"
VALUES: dict[str, Any] = {
    "model": {"name": "m"},
    "device": {"kind": "emulated", "profile": "h100", "count": 1},
    "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
}


def config_with(sites: Any) -> RunConfig:
    return parse_config(VALUES, "test", Path("/runs")).model_copy(update={"sites": sites})


async def show(site: Site) -> tuple[int, Any]:
    status, _, body = await site.get(PATH)
    return status, json.loads(body)


async def test_a_run_alone_has_no_other_sites(site: Site) -> None:
    status, found = await show(site)
    assert (status, found["error"]["code"]) == (404, "sites_not_configured")


async def test_the_gateway_shows_what_the_service_knows(
    open_site: SiteFactory, tmp_path: Path
) -> None:
    async with open_sites(tmp_path, "hohhot", "shanghai") as sites:
        config = config_with(sites.section("hohhot", port=0))
        site = await open_site(config=config, run_secret=SECRET)
        status, found = await show(site)
        assert (status, found["error"]["code"]) == (503, "sites_unavailable")
        hohhot = await sites.start("hohhot")
        site.gateway.tell(DriverNews(services={"sites": hohhot.url}))
        await hohhot.until(lambda state: state.here is not None)
        status, found = await show(site)
        assert (status, found["site"], found["here"]["budget_w"]) == (200, "hohhot", 1000.0)
        assert [peer["health"] for peer in found["peers"]] == ["unheard"]
        assert b"steppe_sites_health" in (await site.get("/metrics"))[2]
        await hohhot.service.stop()
        assert (await show(site))[0] == 503


async def test_settlements_are_for_administrators(open_site: SiteFactory, tmp_path: Path) -> None:
    async with open_sites(tmp_path, "hohhot", "shanghai") as sites:
        config = config_with(sites.section("hohhot", port=0))
        site = await open_site(config=config, run_secret=SECRET, admin_key="secret")
        hohhot = await sites.start("hohhot")
        site.gateway.tell(DriverNews(services={"sites": hohhot.url}))
        status, _, body = await site.get(f"{PATH}/settlements")
        assert status == 403, body
