"""What events asked and what the site delivered, in the summary, the live view and the figure."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from tests.fixtures.made_run import MadeRun, make_run

from steppe.report.closing import summary_panel
from steppe.report.figures import run_figure
from steppe.report.grid_events import EventSum, event_sums
from steppe.report.grid_text import grid_text, refusal_text
from steppe.report.live import RunSoFar, live_view, plain_line
from steppe.report.records import GridTick, TickRecord
from steppe.report.series import series_of
from steppe.report.summary import summarise

COMING = GridTick("", None, "http/e1", None, 100.0, None, True, "", 70.0, 20.0, 200.0)
HOLD = GridTick("http/e1", 70.0, "http/e1", 70.0, 100.0, 30.0, True, "", 70.0, 0.0, 60.0)
STARTS_S, ENDS_S = 100.0, 200.0


def with_event(draw_w: Callable[[float], float], length_s: int = 240) -> list[TickRecord]:
    """Return a run of ticks of 1 s with an event of 70 W from 100 to 200 s, told 40 s before."""
    ticks = []
    for tick in make_run(length_s).ticks:
        t_s, site_w = tick.t_s, draw_w(tick.t_s)
        grid = None
        if STARTS_S - 40 < t_s <= STARTS_S:
            grid = replace(COMING, begins_in_s=STARTS_S - t_s)
        elif STARTS_S < t_s <= ENDS_S:
            grid = replace(HOLD, delivered_w=100.0 - site_w, complies=site_w <= 1.02 * 70.0)
        ticks.append(replace(tick, site_w=site_w, grid=grid))
    return ticks


def only(ticks: Sequence[TickRecord]) -> EventSum:
    (found,) = event_sums(ticks)
    return found


def shown(content: RenderableType) -> str:
    console = Console(width=80, height=24, file=io.StringIO(), record=True)
    console.print(content)
    return console.export_text()


def viewed(tick: TickRecord) -> str:
    return shown(live_view(tick, [tick], RunSoFar(240.0, "emulated", "gpu")))


def test_an_event_that_is_kept_is_summed_up() -> None:
    found = only(with_event(lambda t_s: 70.0 if t_s > STARTS_S else 100.0))
    assert found == EventSum(
        event="http/e1",
        starts_s=100.0,
        ends_s=200.0,
        baseline_w=100.0,
        hold_w=70.0,
        asked_j=3000.0,
        delivered_j=3000.0,
        reached_after_s=1.0,
        above_s=0.0,
        above_j=0.0,
        above_band_s=0.0,
        most_over=0.0,
        reason="",
        verdict="complied",
    )


def test_the_first_seconds_of_an_event_may_be_above_it() -> None:
    found = only(with_event(lambda t_s: 70.0 if t_s > STARTS_S + 8 else 100.0))
    assert (found["reached_after_s"], found["verdict"]) == (9.0, "complied")
    assert (found["above_s"], found["above_j"]) == (8.0, 240.0)


def test_an_event_that_is_exceeded_later_is_called_that() -> None:
    found = only(with_event(lambda t_s: 77.0 if 150 < t_s <= 153 else 70.0))
    assert found["verdict"] == "exceeded"
    assert (found["above_band_s"], found["above_s"]) == (3.0, 3.0)
    assert found["most_over"] == pytest.approx(0.1)


def test_a_draw_within_the_band_complies_and_still_counts_as_above() -> None:
    found = only(with_event(lambda _t_s: 71.0))
    assert (found["verdict"], found["above_s"], found["above_band_s"]) == ("complied", 100.0, 0.0)


def test_an_event_of_0_w_is_exceeded_by_any_draw() -> None:
    ticks = [
        replace(tick, grid=replace(tick.grid, target_w=0.0, hold_w=0.0)) if tick.grid else tick
        for tick in with_event(lambda _t_s: 3.0)
        if tick.grid is None or tick.grid.target_w is not None
    ]
    found = only(ticks)
    assert (found["verdict"], found["reached_after_s"], found["most_over"]) == (
        "exceeded",
        None,
        None,
    )


def test_an_event_that_did_not_begin_in_the_run_is_called_that() -> None:
    found = only(with_event(lambda _t_s: 100.0, length_s=90))
    assert (found["verdict"], found["starts_s"], found["asked_j"]) == ("not begun", None, 0.0)


def test_a_limit_alone_is_no_event(made_run: MadeRun) -> None:
    ticks = [replace(tick, grid=GridTick("http/limit", 80.0)) for tick in made_run.ticks]
    assert event_sums(ticks) == []


def test_the_summary_and_its_panel_name_the_events(made_run: MadeRun) -> None:
    ticks = with_event(lambda t_s: 77.0 if 150 < t_s <= 153 else 70.0)
    summary = summarise(ticks, made_run.requests, made_run.totals, made_run.slo)
    assert [event["event"] for event in summary["grid_events"]] == ["http/e1"]
    text = shown(summary_panel(summary, Path("runs/grid")))
    assert "http/e1: exceeded for 0:03, 2.98 kJ of 3.00 kJ less" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_view_counts_down_to_an_event(made_run: MadeRun) -> None:
    tick = replace(made_run.ticks[0], site_w=100.0, grid=replace(COMING, begins_in_s=32.0))
    text = "grid http/e1: 70.0 W allowed in 0:32, 30.0 % below 100 W"
    assert grid_text(tick) == text
    assert text in viewed(tick)
    assert plain_line(tick).endswith(text)


def test_the_view_shows_what_an_event_allows_and_what_is_delivered(made_run: MadeRun) -> None:
    tick = replace(made_run.ticks[0], site_w=69.5, grid=replace(HOLD, delivered_w=30.5))
    text = "grid http/e1: 70.0 W allowed, draw 69.5 W (-30.5 W), complies, ends in 1:00"
    assert text in viewed(tick)
    above = replace(tick, site_w=110.0, grid=replace(HOLD, delivered_w=-10.0, complies=False))
    text = "grid http/e1: 70.0 W allowed, draw 110 W (+10.0 W), above it, ends in 1:00"
    assert text in viewed(above)


def test_the_view_says_in_words_why_the_site_cannot_comply(made_run: MadeRun) -> None:
    reason = (
        "event e1: asked for 30 W less within 10 s, found a notice of 10 s where 31 s are needed"
    )
    grid = replace(COMING, complies=False, reason=reason)
    text = "cannot comply: found a notice of 10 s where 31 s are needed"
    assert refusal_text(grid) == text
    tick = replace(made_run.ticks[0], site_w=100.0, grid=grid)
    assert text in viewed(tick)
    assert plain_line(tick).endswith(text)


def test_the_view_names_the_limit_in_force_where_no_event_sets_it(made_run: MadeRun) -> None:
    limit = GridTick("openadr/default", 50.0)
    tick = replace(made_run.ticks[0], site_w=40.0, grid=limit)
    assert "grid openadr/default: 50.0 W allowed, draw 40.0 W" in viewed(tick)
    both = replace(tick, grid=replace(HOLD, limit="openadr/default", limit_w=50.0))
    assert plain_line(both).endswith("ends in 1:00; limit openadr/default 50.0 W")


@pytest.mark.parametrize("grid", [COMING, HOLD, replace(HOLD, reason="event e1: asked, found no")])
def test_the_view_with_an_event_fits_a_terminal_of_80_by_24(grid: GridTick) -> None:
    run = make_run(20, 8)
    tick = replace(run.ticks[-1], site_w=100.0, grid=grid)
    lines = viewed(tick).splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80
    assert "…" not in viewed(tick)


def test_the_figure_shows_target_and_baseline_where_an_event_was(
    tmp_path: Path, made_run: MadeRun
) -> None:
    ticks = with_event(lambda t_s: 70.0 if t_s > STARTS_S else 100.0)
    grid = series_of(ticks).grid
    assert grid is not None
    # the windows that end at 100 and at 101 s
    assert list(grid.target_w[99:101]) == pytest.approx([float("nan"), 70.0], nan_ok=True)
    assert list(grid.baseline_w[99:101]) == pytest.approx([float("nan"), 100.0], nan_ok=True)
    assert series_of(made_run.ticks).grid is None
    images = []
    for name, shown_ticks in (("with", ticks), ("without", made_run.ticks)):
        summary = summarise(shown_ticks, made_run.requests, made_run.totals, made_run.slo)
        run_figure(shown_ticks, summary, tmp_path / f"{name}.png")
        images.append((tmp_path / f"{name}.png").read_bytes())
    assert images[0] != images[1]
