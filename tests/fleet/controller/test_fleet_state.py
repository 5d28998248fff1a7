from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.fleet_messages import tick_record

from steppe.config import PowerSection, SiteSection
from steppe.fleet.controller.fleet_state import EnergyLabels, ModelFacts, fleet_state
from steppe.frontier.pareto import Frontier
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.report.records import ReplicaTick, ShortageTick
from steppe.roofline.point import OperatingPoint

SLOW = OperatingPoint(clock_mhz=600, batch_limit=8, output_tps=100.0, draw_w=200.0)
FAST = OperatingPoint(clock_mhz=1200, batch_limit=8, output_tps=150.0, draw_w=400.0)


def replica(id_: str, state: str = "awake", draw_w: float = 200.0) -> ReplicaTick:
    return ReplicaTick(id_, state, 600, 8, draw_w, 80.0 if state == "awake" else 0.0)


@pytest.fixture
def budget() -> PowerBudget:
    supply = {"kind": "constant", "watts": 1000.0}
    power = PowerSection.model_validate({"supply": [supply], "limits": [supply]})
    return budget_from_config(power, SiteSection())


@pytest.fixture
def frontier() -> Frontier:
    return Frontier((SLOW, FAST), asleep_w=50.0, idle_w=100.0, source="modelled")


def state(budget: PowerBudget, frontier: Frontier, *replicas: ReplicaTick, **changes: Any) -> Any:
    record = tick_record(60.0, replicas=replicas, **changes)
    models = {
        "big": ModelFacts(frontier, frozenset(r.id for r in replicas if r.id.startswith("big"))),
        "small": ModelFacts(frontier, frozenset({"small-1"})),
    }
    return json.loads(fleet_state(record, models, budget, EnergyLabels("counter", "gpu")))


def test_the_headroom_of_a_model_is_what_its_replicas_could_serve_within_the_budget(
    budget: PowerBudget, frontier: Frontier
) -> None:
    replicas = (
        replica("big-1"),
        replica("big-2", "asleep", 50.0),
        replica("small-1", "asleep", 50.0),
    )
    found = state(budget, frontier, *replicas, budget_w=700.0, draw_w=300.0)
    assert (found["power"]["budget_w"], found["power"]["headroom_w"]) == (700.0, 400.0)
    big = found["models"]["big"]
    assert (big["state"], big["replicas"], big["output_tps"]) == ("awake", 2, 80.0)
    assert (big["most_output_tps"], big["headroom_tps"]) == (250.0, 170.0)  # 650 W for both
    small = found["models"]["small"]
    assert (small["state"], small["most_output_tps"]) == ("asleep", 150.0)  # 450 W


def test_a_time_per_token_that_was_not_measured_is_that_of_a_full_batch(
    budget: PowerBudget, frontier: Frontier
) -> None:
    models = state(budget, frontier, replica("big-1"))["models"]
    assert models["big"]["full_tpot_s"] == pytest.approx(8 / 150.0)
    measured = Frontier((replace(FAST, tpot_s=0.04),), 50.0, 100.0, source="measured")
    models = state(budget, measured, replica("big-1"))["models"]
    assert models["big"]["full_tpot_s"] == 0.04


def test_the_draw_of_the_site_has_its_losses(frontier: Frontier) -> None:
    power = PowerSection.model_validate({"supply": [{"kind": "constant", "watts": 1000.0}]})
    site = SiteSection.model_validate({"pue": 1.5, "overhead_w": 20.0})
    found = state(budget_from_config(power, site), frontier, replica("big-1"), draw_w=200.0)
    assert found["power"]["site_draw_w"] == 320.0


def test_bought_power_is_shown_apart_from_the_surplus(frontier: Frontier) -> None:
    supplies = [
        {"kind": "constant", "watts": 100.0},
        {"kind": "solar", "station": "greensboro", "rated_w": 1000.0},
    ]
    power = PowerSection.model_validate({"supply": supplies, "start": "2001-06-05T12:00:00"})
    found = state(budget_from_config(power, SiteSection()), frontier, replica("big-1"))
    assert found["power"]["firm_w"] == 100.0
    assert 0.0 < found["power"]["surplus_w"] < 1000.0


