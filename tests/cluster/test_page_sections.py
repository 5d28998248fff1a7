"""All sections of the live page over one run: pools, tenants, a batch job, an event, a site."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.fixtures.running_sites import Sites, open_sites
from tests.fixtures.serving import SOON_S, START_S, Serving
from tests.page.browser import Tab, open_browser

from steppe.report.records import TickRecord
from steppe.tenants.key import make_key

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

LAB, BOSS = make_key("lab", time.time()), make_key("boss", time.time())
TENANTS = [
    {
        "name": name,
        "admin": key is BOSS,
        "keys": [{"prefix": stored.prefix, "sha256": stored.digest}],
    }
    for name, key in (("lab", LAB), ("boss", BOSS))
    for stored in (key.stored,)
]
LIMIT_W, EVENT_W = 90.0, 70.0
ROWS = 2000
"""So many that the job is not done when the page is looked at."""


def all_sections(sites: Sites, folder: Path) -> dict[str, Any]:
    """Return the sections of a configuration that has something for each table of the page."""
    site = sites.section("hohhot", period_s=1.0)
    engine = {"kind": "synthetic", "max_batch_limit": 4}
    return {
        "model": None,
        "models": [
            {"name": "none", "served_name": name, "replicas": 1, "engine": engine}
            for name in ("small", "large")
        ],
        "engine": None,
        "fleet": {},
        "frontier": {},
        "batch": {"folder": str(folder / "batch")},
        "grid": {"site": "here"},
        "tenants": {"list": TENANTS},
        "sites": site.model_dump(mode="json", exclude={"folder"}),
    }


def ask(fleet: Serving, model: str) -> None:
    """Ask as the tenant of the lab."""
    answer = httpx.post(
        fleet.url + "/v1/completions",
        json={"model": model, "prompt": "The wind", "max_tokens": 8, "ignore_eos": True},
        headers={"Authorization": f"Bearer {LAB.text}"},
        timeout=START_S,
    )
    assert answer.is_success, answer.text


def send_job(fleet: Serving) -> None:
    """Send a batch job as the tenant of the lab."""
    body = {"model": "small", "prompt": "The wind", "max_tokens": 64, "ignore_eos": True}
    row = {"method": "POST", "url": "/v1/completions", "body": body}
    rows = [json.dumps({**row, "custom_id": f"id-{n}"}).encode() for n in range(ROWS)]
    with openai.OpenAI(base_url=fleet.url + "/v1", api_key=LAB.text, max_retries=20) as client:
        file = client.files.create(file=("in.jsonl", b"\n".join(rows)), purpose="batch")
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="1h"
        )


def announce(fleet: Serving) -> None:
    """Announce an event of the grid, as its operator."""
    answer = httpx.put(
        fleet.url + "/steppe/v1/grid/events/evening",
        json={"limit_w": EVENT_W, "hold_s": 600.0, "notice_s": 3000.0},
        headers={"Authorization": f"Bearer {BOSS.text}"},
        timeout=SOON_S,
    )
    assert answer.is_success, answer.text


async def enter(tab: Tab, key: str) -> None:
    await tab.page.wait_for_selector("#key")
    await tab.page.fill("#key", key)
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("#live[data-phase=running]", timeout=1e3 * START_S)


async def has_row(tab: Tab, table: str, *words: str) -> list[str]:
    """Wait for a row with these words; return its cells."""
    row = tab.page.locator(f"#table-{table} tbody tr")
    for word in words:
        row = row.filter(has_text=word)
    await row.first.wait_for()
    return await row.first.locator("td").all_inner_texts()


async def check_sections(tab: Tab) -> None:
    """Check that each table has its rows."""
    await has_row(tab, "models", "small", "awake")
    await has_row(tab, "models", "large", "awake")
    await has_row(tab, "replicas", "small")
    await has_row(tab, "tenants", "lab")
    await has_row(tab, "batch", "lab/")
    await has_row(tab, "grid", "evening", f"{EVENT_W:g} W")
    here = await has_row(tab, "sites", "hohhot", "here")
    assert here[3].endswith(" W")
    await has_row(tab, "sites", "shanghai", "live")
    await tab.page.wait_for_selector("#map text:text-is('shanghai')")


async def set_limit(tab: Tab) -> None:
    """Limit the site in the form of the page."""
    await tab.page.wait_for_selector("#admin")
    await tab.page.fill("#budget-watts", f"{LIMIT_W:g}")
    await tab.page.click("#budget-form [type=submit]")
    question = await tab.text("#confirm-text")
    assert question == f"Let the site draw at most {LIMIT_W:g} W from now on?"
    await tab.page.click("#confirm-yes")
    await tab.page.wait_for_selector("#admin-answer:text-is('done')")
    await tab.page.wait_for_selector(f'#figure-budget_w[data-value="{LIMIT_W:g}"]')


async def look(fleet: Serving) -> None:
    """Look at the page as a tenant and as an admin."""
    async with open_browser() as browser:
        tenant = Tab(await browser.new_page())
        await tenant.open(fleet.url)
        await enter(tenant, LAB.text)
        await has_row(tenant, "tenants", "lab")
        assert not await tenant.page.is_visible("#admin")
        assert await tenant.axe() == []
        admin = Tab(await browser.new_page(viewport={"width": 360, "height": 740}))
        await admin.open(fleet.url)
        await enter(admin, BOSS.text)
        await check_sections(admin)
        assert await admin.axe() == []
        assert await admin.width() <= 360
        await set_limit(admin)
        assert tenant.problems + admin.problems == []


def is_limited(tick: TickRecord) -> bool:
    return tick.budget_source == "http/limit" and tick.budget_w == LIMIT_W


async def test_each_section_shows_the_run_and_an_admin_limits_it_from_the_page(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    async with open_sites(tmp_path, "hohhot", "shanghai") as sites:
        fleet = serve(**all_sections(sites, tmp_path))
        await sites.start("shanghai", period_s=1.0)
        await asyncio.to_thread(fleet.wait_for_words, "running")
        for model in ("small", "large"):
            await asyncio.to_thread(ask, fleet, model)
        await asyncio.to_thread(send_job, fleet)
        await asyncio.to_thread(announce, fleet)
        await look(fleet)
        await asyncio.to_thread(fleet.wait_for_tick, is_limited, "the limit in the record")
        assert await asyncio.to_thread(fleet.end) == 0
