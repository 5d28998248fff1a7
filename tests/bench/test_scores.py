from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steppe.report.tracking import PowerTrace


def stepping(after_cut: list[float]) -> PowerTrace:
    """Return draws on a budget of 100 W that falls to 70 W every 20 s for 20 s, W."""
    budget_w = np.tile(np.repeat([100.0, 70.0], 20), 4)
    draw_w = np.tile(np.concatenate([np.full(20, 100.0), after_cut]), 4)
    end_s = np.arange(1, len(budget_w) + 1).astype(np.float64)
    waiting = np.ones(len(budget_w), dtype=bool)
    bound = np.zeros(len(budget_w), dtype=np.bool_)
    return PowerTrace(end_s, np.ones(len(budget_w)), budget_w, draw_w, waiting, bound, bound)


@pytest.mark.parametrize(
    ("after_cut", "enters_s", "outside"),
    [
        ([70.0] * 20, 0.0, 0.0),
        ([90.0, 80.0, *[70.0] * 18], 2.0, 0.0),
        ([70.0, 90.0, *[70.0] * 18], 0.0, 1 / 19),
        ([75.0] * 20, 19.0, 1.0),
    ],
)
def test_a_step_has_settled_when_the_draw_is_in_the_band_and_not_before(
    bench: Any, after_cut: list[float], enters_s: float, outside: float
) -> None:
    cut, rise = bench("settling").settling(stepping(after_cut))
    assert cut["enter_p95_s"] == pytest.approx(enters_s)
    assert cut["windows_outside_after"] == pytest.approx(outside, abs=0.01)
    assert rise["enter_p95_s"] == 0.0


def test_the_time_of_most_steps_is_that_of_a_step_and_none_between_two(bench: Any) -> None:
    trace = stepping([70.0] * 20)
    for late in (20, 21, 22):  # of the four cuts only the first takes three windows
        trace.draw_w[late] = 90.0
    cut, _ = bench("settling").settling(trace)
    assert (cut["settle_p95_s"], cut["enter_p95_s"]) == (3.0, 3.0)


def test_steps_after_which_nothing_waited_are_not_judged(bench: Any) -> None:
    trace = stepping([70.0] * 20)
    assert bench("settling").settling(replace(trace, waiting=np.zeros_like(trace.waiting))) == []


def row(policy: str, tokens: float, **changes: float | None) -> dict[str, Any]:
    rest = {"slo_attainment": 0.9, "output_tokens_per_joule": 2.0, "over_budget_share": 0.0}
    rest |= {"relative_mae": 0.01, "settle_p95_s": 1.0, "request_goodput": 1.0}
    return {"policy": policy, "happening": "windy day", "output_tokens": tokens, **rest, **changes}


def test_tokens_count_beside_the_best_of_those_that_keep_to_the_budget(bench: Any) -> None:
    rows = [
        row("follow_budget", 120.0),
        row("replicas", 100.0),
        row("clocks", 130.0, over_budget_share=0.005),
        row("full_clocks", 200.0, over_budget_share=0.2),
    ]
    (gain,) = [t for t in bench("policy_table").targets(rows) if "baseline" in t["name"]]
    assert gain["value"] == pytest.approx(1.2)
    (beside,) = bench("policy_table").beside_almost(rows)
    assert beside == {
        "happening": "windy day", "best": "clocks", "ratio": pytest.approx(120.0 / (0.995 * 130.0))
    }  # fmt: skip


def test_good_requests_count_beside_the_best_in_tokens_and_the_best_in_good_requests(
    bench: Any,
) -> None:
    rows = [
        row("follow_budget", 120.0, request_goodput=6.0),
        row("replicas", 100.0, request_goodput=5.0),
        row("nameplate", 90.0, request_goodput=8.0),
        row("clocks_and_replicas", 110.0, request_goodput=4.0),
        row("reactive", 200.0, request_goodput=20.0, over_budget_share=0.2),
    ]
    found = bench("policy_table").beside(rows)
    assert [(value["beside"], value["value"]) for value in found] == [
        ("clocks_and_replicas", pytest.approx(1.5)),
        ("nameplate", pytest.approx(0.75)),
        ("replicas", pytest.approx(1.2)),  # tokens, of those with one knob
    ]
    assert all(value["happening"] == "windy day" for value in found)


def test_an_error_that_nobody_knows_is_no_target_and_no_mark(bench: Any) -> None:
    known, unknown = row("clocks", 2.0), row("follow_budget", 1.0, relative_mae=None)
    names = [target["name"] for target in bench("policy_table").targets([unknown])]
    assert "worst relative_mae" not in names
    bench("policy_table").show([{"unused_while_waiting_share": 0.0, **unknown}])
    fleets = [{"simulated": "a fleet"}]
    asked = {"duration_s": 60.0}
    result = {"results": [known, unknown], "fleets": fleets, "arguments": asked}
    figure = bench("policy_figure").draw(result)
    assert sum(len(marks.get_offsets()) for marks in figure.axes[0].collections) == 1


@pytest.mark.parametrize(("attained", "saved"), [(0.9, 0.25), (0.8, 0.0)])
def test_joules_are_saved_beside_the_autoscaler_as_well(
    bench: Any, attained: float, saved: float
) -> None:
    rows = [
        row("save_energy", 1.0, output_tokens_per_joule=4.0, slo_attainment=attained),
        row("full_clocks", 1.0),
        row("reactive", 1.0, output_tokens_per_joule=3.0),
    ]
    name = "no budget, peak 56 %"
    (found,) = bench("policy_table").beside([{**one, "happening": name} for one in rows])
    assert (found["beside"], found["value"]) == ("reactive", pytest.approx(saved))


@pytest.mark.parametrize(("attained", "saved"), [(0.9, 0.5), (0.896, 0.5), (0.8, 0.0)])
def test_joules_are_saved_only_where_users_are_served_as_well(
    bench: Any, attained: float, saved: float
) -> None:
    name = "no budget, peak 56 %"
    rows = [
        row("save_energy", 1.0, output_tokens_per_joule=4.0, slo_attainment=attained),
        row("full_clocks", 1.0),
    ]
    found = bench("policy_table").targets([{**one, "happening": name} for one in rows])
    assert [t["value"] for t in found] == [pytest.approx(saved)]