def test_where_all_power_is_bought_there_is_no_surplus(
    budget: PowerBudget, frontier: Frontier
) -> None:
    found = state(budget, frontier, replica("big-1"))
    assert (found["power"]["firm_w"], found["power"]["surplus_w"]) == (1000.0, 0.0)


def test_without_power_a_model_can_serve_nothing(budget: PowerBudget, frontier: Frontier) -> None:
    found = state(budget, frontier, replica("big-1", "asleep", 50.0), budget_w=10.0, draw_w=50.0)
    assert found["models"]["big"]["most_output_tps"] == 0.0
    assert found["power"]["headroom_w"] == -40.0


def test_the_state_shows_plan_shortages_forecast_and_sources(
    budget: PowerBudget, frontier: Frontier
) -> None:
    short = ShortageTick("demand", 30.0, 0.0, None)
    found = state(budget, frontier, replica("big-1"), shortages=(short,))
    assert found["plan"][0] == {
        "replica": "big-1",
        "state": "awake",
        "depth": None,
        "clock_mhz": 600,
        "batch_limit": 8,
        "draw_w": 200.0,
        "output_tps": 80.0,
        "pool": None,
        "fault": None,
        "conditions": [],
    }
    assert found["shortages"][0]["short_w"] == 30.0
    assert len(found["forecast"]) == 12
    assert found["forecast"][0] == {"in_s": 0.0, "budget_w": 1000.0}
    kinds = [(source["kind"], source["state"], source["watts"]) for source in found["sources"]]
    assert kinds == [("supply", "fresh", 1000.0), ("limit", "fresh", 1000.0)]


def test_a_model_shows_at_most_eight_points_of_the_replicas_that_serve_or_could(
    budget: PowerBudget,
) -> None:
    points = tuple(OperatingPoint(n, 8, 10.0 * n, 20.0 * n) for n in range(1, 21))
    many = Frontier(points, asleep_w=5.0, idle_w=10.0, source="modelled")
    replicas = (replica("big-1"), replica("big-2", "asleep"), replica("big-3", "starting"))
    shown = state(budget, many, *replicas)["models"]["big"]["points"]
    assert len(shown) == 8
    assert (shown[0], shown[-1]) == ([20.0, 40.0], [400.0, 800.0])
    assert shown == sorted(shown)
    assert state(budget, many, replica("big-1", "starting"))["models"]["big"]["points"] == []


def test_a_run_of_several_sites_shows_the_surplus_of_the_next_steps(frontier: Frontier) -> None:
    wind = {"kind": "solar", "station": "greensboro", "rated_w": 1000.0}
    power = PowerSection.model_validate(
        {
            "supply": [{"kind": "constant", "watts": 100.0}, wind],
            "start": "2001-06-05T12:00:00",
            "battery": {
                "capacity_wh": 10.0,
                "max_charge_w": 5.0,
                "max_discharge_w": 5.0,
                "initial_share": 0.5,
            },
        }
    )
    site = budget_from_config(power, SiteSection())
    record = tick_record(0.0, replicas=())
    labels = EnergyLabels("counter", "gpu")
    found = json.loads(fleet_state(record, {}, site, labels, outlook_step_s=900.0))
    assert [step["in_s"] for step in found["outlook"]] == [900.0 * n for n in range(16)]
    assert found["outlook"][0]["surplus_w"] == found["power"]["surplus_w"]
    assert found["power"]["battery_wh"] == 5.0
    assert json.loads(fleet_state(record, {}, site, labels))["outlook"] == []


def test_where_all_power_is_bought_the_outlook_has_no_surplus(budget: PowerBudget) -> None:
    record = tick_record(0.0, replicas=())
    text = fleet_state(record, {}, budget, EnergyLabels("counter", "gpu"), outlook_step_s=900.0)
    assert {step["surplus_w"] for step in json.loads(text)["outlook"]} == {0.0}
