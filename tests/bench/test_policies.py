"""Whole runs of the scoreboard, of small fleets."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Return the modules of the benchmarks by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield importlib.import_module


def test_two_processes_find_the_same_rows_in_the_same_order_as_one(bench: Any) -> None:
    policies, scenarios = bench("policies"), bench("scenarios")
    size = policies.Size("8b", 1, 10.0, 0.8)
    makers = (scenarios.forty_steps, scenarios.ample)
    asked = [(make, policy) for make in makers for policy in ("clocks", "follow_budget")]
    one, two = (policies.rows_of(size, asked, jobs) for jobs in (1, 2))
    for row in (*one, *two):
        row.pop("cpu_s")
    assert one == two
    assert [row["policy"] for row in one] == ["clocks", "follow_budget"] * 2
