from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device import inventory
from steppe.device.inventory import (
    gpus_table,
    has_admin_capability,
    measure_periods,
    render,
    to_json,
)
from steppe.device.nvml import open_gpus


@pytest.fixture
def rows(node: EmulatedNode, monkeypatch: pytest.MonkeyPatch) -> tuple[inventory.GpuRow, ...]:
    measured = {open_gpus()[0].uuid: 0.1}
    monkeypatch.setattr(inventory, "measure_periods", lambda _: measured)
    return gpus_table(open_gpus())


def test_the_counter_period_is_measured(node: EmulatedNode) -> None:
    periods_s = measure_periods(open_gpus(), 1.2, lambda: node.now_s, node.wait)
    assert len(periods_s) == 2, "the P40 has no counter"
    assert list(periods_s.values()) == pytest.approx([0.1, 0.1], rel=0.02)


def test_each_gpu_has_a_row_with_its_knobs_and_meter(rows: Any) -> None:
    assert [row.meter for row in rows] == ["emulated", "emulated", "emulated"]
    assert rows[0].clock_range_mhz == (210, 1980)
    assert rows[0].power_limit_range_w == (200, 700)
    assert rows[2].clock_range_mhz is None
    assert rows[0].held == "no agent"


def test_the_rows_are_json(rows: Any) -> None:
    again = json.loads(json.dumps(to_json(rows)))
    assert [row["uuid"] for row in again] == [row.uuid for row in rows]


def test_the_table_names_every_gpu_and_its_meter(rows: Any) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(render(rows))
    assert text.getvalue().count("NVIDIA H100") == 2
    assert "emulated, every 100 ms" in text.getvalue()


@pytest.mark.parametrize(
    ("mask", "may"), [("000001ffffffffff", True), ("0000000000000000", False), ("200000", True)]
)
def test_the_capability_is_read_from_the_kernel(tmp_path: Path, mask: str, may: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{mask}\n")
    assert has_admin_capability(status) is may
