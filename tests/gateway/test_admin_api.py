"""Changing the configuration over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.site import Site, SiteFactory

from steppe.config import RunConfig, parse_config
from steppe.config.change import changed_config
from steppe.gateway.access import AccessSettings
from steppe.gateway.server import ChangeResult, DriverNews
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

ADMIN_KEY = "0123456789abcdef"


@pytest.fixture
def config() -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    return parse_config(values, "test", Path("/runs"))


@pytest.fixture
async def open_admin(open_site: SiteFactory, config: RunConfig) -> Site:
    return await open_site(config=config)


async def send(
    site: Site, path: str, values: Any = None, method: str = "PUT", **headers: str
) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url, body = site.url + path, None if values is None else json.dumps(values)
    async with site.client.request(method, url, data=body, headers=sent) as answer:
        return answer.status, await answer.json()


async def carry_out(site: Site, config: RunConfig, error: str = "") -> RunConfig:
    """Do what the driver does with the next change."""
    found = site.gateway.tell(DriverNews()).changes
    while not found:
        await asyncio.sleep(0.001)
        found = site.gateway.tell(DriverNews()).changes
    (change,) = found
    config = config if error else changed_config(config, change.section, change.values)
    results = (ChangeResult(change.id, error, 12.5),)
    site.gateway.tell(DriverNews(results=results, config=None if error else (config, 1)))
    return config


async def test_a_section_is_changed_once_the_driver_has_carried_it_out(
    open_admin: Site, config: RunConfig
) -> None:
    site, power = open_admin, {"supply": [{"kind": "constant", "watts": 90}], "fallback_w": 5}
    asked = asyncio.create_task(send(site, "/steppe/v1/config/power", power))
    changed = await carry_out(site, config)
    status, answer = await asked
    assert (status, answer["applied"], answer["t_s"]) == (200, True, 12.5)
    assert changed.power.fallback_w == 5.0
    shown = (await send(site, "/steppe/v1/config", method="GET"))[1]
    assert (shown["version"], shown["power"]["fallback_w"]) == (1, 5.0)
    assert site.gateway.tell(DriverNews()).changes == ()


async def test_a_patch_changes_the_named_keys_only(open_admin: Site, config: RunConfig) -> None:
    path = "/steppe/v1/config/power"
    asked = asyncio.create_task(send(open_admin, path, {"fallback_w": 7}, method="PATCH"))
    changed = await carry_out(open_admin, config)
    assert (await asked)[0] == 200
    assert (changed.power.fallback_w, changed.power.supply) == (7.0, config.power.supply)


async def test_a_changed_slo_judges_the_next_requests(open_admin: Site, config: RunConfig) -> None:
    slo = {"ttft_s": 1e-9, "tpot_s": 1e-9}
    asked = asyncio.create_task(send(open_admin, "/steppe/v1/config/slo", slo))
    await carry_out(open_admin, config)
    await asked
    await open_admin.awake_replica()
    await open_admin.post()
    assert open_admin.gateway.status().models["m"].latency.late == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "best"}, "control.policy: asked for follow_budget, save_energy, full_clocks"),
        ({"margin": 1}, "control.margin: unknown key"),
        ({"period_s": 30}, "control.period_s: asked for what holds for the whole run, 1.0, found"),
        ([1], "asked for a JSON object, found list"),
    ],
)
async def test_a_bad_section_is_a_400_with_one_line(
    open_admin: Site, values: Any, message: str
) -> None:
    status, answer = await send(open_admin, "/steppe/v1/config/control", values)
    assert (status, answer["error"]["code"]) == (400, "invalid_config")
    assert answer["error"]["message"].startswith(message)
    assert open_admin.gateway.tell(DriverNews()).changes == ()


async def test_what_the_driver_refuses_is_a_400(open_admin: Site, config: RunConfig) -> None:
    asked = asyncio.create_task(send(open_admin, "/steppe/v1/config/slo", {"ttft_s": 1}))
    await carry_out(open_admin, config, error="trace.csv: not found")
    status, answer = await asked
    assert (status, answer["error"]["message"]) == (400, "trace.csv: not found")


async def test_an_unknown_section_is_a_404(open_admin: Site) -> None:
    for method in ("GET", "PUT"):
        status, answer = await send(open_admin, "/steppe/v1/config/fleet", {}, method=method)
        assert (status, answer["error"]["code"]) == (404, "section_not_found")


async def test_with_an_admin_key_only_its_bearer_may(
    open_site: SiteFactory, config: RunConfig
) -> None:
    site = await open_site(config=config, admin_key=ADMIN_KEY)
    path = "/steppe/v1/config"
    for headers in ({}, {"X_Steppe_Admin_Key": "other"}, {"Authorization": "Bearer other"}):
        status, answer = await send(site, path, method="GET", **headers)
        assert (status, answer["error"]["code"]) == (403, "admin_key_required")
        assert ADMIN_KEY not in str(answer)
    for headers in ({"X_Steppe_Admin_Key": ADMIN_KEY}, {"Authorization": f"Bearer {ADMIN_KEY}"}):
        assert (await send(site, path, method="GET", **headers))[0] == 200


async def test_without_keys_a_proxy_on_this_machine_does_not_count_as_local(
    open_admin: Site,
) -> None:
    headers = {"X_Forwarded_For": "10.0.0.7"}
    assert (await send(open_admin, "/steppe/v1/config", method="GET", **headers))[0] == 403
    assert (await send(open_admin, "/steppe/v1/config", method="GET"))[0] == 200


async def test_with_keys_of_tenants_an_admin_of_them_may(
    open_site: SiteFactory, config: RunConfig
) -> None:
    admin, plain = make_key("root", 0.0), make_key("lab", 0.0)
    tenants = KnownTenants(
        (Tenant("root", is_admin=True), Tenant("lab")), (admin.stored, plain.stored)
    )
    site = await open_site(config=config, access=AccessSettings(tenants))
    for key, expected in ((admin.text, 200), (plain.text, 403)):
        headers = {"Authorization": f"Bearer {key}"}
        assert (await send(site, "/steppe/v1/config", method="GET", **headers))[0] == expected


async def test_a_gateway_without_a_configuration_has_none_to_change(site: Site) -> None:
    assert (await send(site, "/steppe/v1/config/slo", {}))[0] == 404
