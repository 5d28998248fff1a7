"""Sites services with fake gateways, over TLS on this host."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.running_sites import STATUS, WAIT_S, RunningSite, Sites, open_sites, status_of

from steppe.errors import ConfigError, UsageError
from steppe.services.connections import HttpLimits
from steppe.sites.beats.peers import Health
from steppe.sites.check import tls_of
from steppe.sites.service.sent_api import PATH as SENT
from steppe.sites.service.sent_api import write_sent
from steppe.sites.settlement.sent import Sent
from steppe.sites.state import PATH, SitesState
from steppe.sites.view import SiteView


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[Sites]:
    async with open_sites(tmp_path, "hohhot", "shanghai", "guizhou") as found:
        yield found


def health(state: SitesState, name: str) -> Health:
    return next(peer.health for peer in state.peers if peer.site == name)


async def both_live(sites: Sites, **statuses: dict[str, Any]) -> tuple[RunningSite, RunningSite]:
    """Return two sites that hear each other, once both have seen their gateways."""
    found = [await sites.start(name, statuses.get(name)) for name in ("hohhot", "shanghai")]
    for site, other in zip(found, ("shanghai", "hohhot"), strict=True):
        await view_of(site, other, lambda view: view.budget_w > 0)
    return found[0], found[1]


async def view_of(
    site: RunningSite, other: str, is_so: Callable[[SiteView], bool] = lambda _: True
) -> SiteView:
    """Wait until another site is live and its heartbeat is as asked for; return what it says.

    On a busy machine a site that is live misses some beats, and then it is lost for a while.
    """

    def has_come(state: SitesState) -> bool:
        view = state.usable(0.0).get(other)
        return view is not None and is_so(view)

    return (await site.until(has_come)).usable(0.0)[other]


def busy(output_tps: float, priority: str = "standard") -> dict[str, Any]:
    """Return the status of a calm site whose customers ask for much."""
    status = status_of(surplus_w=0.0, budget_w=500.0, headroom_w=100.0, draw_w=400.0)
    status["outlook"] = [{"in_s": 900.0 * n, "surplus_w": 0.0} for n in range(16)]
    asked = {"priority": priority, "regions": ["cn"], "data_class": "general"}
    status["models"]["m"] |= {"headroom_tps": 100.0, "demand": [asked | {"output_tps": output_tps}]}
    return status


async def test_two_sites_show_each_other_what_their_gateways_say(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites, shanghai=status_of(budget_w=777.0))
    view = await view_of(hohhot, "shanghai")
    state = await hohhot.state()
    assert (view.budget_w, view.draw_w, view.headroom_w) == (777.0, 300.0, 700.0)
    assert (view.surplus_w, view.storage_wh, len(view.forecast)) == (600.0, 20.0, 16)
    pool = view.pools["m"]
    assert (pool.revision, pool.free_tps, pool.uj_per_token) == ("rev1", 1400.0, 500_000.0)
    assert state.here is not None
    assert state.here.budget_w == 1000.0
    assert health(state, "guizhou") is Health.UNHEARD
    assert (await shanghai.state()).site == "shanghai"


async def test_a_site_that_stops_is_lost_and_its_state_is_gone(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites)
    await shanghai.service.stop()
    state = await hohhot.until(lambda state: health(state, "shanghai") is Health.LOST)
    assert state.usable(0.0) == {}
    with pytest.raises(aiohttp.ClientConnectionError):
        await shanghai.state()


async def test_while_its_gateway_is_silent_a_site_shows_no_room(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites)
    shanghai.gateway.status = None
    view = await view_of(hohhot, "shanghai", lambda view: view.headroom_w == 0.0)
    assert (view.surplus_w, view.pools["m"].free_tps, view.budget_w) == (0.0, 0.0, 1000.0)
    assert "steppe_sites_gateway_away 1.0" in await shanghai.metrics()
    shanghai.gateway.status = status_of()
    await view_of(hohhot, "shanghai", lambda view: view.headroom_w == 700.0)


async def metrics_of(site: RunningSite, is_so: Callable[[str], bool]) -> str:
    """Wait until the metrics of a site are as asked for; return them."""
    async with asyncio.timeout(WAIT_S):
        while not is_so(text := await site.metrics()):
            await asyncio.sleep(0.05)
    return text


async def test_its_metrics_have_the_power_of_all_sites_and_the_age_of_their_beats(
    sites: Sites,
) -> None:
    hohhot, _ = await both_live(sites, shanghai=status_of(draw_w=400.0, headroom_w=600.0))
    text = await metrics_of(hohhot, lambda text: 'draw_watts{site="shanghai"}' in text)
    families = text_string_to_metric_families(text)
    found = {(x.name, x.labels.get("site")): x.value for f in families for x in f.samples}
    for site, draw_w in (("hohhot", 300.0), ("shanghai", 400.0)):
        assert found["steppe_sites_budget_watts", site] == 1000.0
        assert found["steppe_sites_draw_watts", site] == draw_w
    assert 0.0 <= found["steppe_sites_beat_age_seconds", "shanghai"] < WAIT_S
    assert ("steppe_sites_beat_age_seconds", "guizhou") not in found  # never heard


async def test_a_controller_that_is_silent_leaves_no_room(sites: Sites) -> None:
    stale = status_of() | {"controller": {"age_s": 9.0, "stale": True}}
    hohhot, _ = await both_live(sites, shanghai=stale)
    view = await view_of(hohhot, "shanghai")
    assert (view.headroom_w, view.pools["m"].free_tps) == (0.0, 0.0)


async def test_a_renewed_certificate_is_used_without_a_restart(sites: Sites) -> None:
    sites.certify("shanghai", valid_s=3600.0)
    hohhot, shanghai = await both_live(sites)

    async def left_s() -> float:
        lines = (await shanghai.metrics()).splitlines()
        line = next(line for line in lines if line.startswith("steppe_sites_certificate_seconds"))
        return float(line.split()[1])

    assert await left_s() < 3601.0
    sites.certify("shanghai")
    while await left_s() < 3601.0:
        await view_of(hohhot, "shanghai")
    seq = (await view_of(hohhot, "shanghai")).seq
    await view_of(hohhot, "shanghai", lambda view: view.seq > seq)


async def test_a_calm_site_gets_leases_to_one_with_surplus(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites, shanghai=busy(400.0))
    state = await shanghai.until(lambda state: bool(state.leases))
    (lease,) = state.leases
    assert (lease.site, lease.model, lease.priority) == ("hohhot", "m", "standard")
    assert 100.0 < lease.output_tps <= 1400.0
    assert lease.ramp_tps2 <= 0.1 * 2000.0
    assert (await hohhot.state()).leases == ()
    name = 'steppe_sites_lease_tokens_per_second{model="m",priority="standard",site="hohhot"}'
    await metrics_of(shanghai, lambda text: name in text)


async def test_a_lease_to_a_site_that_is_lost_ends(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites, shanghai=busy(400.0))
    await shanghai.until(lambda state: bool(state.leases))
    await hohhot.service.stop()
    await shanghai.until(lambda state: health(state, "hohhot") is Health.LOST)
    await shanghai.until(lambda state: not any(x.output_tps for x in state.leases))


async def test_a_site_with_surplus_takes_deferrable_work_of_another_one(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites, shanghai=busy(50.0, "deferrable"))
    state = await shanghai.until(lambda state: any(x.output_tps > 500.0 for x in state.leases))
    (lease,) = state.leases
    assert (lease.site, lease.priority) == ("hohhot", "deferrable")
    calm = status_of(surplus_w=300.0)
    calm["outlook"] = STATUS["outlook"]
    hohhot.gateway.status = calm
    await shanghai.until(lambda state: not any(x.output_tps > 500.0 for x in state.leases))


async def test_three_sites_hear_each_other(sites: Sites) -> None:
    names = ("hohhot", "shanghai", "guizhou")
    found = {name: await sites.start(name) for name in names}
    for site in found.values():
        await site.until(lambda state: len(state.usable(0.0)) == 2)
        await metrics_of(site, lambda text: text.count('health="live"') == 2)


async def test_what_was_sent_is_noted_and_found_after_a_restart(sites: Sites) -> None:
    hohhot = await sites.start("hohhot")
    sent = Sent("e.1", "shanghai", "acme", "m", 1, 2, 10**15, 10**15, "served", 200, 10**6)
    async with hohhot.session.post(hohhot.url + SENT, data=write_sent([sent])) as answer:
        assert answer.status == 401
    headers = dict(sites.settings(hohhot.section, "").secret_headers)
    for new in (1, 0):
        async with hohhot.session.post(
            hohhot.url + SENT, data=write_sent([sent]), headers=headers
        ) as answer:
            assert (await answer.json())["new"] == new
    assert "steppe_sites_requests_noted_total 1.0" in await hohhot.metrics()


async def test_the_door_for_other_sites_shows_no_state(sites: Sites) -> None:
    hohhot, shanghai = await both_live(sites)
    tls = tls_of(shanghai.section, time.time()).client
    url = f"https://127.0.0.1:{sites.ports['hohhot']}"
    for path in (PATH, "/metrics", SENT):
        async with hohhot.session.get(url + path, ssl=tls, server_hostname="hohhot") as answer:
            assert answer.status in (404, 405)
    with pytest.raises(aiohttp.ClientError):
        await hohhot.session.get(url + PATH, ssl=False)


async def test_the_folder_belongs_to_one_service(sites: Sites, monkeypatch: Any) -> None:
    monkeypatch.setattr("steppe.sites.service.service.LOCK_WAIT_S", 0.1)
    await sites.start("hohhot")
    with pytest.raises(UsageError, match=r"sites\.folder: .* is in use by another run"):
        await sites.start("hohhot", port=0)


async def test_a_port_that_is_in_use_is_one_line(sites: Sites) -> None:
    await sites.start("hohhot")
    with pytest.raises(UsageError, match=r"^sites: cannot listen on 127\.0\.0\.1:\d+: [^\n]+$"):
        await sites.start("shanghai", port=sites.ports["hohhot"])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda sites: sites.certify("hohhot", now_s=1000.0),
            "asked for a certificate that is valid",
        ),
        (
            lambda sites: (sites.folder / "hohhot/certificate.pem").write_bytes(
                (sites.folder / "shanghai/certificate.pem").read_bytes()
            ),
            "asked for a certificate of hohhot, found the names shanghai",
        ),
        (
            lambda sites: (sites.folder / "hohhot/certificate.pem").unlink(),
            "sites.certificate: asked for a file, found none",
        ),
        (
            lambda sites: (sites.folder / "hohhot/certificate.pem").write_text("no"),
            "asked for a certificate in PEM, found none",
        ),
    ],
)
async def test_a_wrong_certificate_is_one_line_at_the_start(
    sites: Sites, break_it: Any, message: str
) -> None:
    break_it(sites)
    with pytest.raises(ConfigError) as error:
        await sites.start("hohhot")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


async def test_a_site_of_another_region_than_the_configuration_says_is_not_heard(
    sites: Sites,
) -> None:
    hohhot = await sites.start("hohhot")
    await sites.start("shanghai", region="eu")
    await sites.start("guizhou")
    state = await hohhot.until(lambda state: health(state, "guizhou") is Health.LIVE)
    assert health(state, "shanghai") is Health.UNHEARD


async def test_a_caller_with_too_many_connections_is_refused(sites: Sites) -> None:
    shanghai = await sites.start("shanghai", limits=HttpLimits(connections_per_client=1))
    _, writer = await asyncio.open_connection("127.0.0.1", shanghai.service.port)
    with pytest.raises(aiohttp.ClientError):
        await shanghai.session.get(f"https://127.0.0.1:{shanghai.service.port}")
    found = await shanghai.metrics()
    assert 'steppe_sites_cut_off_total{reason="connections_per_client"} 1.0' in found
    assert "steppe_sites_connections 1.0" in found
    writer.close()


async def test_a_caller_that_does_not_begin_its_handshake_is_cut_off(sites: Sites) -> None:
    shanghai = await sites.start("shanghai", limits=HttpLimits(header_s=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", shanghai.service.port)
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    found = await shanghai.metrics()
    assert 'steppe_sites_cut_off_total{reason="handshake"} 1.0' in found
    assert "steppe_sites_connections 0.0" in found
