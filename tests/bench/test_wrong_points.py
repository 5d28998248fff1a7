"""The bench of wrong operating points, on a small fleet."""

from __future__ import annotations

import pytest

import wrong_points
from bench_fleets import Size


@pytest.mark.slow
def test_points_of_wrong_watts_and_speed_are_learned() -> None:
    row = wrong_points.row_of(
        Size("70b", 2, 60.0, assumed_share=0.6, assumed_speed=1.6), with_costs=True
    )
    assert 0 < row["learned_s"] < 60.0
    right = wrong_points.row_of(Size("70b", 2, 60.0), with_costs=True)
    assert right["learned_s"] < row["learned_s"]
    assert max(right["over_budget_share"], row["over_budget_share"]) <= 0.005


@pytest.mark.slow
def test_points_without_costs_are_corrected_by_the_measured_draw() -> None:
    row = wrong_points.row_of(Size("70b", 4, 200.0, assumed_share=0.5), with_costs=False)
    assert row["learned_s"] is None
    assert row["settled_over_fraction"] < 0.1


def test_the_targets_are_those_of_the_worst_row() -> None:
    rows = [
        {"learned_s": 7.0, "over_budget_share": 0.001, "settled_over_fraction": 0.2},
        {"learned_s": 121.0, "over_budget_share": 0.0, "settled_over_fraction": 0.05},
    ]
    assert [target["met"] for target in wrong_points.targets(rows)] == [False, False, True]
