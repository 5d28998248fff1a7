"""The traffics of the scoreboard: capacity, targets, and the time to recover from a change."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from steppe.report.records import RequestRecord, Slo

SLO = Slo(2.0, 0.1)


def row(policy: str, happening: str = "windy day", **changes: float | None) -> dict[str, Any]:
    return {
        "traffic": "summaries",
        "happening": happening,
        "policy": policy,
        "request_goodput": 10.0,
        "slo_attainment": 1.0,
        "energy_j": 100.0,
        "over_budget_share": 0.0,
        "relative_mae": 0.01,
    } | changes


def request(arrival_s: float, ttft_s: float) -> RequestRecord:
    return RequestRecord(
        *("r", "default", "standard", arrival_s, ttft_s, ttft_s + 1.0, 0.05, 10, 0, 21),
        *(1.0, "modelled", "length", "replica-1"),
    )


def size_of(bench: Any, duration_s: float, replicas: int = 1) -> Any:
    return bench("bench_fleets").Size("70b", replicas, duration_s)


@pytest.mark.slow
@pytest.mark.parametrize("traffic", ["conversation", "summaries", "half_and_half", "embeddings"])
def test_the_capacity_of_a_traffic_is_what_a_saturated_replica_serves(
    bench: Any, traffic: Any
) -> None:
    fleets, policies = bench("traffic_fleets"), bench("policies")
    made = bench("bench_fleets").make_bench(size_of(bench, 120.0))
    capacity = fleets.capacity_of(made, traffic)
    load = {"traffic": traffic, "rate_rps": 2.5 * capacity.rate_rps, "daily_depth": 0.0}
    loaded = fleets._loaded(made, load)
    happening = fleets.happening_of(made, traffic, fleets.ample)
    summary, ticks = policies.run(loaded, "full_clocks", happening)
    settled = [tick for tick in ticks if tick.t_s > 60]
    output_tps = sum(tick.output_tps for tick in settled) / len(settled)
    mean_tokens = fleets.mean_of(made, traffic).output_tokens
    assert output_tps / mean_tokens == pytest.approx(capacity.rate_rps, rel=0.08)
    draw_w = sum(tick.draw_w for tick in settled) / len(settled)
    assert draw_w == pytest.approx(capacity.draw_w, rel=0.05)
    assert summary["requests"]["completed"] > 0


def test_the_load_is_a_share_of_the_capacity_of_its_traffic(bench: Any) -> None:
    fleets = bench("traffic_fleets")
    made = bench("bench_fleets").make_bench(size_of(bench, 100.0))
    for make, share in ((fleets.ample, 0.55), (fleets.scenarios.forty_steps, 0.8)):
        loaded = fleets.under(made, "embeddings", make)
        rate_rps = len(loaded.arrivals) / 100.0
        assert rate_rps == pytest.approx(
            share * fleets.capacity_of(made, "embeddings").rate_rps, rel=0.1
        )
        assert loaded.frontier == made.frontier


@pytest.mark.slow
def test_two_processes_find_the_same_rows_as_one(bench: Any) -> None:
    traffic, fleets = bench("traffic"), bench("traffic_fleets")
    size = size_of(bench, 10.0)
    asked = [(name, fleets.ample, "full_clocks") for name in ("summaries", "embeddings")]
    one, two = (traffic.rows_of(partial(traffic.row_of, size), asked, jobs) for jobs in (1, 2))
    assert one == two
    assert [found["traffic"] for found in one] == ["summaries", "embeddings"]
    assert [found["load_share"] for found in one] == [0.55, 0.55]


def test_an_ample_cell_is_held_against_full_clocks(bench: Any) -> None:
    table = bench("traffic_table")
    rows = [
        row("full_clocks", "ample"),
        row("follow_budget", "ample", slo_attainment=0.95),
        row("save_energy", "ample", slo_attainment=0.99, energy_j=70.0),
    ]
    (cell,) = table.cells_of(rows)
    found = {target["name"]: target for target in cell.targets()}
    lost, saved = (
        found["SLO attainment lost to full clocks"],
        found["joules saved over full clocks"],
    )
    assert (lost["value"], lost["met"]) == (pytest.approx(0.05), False)
    assert (saved["value"], saved["met"]) == (pytest.approx(0.3), True)


def test_nothing_is_saved_where_the_slo_is_lost(bench: Any) -> None:
    rows = [
        row("full_clocks", "ample"),
        row("save_energy", "ample", slo_attainment=0.5, energy_j=40.0),
    ]
    (cell,) = bench("traffic_table").cells_of(rows)
    assert cell.saved == 0.0


def test_the_best_rival_keeps_to_the_budget(bench: Any) -> None:
    rows = [
        row("full_clocks", request_goodput=30.0, over_budget_share=0.3),
        row("follow_budget", request_goodput=9.0),
        row("save_energy", request_goodput=20.0),
        row("clocks", request_goodput=15.0, over_budget_share=0.002),
        row("replicas", request_goodput=10.0),
        row("nameplate", request_goodput=8.0),
    ]
    (cell,) = bench("traffic_table").cells_of(rows)
    assert cell.best_rival is not None
    assert cell.best_rival["policy"] == "replicas"
    assert cell.good_over(cell.best_rival) == pytest.approx(0.9)


def test_the_worst_cell_of_each_target_is_named_and_all_that_fall_short(bench: Any) -> None:
    table = bench("traffic_table")
    rows = [
        row("replicas"),
        row("follow_budget", request_goodput=8.0),
        row("replicas", "40 steps of 30 %"),
        row("follow_budget", "40 steps of 30 %", request_goodput=5.0, over_budget_share=0.01),
    ]
    cells = table.cells_of(rows)
    worst = {target["name"]: (target["value"], target["cell"]) for target in table.targets(cells)}
    steps = "summaries, 40 steps of 30 %"
    assert worst["good requests/s over the best rival"] == (pytest.approx(0.5), steps)
    assert worst["energy above the budget"] == (pytest.approx(0.01), steps)
    short = [(found["happening"], found["name"]) for found in table.short_of_target(cells)]
    assert short == [
        ("windy day", "good requests/s over the best rival"),
        ("40 steps of 30 %", "good requests/s over the best rival"),
        ("40 steps of 30 %", "energy above the budget"),
    ]


def test_attainment_is_that_of_the_requests_that_arrive_in_a_window(bench: Any) -> None:
    requests = [request(1.0, 0.5), request(2.0, 3.0), request(25.0, 0.5)]
    found = bench("traffic_switch").attainment_by_window(requests, SLO, 30.0)
    assert found == [0.5, None, 1.0]


@pytest.mark.parametrize(
    ("windows", "recovered_s"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0.0),
        ([0.2, 1.0, 1.0, 1.0], 0.0),
        ([1.0, 1.0, 0.5, 1.0], 10.0),
        ([1.0, 1.0, 0.5, 1.0, 0.9, 1.0], 30.0),
        ([1.0, 1.0, 0.5, 0.94], None),
        ([1.0, 1.0, 1.0, 0.5, None], None),
        ([1.0, 0.5, 1.0, 1.0], 0.0),
    ],
)
def test_a_policy_has_recovered_once_every_later_window_is_good(
    bench: Any, windows: list[float | None], recovered_s: float | None
) -> None:
    assert bench("traffic_switch").recovery_s(windows, 20.0) == recovered_s


@pytest.mark.slow
def test_full_clocks_serve_a_changed_traffic_well_at_once(bench: Any) -> None:
    switch = bench("traffic_switch")
    made = bench("bench_fleets").make_bench(size_of(bench, 80.0, replicas=1))
    found = switch.switch_row(made, "full_clocks")
    assert found["recovered_s"] == 0.0
    assert found["slo_attainment"] > 0.98


def test_a_policy_that_does_not_recover_misses_its_target(bench: Any) -> None:
    rows = [
        {"policy": "follow_budget", "at_s": 300.0, "recovered_s": None},
        {"policy": "save_energy", "at_s": 300.0, "recovered_s": 40.0},
        {"policy": "full_clocks", "at_s": 300.0, "recovered_s": 0.0},
    ]
    found = bench("traffic_switch").targets(rows)
    assert [(target["value"], target["met"]) for target in found] == [(300.0, False), (40.0, True)]


def test_the_figure_shows_cells_without_a_rival_or_a_policy(bench: Any) -> None:
    rows = [
        row("full_clocks", "ample"),
        row("save_energy", "ample", energy_j=60.0),
        row("follow_budget"),
        row("replicas", over_budget_share=0.5),
    ]
    fleets = [{"simulated": "a fleet"}]
    document = {"results": rows, "fleets": fleets, "arguments": {"duration_s": 60.0}}
    figure = bench("traffic_figure").draw(document)
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown == ["0.0%", "40%", "none", "1.00", "none"]
