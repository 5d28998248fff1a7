"""The scoreboard: random days, the arithmetic of its table, and a whole small run."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from steppe.config import ControlSection

SHARES = {"relative_mae": 0.01, "over_budget_share": 0.0}


def row(policy: str, day: str, tokens: float, good: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Return what the table needs of a run."""
    return {
        "clock_curve": "nominal",
        "policy": policy,
        "happening": day,
        "output_tokens": tokens,
        "request_goodput": good,
        **SHARES,
        **changes,
    }


def test_of_a_tuned_policy_the_best_of_each_day_counts_for_each_figure(bench: Any) -> None:
    table = bench("scoreboard_table")
    rows = [
        row("static_clock", "a", 100.0, 5.0, clock_mhz=1000),
        row("static_clock", "a", 90.0, 8.0, clock_mhz=1500),
        row("static_clock", "a", 200.0, 9.0, clock_mhz=1980, over_budget_share=0.01),
        row("static_clock", "b", 70.0, 1.0, clock_mhz=1500),
    ]
    by_tokens = table.best_of_day(rows, "output_tokens")
    assert [found["clock_mhz"] for found in by_tokens] == [1000, 1500]
    by_good = table.best_of_day(rows, "request_goodput")
    assert [found["request_goodput"] for found in by_good] == [8.0, 1.0]


def test_where_no_setting_keeps_to_the_budget_the_one_closest_to_it_counts(bench: Any) -> None:
    rows = [
        row("clocks", "a", 300.0, over_budget_share=0.3),
        row("clocks", "a", 200.0, over_budget_share=0.2),
    ]
    (found,) = bench("scoreboard_table").best_of_day(rows, "output_tokens")
    assert found["over_budget_share"] == 0.2


def test_the_table_has_the_median_and_the_worst_day_and_ratios_of_the_same_day(bench: Any) -> None:
    rows = [
        *(row("follow_budget", day, 100.0 * n, 10.0) for n, day in enumerate("abc", 1)),
        row("replicas", "a", 80.0, 9.0, relative_mae=0.03),
        row("replicas", "b", 100.0, 12.0, relative_mae=None, over_budget_share=0.002),
        row("replicas", "c", 270.0, 11.0, relative_mae=0.05),
    ]
    ours, rival = bench("scoreboard_table").policies_of(rows)
    assert (ours["policy"], ours["kept_days"], ours["output_tokens"]["median"]) == (
        "follow_budget",
        3,
        200.0,
    )
    assert set(ours["output_tokens_over_ours"].values()) == {1.0}
    assert (rival["days"], rival["kept_days"]) == (3, 2)
    assert (rival["output_tokens"]["median"], rival["output_tokens"]["worst"]) == (100.0, 80.0)
    ratio = rival["output_tokens_over_ours"]
    assert [ratio[key] for key in ("median", "least", "most")] == pytest.approx([0.8, 0.5, 0.9])
    assert rival["request_goodput_over_ours"]["median"] == pytest.approx(1.1)
    assert (rival["relative_mae"]["median"], rival["relative_mae"]["worst"]) == (0.04, 0.05)
    assert rival["over_budget_share"]["worst"] == 0.002


def test_the_headline_is_ours_over_the_best_rival_of_each_day_that_keeps_to_the_budget(
    bench: Any,
) -> None:
    table = bench("scoreboard_table")
    rows = [
        row("follow_budget", "a", 120.0, 6.0),
        row("save_energy", "a", 130.0, 7.0),  # ours, too
        row("replicas", "a", 100.0, 8.0),
        row("clocks", "a", 200.0, 20.0, over_budget_share=0.2),
        row("follow_budget", "b", 90.0, 3.0),
        row("replicas", "b", 50.0, 2.0),
        row("dynamo_llm", "b", 100.0, 1.0),
        row("follow_budget", "c", 90.0, 3.0),
        row("clocks", "c", 100.0, 3.0, over_budget_share=0.2),
    ]
    tokens, good = table.headline(rows)
    assert (tokens["days"], tokens["days_left_out"]) == (2, 1)
    assert (tokens["median"], tokens["worst"]) == pytest.approx((1.05, 0.9))
    assert tokens["beside"] == {"replicas": 1, "dynamo_llm": 1}
    assert (good["median"], good["worst"]) == pytest.approx((1.125, 0.75))
    met = {target["name"]: target["met"] for target in table.targets(rows)}
    assert met["tokens, median over the best rival"]
    assert met["energy above the budget, worst day"]


def test_each_clock_curve_has_its_own_ratios_and_targets_are_those_of_the_fitted_one(
    bench: Any,
) -> None:
    table = bench("scoreboard_table")
    curves = {"nominal": 1.1, "low": 1.3}
    rows = [
        one
        for curve, ratio in curves.items()
        for one in (
            row("follow_budget", "a", 100.0 * ratio, clock_curve=curve),
            row("replicas", "a", 100.0, clock_curve=curve),
        )
    ]
    tokens = [one for one in table.headline(rows) if one["figure"] == "output_tokens"]
    assert {one["clock_curve"]: one["median"] for one in tokens} == pytest.approx(curves)
    values = [t["value"] for t in table.targets(rows) if t["name"].startswith("tokens")]
    assert values == pytest.approx([1.1])


