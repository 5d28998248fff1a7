"""The page of a record in a real browser: from a folder, and from a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.made_record import write_record
from tests.page.conftest import OpenTab

from steppe.run.record_page.files import page_of, write_page
from steppe.run.record_page.server import page_server, url_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


Serve = Callable[[Sequence[Path]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the page of records until the end of the test; returns its address."""
    with ExitStack() as stack:

        def serve_one(records: Sequence[Path]) -> str:
            server = stack.enter_context(page_server(page_of(records), 0))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return url_of(server)

        yield serve_one


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return write_record(tmp_path / "monday")


async def test_a_folder_opens_without_a_server_and_shows_the_record(
    record: Path, tmp_path: Path, open_tab: OpenTab
) -> None:
    tab = await open_tab(write_page([record], tmp_path / "page").as_uri())
    summary = json.loads((record / "summary.json").read_text())
    assert await tab.value("energy_j") == summary["energy_j"]
    assert await tab.value("tracking-over_budget_j") == summary["tracking"]["over_budget_j"]
    lines = (record / "record.jsonl").read_text().splitlines()
    await tab.page.click("details[data-of=power] summary")
    newest = (await tab.rows("#numbers-power"))[0]
    assert newest[0] == "00:04:00"
    assert newest[4] == f"{json.loads(lines[-1])['draw_w']:.1f}".removesuffix(".0")
    assert await tab.axe() == []
    assert tab.problems == []


@pytest.mark.parametrize("look", [{"width": 1280, "dark": True}, {"width": 360}])
async def test_two_runs_from_a_server_are_accessible_and_fit(
    record: Path, tmp_path: Path, serve: Serve, open_tab: OpenTab, look: dict[str, Any]
) -> None:
    other = write_record(tmp_path / "tuesday", seed=7)
    tab = await open_tab(serve([record, other]), **look)
    names = await tab.page.locator("#table-compare thead th").all_inner_texts()
    assert names == ["Quantity", "monday", "tuesday", "Difference"]
    legend = await tab.text("#legend-power")
    assert "monday: Draw" in legend
    assert "tuesday: Draw" in legend
    assert await tab.axe() == []
    assert await tab.width() <= look["width"]
    assert tab.problems == []
