"""The bench of wrong operating points, on a small fleet."""

from __future__ import annotations

import wrong_points
from bench_fleets import Size


def test_points_of_wrong_watts_and_speed_are_learned() -> None:
    row = wrong_points.row_of(Size("70b", 2, 60.0, assumed_share=0.6, assumed_speed=1.6))
    assert 0 < row["learned_s"] < 60.0
    right = wrong_points.row_of(Size("70b", 2, 60.0))
    assert right["learned_s"] < row["learned_s"]
    assert right["over_budget_share"] <= row["over_budget_share"]


def test_the_targets_are_those_of_the_worst_row() -> None:
    rows = [
        {"learned_s": 7.0, "over_budget_share": 0.001},
        {"learned_s": 121.0, "over_budget_share": 0.0},
    ]
    assert [target["met"] for target in wrong_points.targets(rows)] == [False, True]
