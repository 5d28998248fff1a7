"""How two runs compare in the numbers of their summaries."""

from __future__ import annotations

from typing import Any

from steppe.page.quantities import shown_groups

FIRST: dict[str, Any] = {
    "energy_j": 200.0,
    "slo_attainment": 0.25,
    "requests": {"completed": 4, "cancelled": 0},
}
SECOND: dict[str, Any] = {
    "energy_j": 150.0,
    "slo_attainment": 0.5,
    "requests": {"completed": 4, "cancelled": 3},
}


def test_shares_differ_in_points_and_other_numbers_in_percent() -> None:
    found = {
        shown.quantity.path: shown.difference
        for _, group in shown_groups([FIRST, SECOND])
        for shown in group
    }
    assert found["energy_j"] == "-25.0 %"
    assert found["slo_attainment"] == "+25.0 points"
    assert found["requests.completed"] == "none"
    assert found["requests.cancelled"] == "–"
    assert found["requests.shed"] == "–"
