from __future__ import annotations

import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from tests.fixtures.made_run import MadeRun, make_run

from steppe.power.battery import Charge
from steppe.report.closing import summary_panel
from steppe.report.live import (
    RunSoFar,
    json_line,
    live_view,
    plain_end,
    plain_head,
    plain_line,
    trend,
)
from steppe.report.records import GpuEvent, ShortageTick, TickRecord
from steppe.report.summary import summarise


def shown(content: RenderableType) -> str:
    console = Console(width=80, height=24, file=io.StringIO(), record=True)
    console.print(content)
    return console.export_text()


def so_far(run: MadeRun, ticks: int) -> RunSoFar:
    so_far = RunSoFar(run.totals.duration_s, "emulated", "gpu")
    for tick in run.ticks[:ticks]:
        so_far = so_far.after_tick(tick)
    return so_far


def test_the_view_fits_a_terminal_of_80_by_24() -> None:
    for replicas in (1, 2, 8, 40):
        run = make_run(20, replicas)
        text = shown(live_view(run.ticks[-1], run.ticks, so_far(run, 20)))
        assert len(text.splitlines()) <= 24
        assert max(len(line) for line in text.splitlines()) <= 80
        assert "…" not in text


def test_the_view_says_where_the_joules_come_from(made_run: MadeRun) -> None:
    text = shown(live_view(made_run.ticks[9], made_run.ticks[:10], so_far(made_run, 10)))
    assert "emulated (modelled, not measured)" in text
    assert "boundary gpu" in text
    assert "0:10 of 4:00" in text


def test_the_view_shows_what_holds_for_gpus_and_what_happened_to_them() -> None:
    run = make_run(20, 8)
    first, *others = run.ticks[-1].replicas
    xid = GpuEvent("GPU-5eed0000-0001", "xid", "Xid 79: the GPU has fallen off the bus")
    over = GpuEvent("GPU-5eed0000-0002", "slowdown", "power brake", is_over=True)
    hot = replace(first, conditions=("thermal",))
    tick = replace(run.ticks[-1], replicas=(hot, *others), gpu_events=(xid, over))
    text = shown(live_view(tick, [*run.ticks, tick], so_far(run, 20)))
    assert f"{first.id}: thermal" in text
    assert "GPU 0-0002: over: power brake" in text
    assert len(text.splitlines()) <= 24
    few = replace(tick, replicas=(hot,))
    text = shown(live_view(few, [*run.ticks, few], so_far(run, 20)))
    assert "GPU 0-0001: Xid 79: the GPU has fallen off the bus" in text
    assert plain_line(tick).endswith("GPU 0-0002: over: power brake")
    later = [replace(tick, gpu_events=())] * 40
    assert "Xid" not in shown(live_view(later[-1], [tick, *later], so_far(run, 20)))


def test_a_run_without_a_record_ends_with_one_line(made_run: MadeRun) -> None:
    totals = replace(so_far(made_run, 10), completed=12, energy_j=500.0, output_tokens=1000)
    assert plain_end(totals) == (
        "served 12 requests, 0 failed: 1,000 tokens on 500 J, 2 tokens/J; "
        "energy emulated (modelled, not measured), boundary gpu"
    )


def test_the_view_says_when_the_budget_is_exceeded(made_run: MadeRun) -> None:
    within = replace(made_run.ticks[0], budget_w=100.0, draw_w=90.0, supply_w=120.0)
    over = replace(within, draw_w=105.0)
    totals = so_far(made_run, 1)
    assert "headroom 30.0 W" in shown(live_view(within, [within], totals))
    assert "over budget by 5.00 W" in shown(live_view(over, [over], totals))


def test_the_view_says_how_the_battery_stands(made_run: MadeRun) -> None:
    totals, tick = so_far(made_run, 1), made_run.ticks[0]
    for power_w, text in ((30.0, "gives 30.0 W"), (-30.0, "takes 30.0 W"), (0.0, "idle")):
        with_battery = replace(tick, battery=Charge(0.53, power_w))
        assert f"battery 53 % {text}" in shown(live_view(with_battery, [with_battery], totals))
        assert f"battery 53 % {text}" in plain_line(with_battery)
    assert "battery" not in plain_line(tick)


