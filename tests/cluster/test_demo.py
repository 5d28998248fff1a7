"""The live page in a real browser while `steppe demo` runs, beside the record of that run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serving import START_S, Serving, free_port
from tests.page.browser import Tab, open_browser

from steppe.config import shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.page.amounts import number, watts
from steppe.report.records import TickRecord

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

DAY_S, LOOKS = 45, 6
START_MS = 1e3 * START_S
_SHOWN = """() => ({
  t_s: Number(document.body.dataset.tick),
  figures: Object.fromEntries(
    [...document.querySelectorAll("[id^=figure-]")].map((it) => [it.id.slice(7), it.dataset.value])
  ),
  legend: document.querySelector("#legend-power [data-at=budget_w]").textContent,
  replicas: [...document.querySelectorAll("#table-replicas tbody tr")].map(
    (row) => [...row.cells].map((cell) => cell.textContent)
  ),
  pictures: [...document.querySelectorAll(".charts canvas")].map((it) => it.toDataURL()),
})"""
_ANOTHER_TICK = "t_s => Number(document.body.dataset.tick) > t_s"
_FIGURES = (
    "supply_w",
    "budget_w",
    "draw_w",
    "curtailed_w",
    "output_tps",
    "demand_tps",
    "waiting",
    "running",
)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Serving]:
    """The demo as it is shipped, a shorter day on a free port."""
    config = dict(read_mapping(shipped_config("demo.yaml")))
    config["gateway"] = {**config["gateway"], "port": free_port()}
    demo = Serving.start(config, tmp_path, "--duration", str(DAY_S), asked=("demo", "--config"))
    yield demo
    demo.clean()


async def look(tab: Tab) -> list[dict[str, Any]]:
    """Return what the page shows at several ticks."""
    found: list[dict[str, Any]] = []
    for _ in range(LOOKS):
        after_s = found[-1]["t_s"] if found else 0.0
        await tab.page.wait_for_function(_ANOTHER_TICK, arg=after_s, timeout=START_MS)
        found.append(await tab.page.evaluate(_SHOWN))
    return found


async def watch(demo: Serving) -> list[dict[str, Any]]:
    """Look at the page from the load of the models until the gateway has closed."""
    async with open_browser() as browser:
        tab = Tab(await browser.new_page())
        await tab.open(demo.url)
        await tab.page.wait_for_selector("#live[data-phase=running]", timeout=START_MS)
        found = await look(tab)
        assert tab.problems == []  # later ones may be of the end of the demo
        assert await tab.axe() == []
        await tab.page.wait_for_selector("#state:has-text('the gateway closed')", timeout=START_MS)
        return found


def check(shown: dict[str, Any], tick: TickRecord) -> None:
    """Check what the page showed of a tick."""
    figures = {name: float(value) for name, value in shown["figures"].items() if value}
    assert {name: figures[name] for name in _FIGURES} == {
        name: getattr(tick, name) for name in _FIGURES
    }
    awake = [replica for replica in tick.replicas if replica.state == "awake"]
    assert figures["awake"] == len(awake)
    assert figures["batch_limit"] == sum(replica.batch_limit for replica in awake)
    if tick.output_tokens:
        assert figures["joules_per_token"] == tick.energy_j / tick.output_tokens
    assert [(row[0], row[2], row[3], row[4], row[5]) for row in shown["replicas"]] == [
        (
            replica.id,
            replica.state,
            f"{number(replica.clock_mhz)} MHz",
            number(replica.batch_limit),
            watts(replica.draw_w),
        )
        for replica in tick.replicas
    ]


async def test_the_page_of_the_demo_shows_what_its_record_says(demo: Serving) -> None:
    await asyncio.to_thread(demo.wait_for_words, f"live page: {demo.url}")
    assert "serving on" not in demo.log.read_text().partition("live page")[0]
    looks = await watch(demo)
    assert await asyncio.to_thread(demo.process.wait, START_S) == 0, demo.log.read_text()
    ticks = {tick.t_s: tick for tick in demo.ticks()}
    for shown in looks:
        check(shown, ticks[shown["t_s"]])
    charts = zip(looks[0]["pictures"], looks[-1]["pictures"], strict=True)
    assert all(first != last for first, last in charts), "each chart has moved"
    assert all(shown["legend"] for shown in looks)
