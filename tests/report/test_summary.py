from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.fixtures.made_run import MadeRun

from steppe.report.closing import summary_panel
from steppe.report.records import RequestRecord, RunTotals, ShortageTick, Slo
from steppe.report.summary import summarise

DESIGN_KEYS = {
    "duration_s",
    "energy_source",
    "boundary",
    "energy_j",
    "idle_energy_j",
    "transition_energy_j",
    "wasted_energy_j",
    "curtailed_j",
    "prompt_tokens",
    "output_tokens",
    "output_tokens_per_joule",
    "energy_per_output_token",
    "tracking",
    "latency",
    "slo_attainment",
    "stale_s",
    "shortages",
    "request_goodput",
    "requests",
    "lost_lines",
    "gateway_restarts",
    "versions",
}

finishes = st.sampled_from(["stop", "length", "failed", "rejected", "shed", "cancelled"])
ends = st.lists(st.tuples(finishes, st.integers(0, 100), st.integers(0, 100)))


def totals(energy_j: float = 100.0) -> RunTotals:
    return RunTotals(10.0, "counter", "node", energy_j, 1.0, 0.0, 0.1, 0.5, {"steppe": "0"})


def request(finish: str, prompt_tokens: int, output_tokens: int) -> RequestRecord:
    return RequestRecord(
        "r",
        "t",
        "standard",
        0.0,
        1.0,
        2.0,
        0.1,
        prompt_tokens,
        0,
        output_tokens,
        None,
        "counter",
        finish,
        None,
    )


@given(ends)
def test_every_request_and_token_is_counted_once(rows: list[tuple[str, int, int]]) -> None:
    summary = summarise([], [request(*row) for row in rows], totals(), Slo(2.0, 0.2))
    counts = summary["requests"]
    ended = counts["completed"] + counts["failed"] + counts["rejected"]
    assert ended + counts["shed"] + counts["cancelled"] == len(rows)
    assert summary["prompt_tokens"] == sum(row[1] for row in rows)
    assert summary["output_tokens"] == sum(row[2] for row in rows)
    assert summary["output_tokens_per_joule"] == pytest.approx(summary["output_tokens"] / 100)


def test_the_joules_of_a_made_run_add_up(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    charged_j = sum(request.energy_j or 0.0 for request in made_run.requests)
    parts_j = charged_j + summary["idle_energy_j"] + summary["transition_energy_j"]
    assert parts_j == pytest.approx(summary["energy_j"])
    assert summary["energy_j"] == pytest.approx(sum(tick.energy_j for tick in made_run.ticks))
    assert summary["output_tokens"] == sum(tick.output_tokens for tick in made_run.ticks)


@given(st.lists(st.tuples(finishes, st.floats(0, 1e6) | st.none())))
def test_the_energy_of_requests_that_did_not_complete_is_part_of_what_all_were_charged(
    rows: list[tuple[str, float | None]],
) -> None:
    ended = [replace(request(finish, 1, 1), energy_j=energy_j) for finish, energy_j in rows]
    summary = summarise([], ended, totals(), Slo(2.0, 0.2))
    charged_j = {finish: 0.0 for finish, _ in rows}
    for finish, energy_j in rows:
        charged_j[finish] += energy_j or 0.0
    completed_j = charged_j.get("stop", 0.0) + charged_j.get("length", 0.0)
    assert summary["wasted_energy_j"] + completed_j == pytest.approx(sum(charged_j.values()))


def test_a_run_whose_requests_all_complete_wastes_nothing(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    assert summary["wasted_energy_j"] == 0.0


def test_every_agreed_key_is_there(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    assert set(summary) >= DESIGN_KEYS
    assert set(summary["latency"]) == {"ttft_s", "tpot_s", "e2e_s"}
    assert set(summary["latency"]["ttft_s"]) == {"p50", "p95", "p99"}


def test_curtailed_watts_are_summed_over_their_windows(made_run: MadeRun) -> None:
    ticks = tuple(replace(tick, curtailed_w=5.0 * (tick.t_s > 200)) for tick in made_run.ticks)
    summary = summarise(ticks, made_run.requests, made_run.totals, made_run.slo)
    assert summary["curtailed_j"] == 200.0


def test_the_summary_has_the_time_on_the_fallback(made_run: MadeRun) -> None:
    ticks = tuple(replace(tick, stale=tick.t_s > 200) for tick in made_run.ticks)
    summary = summarise(ticks, made_run.requests, made_run.totals, made_run.slo)
    assert summary["stale_s"] == 40.0
    said = io.StringIO()
    Console(file=said, width=80).print(summary_panel(summary, Path("runs/x")))
    assert "a supply was stale for 0:40: the fallback applied" in said.getvalue()


def test_the_summary_has_the_time_and_the_worst_of_each_shortage(
    made_run: MadeRun,
) -> None:
    here, worse = ShortageTick("floor", 90.0, 0.0, None), ShortageTick("floor", 110.0, 0.0, None)
    coming = ShortageTick("demand", 500.0, 30.0, None)
    ticks = tuple(
        replace(tick, shortages=(worse if tick.t_s == 240 else here, coming))
        if tick.t_s > 150
        else tick
        for tick in made_run.ticks
    )
    summary = summarise(ticks, made_run.requests, made_run.totals, made_run.slo)
    assert summary["shortages"] == {"floor": {"time_s": 90.0, "most_w": 110.0}}
    said = io.StringIO()
    Console(file=said, width=80).print(summary_panel(summary, Path("runs/x")))
    assert "budget short of the sleeping fleet for 1:30, up to 110 W" in said.getvalue()
    assert "short of the demand" not in said.getvalue()


def test_the_longest_line_about_a_shortage_fits_the_panel(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    assert summary["shortages"] == {}
    summary["shortages"] = {"demand": {"time_s": 359_999.0, "most_w": 9.99e6}}
    said = io.StringIO()
    Console(file=said, width=80).print(summary_panel(summary, Path("runs/x")))
    line = "budget short of the demand at the SLO for 99:59:59, up to 9.99 MW"
    assert line in said.getvalue()


@pytest.mark.parametrize("restarts", [0, 2])
def test_the_end_of_a_run_says_how_often_the_gateway_died(made_run: MadeRun, restarts: int) -> None:
    whole = replace(made_run.totals, gateway_restarts=restarts)
    summary = summarise(made_run.ticks, made_run.requests, whole, made_run.slo)
    said = io.StringIO()
    Console(file=said, width=80).print(summary_panel(summary, Path("runs/x")))
    assert (
        "gateway restarts: 2; requests outstanding then are in no sum" in said.getvalue()
    ) == bool(restarts)


def test_tokens_per_joule_and_joules_per_token_are_inverse(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    per_joule, per_token_j = summary["output_tokens_per_joule"], summary["energy_per_output_token"]
    assert per_joule is not None
    assert per_token_j is not None
    assert per_joule * per_token_j == pytest.approx(1.0)


def test_a_run_without_tokens_or_joules_has_no_ratio() -> None:
    nothing = replace(totals(), energy_j=0.0)
    summary = summarise([], [], nothing, Slo(2.0, 0.2))
    assert summary["output_tokens_per_joule"] is None
    assert summary["energy_per_output_token"] is None
    assert summary["slo_attainment"] is None
