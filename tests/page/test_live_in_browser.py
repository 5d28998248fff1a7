"""The live page in a real browser, over a gateway with made-up ticks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.page.browser import Tab
from tests.page.conftest import OpenGateway, OpenTab
from tests.page.ticks import fleet_state, sent

from steppe.config import RunConfig, parse_config
from steppe.config.change import changed_config
from steppe.gateway.access import AccessSettings
from steppe.gateway.server import ChangeResult, DriverNews, Gateway
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

KEY, ADMIN_KEY = make_key("a", 0.0), make_key("boss", 0.0)
ACCESS = AccessSettings(
    KnownTenants((Tenant("a"), Tenant("boss", is_admin=True)), (KEY.stored, ADMIN_KEY.stored))
)


@pytest.fixture
def config() -> RunConfig:
    values: Mapping[str, Any] = {
        "model": {"name": "m"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
    }
    return parse_config(values, "test", Path("/runs"))


async def see(tab: Tab, draw_w: float) -> None:
    """Wait until the page shows a draw."""
    await tab.page.wait_for_selector(f'#figure-draw_w[data-value="{draw_w:g}"]')


async def status_of(url: str) -> Any:
    async with aiohttp.ClientSession() as client, client.get(url + "/steppe/v1/status") as answer:
        return await answer.json()


async def carry_out(gateway: Gateway, config: RunConfig) -> RunConfig:
    """Carry out the next change, as the driver does; return the configuration with it."""
    while not (asked := gateway.tell(DriverNews()).changes):
        await asyncio.sleep(0.01)
    (change,) = asked
    changed = changed_config(config, change.section, change.values)
    result = ChangeResult(change.id, t_s=1.0)
    gateway.tell(DriverNews(results=(result,), config=(changed, 1)))
    return changed


async def test_the_page_shows_the_values_of_the_status_and_follows_them(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    for second in range(1, 100):
        gateway.set_fleet_state(sent(float(second)))
    tab = await open_tab(url)
    await see(tab, 414.25)
    gateway.set_fleet_state(sent(100.0, draw_w=387.5, headroom_w=112.5))
    await see(tab, 387.5)
    status = await status_of(url)
    for name in ("supply_w", "budget_w", "draw_w", "headroom_w", "curtailed_w"):
        assert await tab.value(name) == status["power"][name]
    for name in ("output_tps", "demand_tps", "waiting", "running"):
        assert await tab.value(name) == status["tick"][name]
    assert await tab.text("#figure-draw_w") == "387.5 W"
    assert await tab.text("#figure-awake") == "2 of 3"
    assert await tab.value("run_tokens") == 100 * 800
    rows = await tab.rows("#table-replicas")
    assert [row[0] for row in rows] == [each["replica"] for each in status["plan"]]
    assert tab.problems == []


async def test_a_fleet_that_starts_is_no_page_of_dashes(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    tab = await open_tab(url)
    await tab.page.wait_for_selector("#starting:has-text('The fleet is starting')")
    assert not await tab.page.is_visible("#figure-draw_w")
    assert await tab.axe() == []
    gateway.set_fleet_state(sent(1.0, battery=None))
    await see(tab, 414.25)
    assert not await tab.page.is_visible("#starting")
    assert not await tab.page.is_visible("#figure-battery")
    drawn = await tab.page.eval_on_selector("#chart-power canvas", "it => it.clientHeight")
    assert drawn > 200
    assert tab.problems == []


async def test_charts_move_and_have_their_values_in_a_table(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    for second in range(1, 30):
        gateway.set_fleet_state(sent(float(second)))
    tab = await open_tab(url)
    await see(tab, 414.25)
    await tab.page.click("details[data-of=power] summary")
    await tab.page.wait_for_selector("#numbers-power tbody tr")
    before = await tab.rows("#numbers-power")
    gateway.set_fleet_state(sent(31.0, draw_w=200.0))
    await see(tab, 200.0)
    await tab.page.wait_for_selector('#numbers-power tr:first-child td:last-child:text-is("200")')
    after = await tab.rows("#numbers-power")
    assert len(after) == len(before) + 1
    assert after[0][1:] == ["612.5", "500", "200", "200"]
    assert (await tab.text("#legend-power [data-at=draw_w]")) == "200"
    await tab.page.check("input[value=run]")
    await tab.page.wait_for_selector("#numbers-power tbody tr:nth-child(30)")
    assert len(await tab.rows("#numbers-power")) == 30
    assert tab.problems == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)])
async def test_the_page_is_accessible_and_fits_a_phone(
    open_gateway: OpenGateway, open_tab: OpenTab, width: int, dark: bool
) -> None:
    gateway, url = await open_gateway()
    for second in range(1, 30):
        gateway.set_fleet_state(sent(float(second)))
    tab = await open_tab(url, width=width, dark=dark)
    await see(tab, 414.25)
    await tab.page.click("details[data-of=tokens] summary")
    assert await tab.axe() == []
    assert await tab.width() <= width
    assert tab.problems == []


async def test_what_the_joules_are_stands_beside_every_watt(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await see(tab, 414.25)
    labels = await tab.page.locator("dt", has_text="emulated").all_inner_texts()
    for name in ("Supply", "Budget", "Draw", "Headroom", "Curtailed", "Energy", "Energy per token"):
        assert any(label.startswith(name) for label in labels), name
    for heading in ("chart-title-power", "title-models", "title-replicas", "title-shortages"):
        assert "emulated" in await tab.text(f"#{heading}"), heading
    assert "emulated" in await tab.text("footer")


async def test_text_from_outside_is_never_markup(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    state = fleet_state(1.0)
    evil = "<img src=x onerror=alert(1)><b>bold</b>"
    state["plan"][0]["replica"] = evil
    state["sources"][0]["name"] = evil
    state["power"]["budget_source"] = evil
    gateway.set_fleet_state(json.dumps(state).encode())
    tab = await open_tab(url)
    await see(tab, 414.25)
    assert (await tab.rows("#table-replicas"))[0][0] == evil
    assert await tab.text("#note-budget_w") == f"set by {evil}"
    assert await tab.page.locator("main img, main b").count() == 0
    assert tab.problems == []


async def test_a_keyboard_reaches_the_content_and_the_colours(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await see(tab, 414.25)
    await tab.page.keyboard.press("Tab")
    assert await tab.page.evaluate("document.activeElement.className") == "skip"
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("#main:focus")
    await tab.page.focus("#theme")
    await tab.page.keyboard.press("Enter")
    await tab.page.keyboard.press("Enter")
    assert await tab.text("#theme") == "Colours: dark"
    assert await tab.page.get_attribute("html", "data-theme") == "dark"
    assert await tab.axe() == []
    await tab.page.reload()
    assert await tab.page.get_attribute("html", "data-theme") == "dark"


async def test_a_viewer_enters_a_key_and_sees_no_form(
    open_gateway: OpenGateway, open_tab: OpenTab, config: RunConfig
) -> None:
    gateway, url = await open_gateway(access=ACCESS, config=config)
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await tab.page.wait_for_selector("#key:focus")
    assert await tab.axe() == []
    assert not await tab.page.is_visible("#live")
    await tab.page.fill("#key", "sk-wrong")
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("#door-problem:text('key')")
    await tab.page.wait_for_selector("#door-problem:not(:text('This gateway needs a key.'))")
    await tab.page.fill("#key", KEY.text)
    await tab.page.keyboard.press("Enter")
    await see(tab, 414.25)
    assert not await tab.page.is_visible("#admin")
    assert KEY.text not in tab.page.url
    assert await tab.page.context.cookies() == []
    await tab.page.reload()
    await see(tab, 414.25)
    await tab.page.click("#forget-key")
    await tab.page.wait_for_selector("#key:focus")
    assert tab.problems == []


async def test_an_admin_changes_the_policy_after_a_question(
    open_gateway: OpenGateway, open_tab: OpenTab, config: RunConfig
) -> None:
    gateway, url = await open_gateway(access=ACCESS, config=config)
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await tab.page.fill("#key", ADMIN_KEY.text)
    await tab.page.keyboard.press("Enter")
    await see(tab, 414.25)
    await tab.page.wait_for_selector("#admin")
    assert await tab.axe() == []
    await tab.page.select_option("#policy", "save_energy")
    await tab.page.click("#policy-form button")
    question = await tab.text("#confirm-text")
    assert question == "Follow the policy save_energy in place of follow_budget?"
    await tab.page.keyboard.press("Escape")
    assert gateway.tell(DriverNews()).changes == ()
    await tab.page.click("#policy-form button")
    assert await tab.axe() == []
    driver = asyncio.create_task(carry_out(gateway, config))
    await tab.page.click("#confirm-yes")
    changed = await asyncio.wait_for(driver, 30.0)
    assert changed.control.policy == "save_energy"
    await tab.page.wait_for_selector("#admin-answer:text-is('done')")
    assert tab.problems == []


async def test_an_admin_limits_a_site_without_a_grid(
    open_gateway: OpenGateway, open_tab: OpenTab, config: RunConfig
) -> None:
    gateway, url = await open_gateway(config=config)
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await tab.page.wait_for_selector("#admin")
    for watts, expected in (("300", [300.0]), ("250", [250.0]), ("", [])):
        driver = asyncio.create_task(carry_out(gateway, config))
        if watts:
            await tab.page.fill("#budget-watts", watts)
            await tab.page.click("#budget-form [type=submit]")
        else:
            await tab.page.click("#budget-lift")
        question = await tab.text("#confirm-text")
        assert ("This replaces the limit of" in question) == (watts != "300")
        await tab.page.click("#confirm-yes")
        config = await asyncio.wait_for(driver, 30.0)
        assert [getattr(each, "watts", None) for each in config.power.limits] == expected
        await tab.page.wait_for_selector("#admin-answer:text-is('done')")
    assert tab.problems == []


async def test_a_page_says_when_its_gateway_is_gone_and_comes_back(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    gateway.set_fleet_state(sent(1.0))
    tab = await open_tab(url)
    await see(tab, 414.25)
    await gateway.stop()
    await tab.page.wait_for_selector("#state:has-text('the gateway closed at')")
    assert await tab.text("#figure-draw_w") == "414.2 W"
    assert await tab.axe() == []
    again, _ = await open_gateway(port=int(url.rpartition(":")[2]))
    again.set_fleet_state(sent(2.0, draw_w=100.0))
    await see(tab, 100.0)


class Way:
    """A way to a gateway that can be cut, at a port of its own."""

    def __init__(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])
        self.url, self._ends = "", list[asyncio.StreamWriter]()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self._server = await asyncio.start_server(self._join, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._ends += [writer, far_writer]
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while some := await reader.read(1 << 16):
            writer.write(some)
            await writer.drain()
    writer.close()


async def test_a_page_without_a_way_to_its_gateway_says_so_and_misses_no_tick(
    open_gateway: OpenGateway, open_tab: OpenTab
) -> None:
    gateway, url = await open_gateway()
    gateway.set_fleet_state(sent(1.0))
    way = Way(url)
    await way.open()
    tab = await open_tab(way.url)
    await see(tab, 414.25)
    way.cut()
    await tab.page.wait_for_selector("#state:text-is('the gateway does not answer')")
    gateway.set_fleet_state(sent(2.0, draw_w=300.0))
    gateway.set_fleet_state(sent(3.0, draw_w=200.0))
    await way.open()
    await see(tab, 200.0)
    assert await tab.page.get_attribute("body", "data-stale") is None
    await tab.page.click("details[data-of=power] summary")
    await tab.page.wait_for_selector('#numbers-power tr:first-child td:last-child:text-is("200")')
    assert [row[-1] for row in await tab.rows("#numbers-power")] == ["200", "300", "414.3"]
    way.cut()
