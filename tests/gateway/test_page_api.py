"""The live page of the gateway over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.gateway.site import Site, SiteFactory
from tests.page.ticks import sent

from steppe.config import parse_config
from steppe.gateway import page_api
from steppe.gateway.access import AccessSettings
from steppe.gateway.server import DriverNews
from steppe.gateway.usage import UsageRow
from steppe.sites.beats.peers import Health
from steppe.sites.state import PATH, PeerState, SitesState, write_state
from steppe.sites.view import PoolView, SiteView
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

KEY, ADMIN_KEY = make_key("a", 0.0), make_key("boss", 0.0)
ACCESS = AccessSettings(
    KnownTenants((Tenant("a"), Tenant("boss", is_admin=True)), (KEY.stored, ADMIN_KEY.stored))
)
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


async def get(site: Site, path: str, key: str = "", **headers: str) -> tuple[int, Any, bytes]:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    async with site.client.get(site.url + path, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


async def first_view(site: Site, key: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with site.client.get(site.url + "/steppe/v1/live", headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        return await next_view(answer)


async def next_view(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    event = await answer.content.readuntil(b"\n\n")
    found: dict[str, Any] = json.loads(event.partition(b"data: ")[2])
    return found


async def test_a_browser_gets_the_page_and_a_program_gets_json(site: Site) -> None:
    status, headers, body = await get(site, "/", **BROWSER)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Vary"] == "Accept"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert b"<h1>Steppe</h1>" in body
    for accept in ("*/*", "application/json"):
        body = (await get(site, "/", Accept=accept))[2]
        assert json.loads(body) == {"name": "steppe", "models": ["m"], "api": "/v1"}


async def test_every_file_of_the_page_is_served_and_kept_by_the_browser(site: Site) -> None:
    page = (await get(site, "/", **BROWSER))[2].decode()
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        status, headers, body = await get(site, path)
        assert (status, bool(body)) == (200, True)
        assert "immutable" in headers["Cache-Control"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert (await get(site, "/steppe/page/page.js?v=old"))[1]["Cache-Control"] == "no-cache"
    for path in ("absent.js", "SHA256SUMS", "..%2fassets.py", "live.html"):
        assert (await get(site, "/steppe/page/" + path))[0] == 404


async def test_the_stream_has_the_values_of_the_status(site: Site) -> None:
    site.gateway.set_fleet_state(sent(1.0))
    view = await first_view(site)
    status = json.loads((await get(site, "/steppe/v1/status"))[2])
    for name in ("supply_w", "budget_w", "draw_w", "headroom_w"):
        assert view["figures"][name]["value"] == status["power"][name]
    assert view["figures"]["output_tps"]["value"] == status["tick"]["output_tps"]
    assert (view["t_s"], view["source"]) == (1.0, "emulated")
    assert view["figures"]["run_tokens"]["value"] == 800


async def test_a_viewer_gets_each_tick_once_and_the_history_has_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_api, "PERIOD_S", 0.01)
    site.gateway.set_fleet_state(sent(1.0))
    async with site.client.get(site.url + "/steppe/v1/live") as answer:
        view = await next_view(answer)
        assert view["points"] == []
        site.gateway.set_fleet_state(sent(2.0))
        site.gateway.set_fleet_state(sent(3.0))
        site.gateway.set_fleet_state(sent(3.0))
        times: list[float] = []
        at = view["columns"].index("t_s")
        while len(times) < 2:
            following = await next_view(answer)
            assert following["seq"] == view["seq"] + 1
            view = following
            times += [row[at] for row in view["points"]]
    assert times == [2.0, 3.0]
    history = json.loads((await get(site, "/steppe/v1/live/history"))[2])
    assert history["run"]["t_s"] == [1.0, 2.0, 3.0]
    assert history["span_text"] == "last hour"


async def test_a_viewer_that_reads_nothing_is_dropped_and_delays_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_api, "PERIOD_S", 0.01)
    monkeypatch.setattr(page_api, "WRITE_S", 1.0)
    site.gateway.set_fleet_state(sent(1.0))
    stalled = socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.sendall(b"GET /steppe/v1/live HTTP/1.1\r\nHost: a\r\n\r\n")
    page = site.gateway._page
    assert page is not None
    async with site.client.get(site.url + "/steppe/v1/live") as answer:
        await next_view(answer)
        while len(page._broadcast) < 2:
            await next_view(answer)
        while len(page._broadcast) == 2:
            await asyncio.wait_for(next_view(answer), 30.0)
        assert len(page._broadcast) == 1
        await next_view(answer)
    stalled.close()


async def test_nothing_is_rendered_without_viewers(site: Site) -> None:
    site.gateway.set_fleet_state(sent(1.0))
    await first_view(site)
    page = site.gateway._page
    assert page is not None
    while len(page._broadcast):
        await asyncio.sleep(0)
    sender = page._sender
    assert sender is not None
    await asyncio.wait_for(sender, 30.0)


async def test_viewers_are_let_go_when_the_gateway_stops(site: Site) -> None:
    async with site.client.get(site.url + "/steppe/v1/live") as answer:
        await next_view(answer)
        await site.gateway.stop()
        rest = await asyncio.wait_for(answer.content.read(), 30.0)
    assert rest.rpartition(b"data: ")[2] == b'{"closed": true}\n\n'


async def test_where_keys_are_configured_only_the_empty_page_needs_none(
    open_site: SiteFactory,
) -> None:
    site = await open_site(access=ACCESS)
    site.gateway.set_fleet_state(sent(1.0))
    status, _, body = await get(site, "/", **BROWSER)
    assert status == 200
    assert b"612" not in body
    assert (await get(site, "/steppe/page/page.js"))[0] == 200
    assert (await get(site, "/"))[0] == 401
    for path in ("", "/history", "/tenants"):
        assert (await get(site, "/steppe/v1/live" + path))[0] == 401
        assert (await get(site, "/steppe/v1/live" + path, key="sk-wrong"))[0] == 401
    view = await first_view(site, KEY.text)
    assert view["figures"]["supply_w"]["value"] == 612.5


async def test_the_page_learns_what_its_key_may_do(open_site: SiteFactory) -> None:
    config = parse_config(
        {
            "model": {"name": "m"},
            "device": {"kind": "emulated", "profile": "h100", "count": 1},
            "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        },
        "test",
        Path("/runs"),
    )
    site = await open_site(access=ACCESS, config=config)
    path = "/steppe/page/access"
    nobody = json.loads((await get(site, path))[2])
    assert nobody["role"] == "none"
    assert json.loads((await get(site, path, key="sk-wrong"))[2])["role"] == "none"
    assert json.loads((await get(site, path, key=KEY.text))[2])["role"] == "viewer"
    admin = json.loads((await get(site, path, key=ADMIN_KEY.text))[2])
    assert (admin["role"], admin["has_grid"], admin["has_config"]) == ("admin", False, True)
    assert "follow_budget" in admin["policies"]


async def test_without_keys_this_machine_may_look_and_change(site: Site) -> None:
    assert json.loads((await get(site, "/steppe/page/access"))[2])["role"] == "admin"
    proxied = await get(site, "/steppe/page/access", **{"X-Forwarded-For": "10.0.0.1"})
    assert json.loads(proxied[2])["role"] == "viewer"


async def test_a_tenant_sees_its_own_usage_and_an_admin_that_of_all(
    open_site: SiteFactory,
) -> None:
    site = await open_site(access=ACCESS)
    rows = tuple(UsageRow(name, "m", 490_000, requests=1, energy_j=5.0) for name in ("a", "b"))
    site.gateway.tell(DriverNews(usage=rows))
    own = json.loads((await get(site, "/steppe/v1/live/tenants", key=KEY.text))[2])
    assert [row[0] for row in own["rows"]] == ["a"]
    every = json.loads((await get(site, "/steppe/v1/live/tenants", key=ADMIN_KEY.text))[2])
    assert [row[0] for row in every["rows"]] == ["a", "b"]


async def test_a_gateway_without_a_page_answers_json_to_all(open_site: SiteFactory) -> None:
    site = await open_site(page=False)
    site.gateway.set_fleet_state(sent(1.0))
    assert json.loads((await get(site, "/", **BROWSER))[2])["name"] == "steppe"
    status, _, body = await get(site, "/steppe/v1/live")
    assert (status, json.loads(body)["error"]["code"]) == (404, "no_page")
    assert (await get(site, "/steppe/page/page.js"))[0] == 404


async def test_other_sites_come_from_the_sites_service(site: Site) -> None:
    pool = PoolView("m", "r1", 100.0, 0, 0.2, 0.02, 4e5)
    seen = SiteView(
        "north", 1, 5.0, 900.0, 500.0, 400.0, 50.0, 0.0, (), (), (), "CNY", "cn", frozenset(),
        {"m": pool},
    )  # fmt: skip
    peers = (
        PeerState(
            "south", "https://south:1", "cn", Health.LIVE, 0.012, replace(seen, site="south")
        ),
        PeerState("west", "https://west:1", "cn", Health.UNHEARD, 0.08),
    )
    state = SitesState("north", "0123456789abcdef", 1, 1.0, seen, peers, suspects={"west": 99.0})

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=write_state(state, 6.0), content_type="application/json")

    service = web.Application()
    service.router.add_get(PATH, answer)
    runner = web.AppRunner(service, shutdown_timeout=0.1)
    await runner.setup()
    site.stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    site.gateway.set_fleet_state(sent(1.0))
    assert (await first_view(site))["tables"]["sites"] == []
    site.gateway.tell(DriverNews(services={"sites": url}))
    view = await first_view(site)
    assert [row[0] for row in view["tables"]["sites"]] == ["north", "south", "west"]
    assert view["tables"]["sites"][0][3:] == ["500 W", "414.2 W", "85.8 W", "85.8 W", "m"]
    assert [place["state"] for place in view["map"]] == ["good", "bad"]
