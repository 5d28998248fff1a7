"""Whole runs of the scoreboard, of small fleets."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from steppe.config import ControlSection


def test_two_processes_find_the_same_rows_in_the_same_order_as_one(bench: Any) -> None:
    policies, scenarios = bench("policies"), bench("scenarios")
    size = policies.Size("8b", 1, 10.0, 0.8)
    makers = (scenarios.forty_steps, scenarios.ample)
    asked = [(make, policy) for make in makers for policy in ("clocks", "follow_budget")]
    one, two = (policies.rows_of(size, asked, jobs) for jobs in (1, 2))
    for row in (*one, *two):
        row.pop("cpu_s")
    assert one == two
    assert [row["policy"] for row in one] == ["clocks", "follow_budget"] * 2


def test_a_result_says_which_fleets_it_is_of_for_how_long_and_how_it_was_asked(bench: Any) -> None:
    policies, document = bench("policies"), bench("document")
    made = [
        policies.make_bench(policies.Size(name, 1, 10.0, 0.8)) for name in ("70b", "70b-steady")
    ]
    fleets = [document.fleet_of(one) for one in made]
    asked = Namespace(fleet=["70b", "70b-steady"], duration=10.0, figure=Path("figure.png"))
    found = document.simulated("settling", fleets, asked, [], [])
    assert [fleet["fleet"] for fleet in found["fleets"]] == ["70b", "70b-steady"]
    assert all((f["duration_s"], f["utilisation"]) == (10.0, 0.8) for f in found["fleets"])
    assert fleets[0]["simulated"] != fleets[1]["simulated"]
    assert found["arguments"] == {"fleet": ["70b", "70b-steady"], "duration": 10.0}


def test_a_result_says_which_control_section_it_was_found_with(bench: Any) -> None:
    policies, document = bench("policies"), bench("document")
    by_default = ControlSection()
    size = policies.Size("8b", 1, 10.0, margin_share=by_default.margin_share)
    made = policies.make_bench(size)
    section = json.loads(json.dumps(document.fleet_of(made)))["control"]
    assert section["margin_share"] == by_default.margin_share != policies.MARGIN_SHARE
    assert section["over_share"] == policies.OVER_SHARE
    assert section["dwell_s"] == by_default.dwell_s
    assert "policy" not in section


def test_a_result_of_a_planned_day_says_how_far_it_looked_ahead(bench: Any) -> None:
    policies, battery_day = bench("policies"), bench("battery_day")
    made = policies.make_bench(policies.Size("8b", 1, 48.0))
    day = battery_day.scenarios.windy_day(made.full_w, 48.0)
    without, own_rule, plan = battery_day.rows_of(made, "8b", day)
    assert without["horizon"] is own_rule["horizon"] is None
    assert (plan["horizon"]["step_s"], plan["horizon"]["every_s"]) == (600.0, 120.0)


def test_a_baseline_that_serves_nothing_is_no_reason_to_lose_the_run(bench: Any) -> None:
    policies, scenarios = bench("policies"), bench("scenarios")
    table = bench("policy_table")
    size = policies.Size("8b", 1, 20.0)
    asked = [(scenarios.cloudy_solar_day, name) for name in ("follow_budget", "replicas")]
    rows = policies.rows_of(size, asked, jobs=1)
    assert rows[1]["output_tokens"] == 0 < rows[0]["output_tokens"]
    assert table.beside_almost(rows) == []


def test_a_controller_may_assume_wrong_watts_while_budgets_stay_those_of_the_fleet(
    bench: Any,
) -> None:
    policies = bench("policies")
    right = policies.make_bench(policies.Size("8b", 1, 20.0))
    wrong = policies.make_bench(policies.Size("8b", 1, 20.0, assumed_share=1.2))
    assert right.assumed == right.frontier
    assert wrong.full_w == right.full_w
    assert wrong.assumed.full.draw_w == pytest.approx(1.2 * right.frontier.full.draw_w)
    assert wrong.assumed.asleep_w == pytest.approx(1.2 * right.frontier.asleep_w)


def test_a_controller_may_assume_a_wrong_speed_at_the_right_watts(bench: Any) -> None:
    policies = bench("policies")
    right = policies.make_bench(policies.Size("8b", 1, 20.0))
    slow = policies.make_bench(policies.Size("8b", 1, 20.0, assumed_speed=0.5))
    assert slow.frontier == right.frontier
    assert slow.assumed.full.output_tps == pytest.approx(right.frontier.full.output_tps / 2)
    assert slow.assumed.full.tpot_s == pytest.approx(2 * right.frontier.full.tpot_s)
    assert slow.assumed.full.draw_w == right.frontier.full.draw_w


def test_a_run_of_a_part_of_a_day_begins_at_its_hour_and_wakes_take_their_time(bench: Any) -> None:
    policies = bench("policies")
    size = policies.Size("8b", 1, 60.0, wake_s=5.4, sleep_s=5.9, speed=2.0, begin_hour=13.5)
    config = policies.make_bench(size).config
    assert (config.sim.wake_s, config.sim.sleep_s, config.power.speedup) == (5.4, 5.9, 2.0)
    assert (config.power.start.hour, config.power.start.minute) == (13, 30)
