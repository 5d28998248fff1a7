"""A run with other sites: it shows itself to one, and goes on when its sites service dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fixtures.running_sites import RunningSite, Sites, open_sites
from tests.fixtures.serving import MODEL, Serving

from steppe.report.record_folder import SITES_FOLDER
from steppe.sites.state import SitesState

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SERVICE = "ray::SitesActor"
PERIOD_S = 1.0


def section_of(sites: Sites, name: str) -> dict[str, Any]:
    section = sites.section(name, period_s=PERIOD_S)
    return section.model_dump(mode="json", exclude={"folder"})


def shows_power(state: SitesState) -> bool:
    view = state.usable(0.0).get("hohhot")
    return view is not None and view.headroom_w > 0.0 and view.pools[MODEL].free_tps > 0.0


def seq_of(state: SitesState) -> int:
    """Return the number of the last heartbeat of the run; 0 if it gets no work."""
    view = state.usable(0.0).get("hohhot")
    return 0 if view is None else view.seq


async def check(fleet: Serving, shanghai: RunningSite) -> None:
    """Look at the run from another site, before and after its service is killed."""
    view = (await shanghai.until(shows_power)).usable(0.0)["hohhot"]
    assert len(view.forecast) == 16
    assert 0.0 < view.draw_w < view.budget_w
    assert view.pools[MODEL].points
    last = await shanghai.until(lambda state: seq_of(state) > 5)
    (service,) = before = fleet.pids(SERVICE)
    os.kill(service, signal.SIGKILL)
    # A new service counts from 1, and may be there before the old one counts as lost.
    await shanghai.until(lambda state: seq_of(state) < seq_of(last))
    # In threads: the service of the other site runs on this loop.
    create = fleet.client.completions.create
    await asyncio.to_thread(create, model=MODEL, prompt="The wind", max_tokens=4)
    await asyncio.to_thread(fleet.wait_for_another, SERVICE, before)
    await shanghai.until(shows_power)


async def test_a_run_shows_itself_to_another_site(
    serve: Callable[..., Serving],
    synthetic: dict[str, Any],
    one_gpu: dict[str, Any],
    tmp_path: Path,
) -> None:
    async with open_sites(tmp_path, "hohhot", "shanghai") as sites:
        fleet = serve(sites=section_of(sites, "hohhot"), **synthetic, **one_gpu)
        shanghai = await sites.start("shanghai", period_s=PERIOD_S)
        await asyncio.to_thread(fleet.wait_for_words, "running")
        await check(fleet, shanghai)
        found = httpx.get(fleet.url + "/steppe/v1/sites").json()
        assert found["site"] == "hohhot"
        assert [peer["site"] for peer in found["peers"]] == ["shanghai"]
        assert "steppe_sites_health" in httpx.get(fleet.url + "/metrics").text
        assert fleet.end() == 0
    assert (fleet.record / SITES_FOLDER).is_dir()