def test_the_view_has_one_line_about_the_first_shortage() -> None:
    run = make_run(20, 8)
    floor, demand = ShortageTick("floor", 5.0, 65.0, 600.0), ShortageTick("demand", 40.0, 0.0, None)
    for shortages, expected in (
        ((floor,), "budget 5.00 W short of the sleeping fleet in 1:05, enough in 10:00"),
        ((floor, demand), "budget 40.0 W short of the demand at the SLO, no end in the forecast"),
        ((), None),
    ):
        tick = replace(run.ticks[-1], shortages=shortages)
        lines = shown(live_view(tick, run.ticks, so_far(run, 20))).splitlines()
        found = [line.strip() for line in lines if "short of" in line]
        assert found == ([] if expected is None else [expected])
        assert len(lines) <= 24


def test_replicas_that_do_not_fit_are_counted() -> None:
    run = make_run(5, 12)
    assert "and 5 more" in shown(live_view(run.ticks[-1], run.ticks, so_far(run, 5)))


def test_the_view_before_the_first_tick_waits() -> None:
    text = shown(live_view(None, [], RunSoFar(None, "counter", "node")))
    assert "waiting for the first tick" in text
    assert "energy counter, boundary node" in text


def test_a_run_so_far_adds_up_its_ticks(made_run: MadeRun) -> None:
    whole = so_far(made_run, len(made_run.ticks))
    assert whole.output_tokens == sum(tick.output_tokens for tick in made_run.ticks)
    assert abs(whole.energy_j - made_run.totals.energy_j) < 1e-6


def test_a_plain_line_holds_one_tick(made_run: MadeRun) -> None:
    tick = replace(
        made_run.ticks[0], t_s=65.0, supply_w=120.0, budget_w=100.0, draw_w=95.0, energy_j=95.0
    )
    line = plain_line(tick)
    assert "\n" not in line
    assert line.startswith("1:05  supply 120 W  budget 100 W  draw 95.0 W")
    short = replace(tick, shortages=(ShortageTick("floor", 5.0, 0.0, 65.0),))
    assert plain_line(short) == f"{line}  budget 5.00 W short of the sleeping fleet, enough in 1:05"
    assert plain_head(so_far(made_run, 0)) == (
        "running for 4:00; energy emulated (modelled, not measured), boundary gpu"
    )


def test_a_tick_is_one_json_object_with_its_energy_source(made_run: MadeRun) -> None:
    tick = replace(made_run.ticks[0], battery=Charge(0.5, 3.0), budget_source="wind+battery")
    line = json_line(tick, "emulated")
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("energy_source") == "emulated"
    assert found["battery"] == {"share": 0.5, "power_w": 3.0}
    assert list(found) == [field.name for field in fields(TickRecord)]


def test_a_log_line_is_short_even_for_a_large_fleet_with_a_battery() -> None:
    tick = replace(make_run(20, 64).ticks[-1], battery=Charge(0.53, 1234.0), t_s=359_999.0)
    assert len(plain_line(tick)) < 160


def test_the_view_says_why_all_replicas_are_asleep(made_run: MadeRun) -> None:
    demand = ShortageTick("demand", 40.0, 0.0, None)
    tick = replace(made_run.ticks[0], budget_w=36.0, one_awake_w=39.0, shortages=(demand,))
    text = "all replicas asleep: 36.0 W available, one awake needs 39.0 W"
    assert plain_line(tick).endswith(f"  {text}")
    lines = shown(live_view(tick, [tick], so_far(made_run, 1))).splitlines()
    assert lines[-1].strip() == text
    enough = replace(tick, budget_w=39.5)
    assert plain_line(enough).endswith("one awake needs 39.0 W and the safety margin")


@given(st.lists(st.floats(0, 1e6), max_size=50), st.integers(1, 40))
def test_a_trend_is_never_wider_than_asked(values: list[float], width: int) -> None:
    assert len(trend(values, max(values, default=0.0), width)) == min(width, len(values))


def test_the_end_of_a_run_shows_its_numbers_and_files(made_run: MadeRun) -> None:
    summary = summarise(made_run.ticks, made_run.requests, made_run.totals, made_run.slo)
    text = shown(summary_panel(summary, Path("runs/windy")))
    assert "emulated (modelled, not measured)" in text
    assert f"{summary['output_tokens']:,}" in text
    assert "runs/windy: summary.json, figure.png" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_the_end_of_an_empty_run_shows_gaps_not_numbers(made_run: MadeRun) -> None:
    summary = summarise([], [], replace(made_run.totals, energy_j=0.0), made_run.slo)
    text = shown(summary_panel(summary, Path("runs/none")))
    assert "tokens per joule" in text
    assert re.search(r"budget error +–", text)
    assert re.search(r"over budget +–", text)
    assert "nan" not in text
    assert "None" not in text
