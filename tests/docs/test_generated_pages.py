from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.blocks import ROOT, pages

from generate import generated_pages
from generators.metrics import (
    agent_exposition,
    batch_exposition,
    fleet_exposition,
    gateway_exposition,
    grid_exposition,
    ledger_exposition,
    router_exposition,
    sites_exposition,
)

PAGES = generated_pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == PAGES[path], "stale: run `python docs/generate.py`"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_row_of_a_reference_has_a_meaning(path: Path) -> None:
    rows = [line for line in PAGES[path].splitlines() if line.startswith("| `")]
    assert rows
    empty = [row for row in rows if "|  |" in row]
    assert empty == []


def test_every_configuration_section_has_a_heading() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    for section in ("model", "power.battery", "control.horizon", "frontier.sweep", "device.zeusd"):
        assert f"`{section}`" in text


def test_every_metric_that_a_page_names_exists() -> None:
    text = fleet_exposition() + gateway_exposition() + batch_exposition() + agent_exposition()
    text += ledger_exposition() + grid_exposition() + router_exposition() + sites_exposition()
    known = set(re.findall(r"steppe_[a-z0-9_]+", text))
    named = {
        (path.name, name)
        for path in pages()
        for name in re.findall(r"\bsteppe_[a-z0-9_]+", path.read_text())
        if name != "steppe_kernels"
    }
    assert named
    assert {(page, name) for page, name in named if name not in known} == set()


def test_no_metric_is_exposed_by_two_of_those_behind_one_address() -> None:
    parts = (
        fleet_exposition(),
        gateway_exposition(),
        batch_exposition(),
        ledger_exposition(),
        grid_exposition(),
        router_exposition(),
        sites_exposition(),
    )
    names = [re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) for text in parts]
    assert all(names)
    found = [name for each in names for name in set(each)]
    assert sorted(found) == sorted(set(found))