def test_days_are_random_and_those_of_a_seed_are_always_the_same(bench: Any) -> None:
    weather = bench("weather_days")
    one, same = (
        weather.random_days(("wind", "sun"), 20, 3600.0, random.Random(3)) for _ in range(2)
    )
    other = weather.random_days(("wind", "sun"), 20, 3600.0, random.Random(4))
    assert one == same != other
    assert [day.source for day in one] == ["wind", "sun"] * 10
    assert len({(day.source, day.day) for day in one}) == 20
    assert all(0 <= day.hour <= 23 for day in one)


def test_a_run_shows_the_hours_of_the_day_from_its_begin_at_its_speed(bench: Any) -> None:
    weather = bench("weather_days")
    sun = weather.WeatherDay("sun", 200, 0.0)
    whole = weather.happening_of(sun, 1000.0, 240.0, 360.0).budget
    later = weather.happening_of(replace(sun, hour=12.0), 1000.0, 240.0, 1.0).budget
    assert whole.end_s == later.end_s == 240.0
    assert whole.at(0.0) == pytest.approx(200.0)  # at midnight only the firm share
    assert later.at(0.0) == pytest.approx(whole.at(120.0))
    assert max(whole.watts) <= 1000.0 + 1e-9


def test_the_measured_wind_farm_is_a_source_where_its_file_is_there(bench: Any) -> None:
    weather = bench("weather_days")
    if not weather.FARM_PATH.is_file():
        pytest.skip(f"../{weather.FARM_FILE} is absent")
    assert weather.sources_here() == ("wind", "sun", "farm")
    found = weather.year_quantiles("farm")
    assert 0.2 <= found["median"] < found["mean"] < found["p90"] < 1.0


def test_wakes_are_scaled_with_the_day_and_the_margin_is_the_default(bench: Any) -> None:
    scoreboard = bench("scoreboard")
    day_in_a_run = scoreboard.parsed(["--duration", "900"])
    in_real_time = scoreboard.parsed(["--duration", "900", "--speed", "1"])
    fast, real = (
        scoreboard.size_of(asked, "nominal", 0, 0.0) for asked in (day_in_a_run, in_real_time)
    )
    assert (real.wake_s, real.sleep_s) == (5.4, 5.9)
    assert fast.wake_s == pytest.approx(5.4 / 96)
    shipped = ControlSection()
    assert (fast.margin_share, fast.over_share) == (shipped.margin_share, shipped.over_share)
    assert "in real time" in scoreboard.title_of(in_real_time)


def test_locked_clocks_are_the_best_of_the_day_and_the_best_that_keep_the_slo(bench: Any) -> None:
    runs, weather = bench("scoreboard_runs"), bench("weather_days")
    fleet = runs.make_bench(runs.Size("70b", 4, 30.0, utilisation=2.0))
    happening = weather.happening_of(weather.WeatherDay("wind", 10, 0.0), fleet.full_w, 30.0, 1.0)
    budget_w = 0.6 * fleet.full_w
    steady = replace(happening.budget, watts=(budget_w,) * len(happening.budget.watts))
    found = runs.locks_of(fleet, replace(happening, budget=steady), 4)
    asleep_w, usable_w = fleet.frontier.asleep_w, 0.998 * budget_w

    def tps(clock_mhz: int) -> float:
        point = next(p for p in points if p.clock_mhz == clock_mhz)
        awake = (usable_w - 4 * asleep_w) // (point.draw_w - asleep_w)
        return float(min(4.0, awake) * point.output_tps)

    points = fleet.frontier.full_batch.points
    kept = [p.clock_mhz for p in points if p.tpot_s <= fleet.slo.tpot_s]
    assert len(found) == len(set(found)) == 4
    assert tps(found[0]) == max(map(tps, kept))
    assert points[-1].clock_mhz in found[:2]
    assert max(map(tps, found)) == max(tps(p.clock_mhz) for p in points)


@pytest.mark.slow
def test_a_small_run_ends_with_a_document_that_says_how_it_was_found(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scoreboard = bench("scoreboard")
    asked = "scoreboard --fleet 8b --replicas 2 --days 2 --duration 40 --weather wind"
    asked += " --policy follow_budget --policy static_clock --policy capped_autoscaler"
    monkeypatch.setattr("sys.argv", asked.split())
    scoreboard.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["bench"] == "scoreboard"
    assert found["time"]["speed"] == 2160.0
    assert found["wake"]["wake_s_of_day"] == 2.87
    settings = {(r["policy"], r["clock_mhz"], r["fill"]) for r in found["results"]}
    assert len([s for s in settings if s[0] == "static_clock"]) >= 3
    lines = {line["policy"]: line for line in found["policies"]}
    assert lines["follow_budget"]["days"] == lines["static_clock"]["days"] == 2
    assert [line["figure"] for line in found["headline"]] == ["output_tokens", "request_goodput"]
    figure = bench("scoreboard_figure").draw(found["results"], "two days")
    first, *_ = figure.axes[0].get_yticklabels()
    assert first.get_text() == "follow budget"
