"""The live page over a real run, in a real browser, beside the record of that run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fixtures.serving import SOON_S, Load, Serving, wait_until
from tests.page.browser import Tab, open_browser

from steppe.run.record_page.files import page_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

_VALUES = """() => Object.fromEntries(
  [...document.querySelectorAll("[id^=figure-]")].map((it) => [it.id.slice(7), it.dataset.value])
)"""
_SHOWN = ("supply_w", "budget_w", "draw_w", "output_tps", "demand_tps", "waiting", "running")


def views(url: str, number: int) -> list[dict[str, Any]]:
    """Return so many events of the stream."""
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", url + "/steppe/v1/live", timeout=SOON_S) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line[5:]))
            if len(found) == number:
                break
    return found


async def watch(url: str) -> dict[str, str]:
    """Open the page, wait for a draw, and return all figures that it shows."""
    async with open_browser() as browser:
        tab = Tab(await browser.new_page())
        await tab.open(url)
        await tab.page.wait_for_selector(
            '#figure-draw_w:not([data-value=""])', timeout=1e3 * SOON_S
        )
        found: dict[str, str] = await tab.page.evaluate(_VALUES)
        assert tab.problems == []
        return found


async def test_what_the_page_shows_is_in_the_record(
    serve: Callable[..., Serving], synthetic: dict[str, Any], tmp_path: Path
) -> None:
    fleet = serve(**synthetic)
    fleet.wait_for_words("running")
    with Load(fleet, 4) as load:
        load.wait_for(4)
        seen = views(fleet.url, 6)
        in_browser = await watch(fleet.url)
        load.wait_for(4)
    last_s = max(view["t_s"] for view in seen)
    wait_until(lambda: fleet.last_tick().t_s > last_s + 1.0, "the ticks in the record")
    assert fleet.end() == 0
    ticks = {tick.t_s: tick for tick in fleet.ticks()}
    for view in seen:
        tick = ticks[view["t_s"]]
        for name in _SHOWN:
            assert view["figures"][name]["value"] == getattr(tick, name), name
        awake = [replica for replica in tick.replicas if replica.state == "awake"]
        assert view["figures"]["awake"]["value"] == len(awake)
        assert view["source"] == "emulated"
    shown = {name: float(in_browser[name]) for name in _SHOWN}
    assert shown in [{name: getattr(tick, name) for name in _SHOWN} for tick in ticks.values()]
    summary = json.loads((fleet.record / "summary.json").read_text())
    page = page_of([fleet.record])["index.html"].decode()
    assert f'id="figure-energy_j" data-value="{summary["energy_j"]}"' in page
