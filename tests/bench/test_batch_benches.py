"""The jobs and the targets of the benchmarks of batch work."""

from __future__ import annotations

from typing import Any

import batch_headroom
import batch_week
from steppe.report.records import BatchTick


def test_a_night_begins_at_ten_in_the_evening() -> None:
    assert [batch_week._evening(hour) for hour in (0, 6, 22, 23, 24)] == [22, 22, 22, 46, 46]


def test_the_draw_of_other_requests_takes_the_surplus_first() -> None:
    def batch(surplus_w: float) -> float:
        tick = BatchTick(1, 9, 900.0, 3, draw_w=40.0, surplus_w=surplus_w)
        return tick.from_surplus_w(whole_w=100.0)

    assert [batch(surplus_w) for surplus_w in (0.0, 60.0, 80.0, 100.0, 500.0)] == [0, 0, 20, 40, 40]


def test_the_plan_is_held_against_its_targets_and_the_rivals_are_not() -> None:
    rows = [
        {"way": way, "surplus_share": share, "missed": missed}
        for way, share, missed in (("plan, persistence", 0.95, 1), ("run now", 0.1, 0))
    ]
    found = batch_week.targets(rows)
    assert [(target["value"], target["met"]) for target in found] == [(0.95, True), (1, False)]


def test_headroom_is_what_interactive_requests_leave_of_the_budget() -> None:
    alone: dict[str, Any] = {"fleet": "70b", "p99_ttft_s": 1.0, "drawn_share": 0.5}
    beside = alone | {"p99_ttft_s": 1.04, "drawn_share": 0.99}
    change, used = batch_headroom.targets([alone, beside])
    assert (round(change["value"], 6), change["met"]) == (0.04, True)
    assert (round(used["value"], 6), used["met"]) == (0.98, True)
