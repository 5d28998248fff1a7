"""Whole runs of the scoreboard, of small fleets."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any


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


def test_a_result_says_which_fleets_it_is_of_for_how_long_and_how_it_was_asked(bench: Any) -> None:
    policies, document = bench("policies"), bench("document")
    fleets = [
        document.fleet_of(policies.make_bench(name, 1, 10.0, 0.8)) for name in ("70b", "70b-steady")
    ]
    asked = Namespace(fleet=["70b", "70b-steady"], duration=10.0, figure=Path("figure.png"))
    found = document.simulated("settling", fleets, asked, [], [])
    assert [fleet["fleet"] for fleet in found["fleets"]] == ["70b", "70b-steady"]
    assert all((f["duration_s"], f["utilisation"]) == (10.0, 0.8) for f in found["fleets"])
    assert fleets[0]["simulated"] != fleets[1]["simulated"]
    assert found["arguments"] == {"fleet": ["70b", "70b-steady"], "duration": 10.0}
