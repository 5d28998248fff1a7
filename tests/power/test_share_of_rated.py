"""A supply that is a share of what the GPUs may draw, and the most that a budget can be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from steppe.config import PowerSection, SiteSection
from steppe.errors import ConfigError
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.power.supply import needs_rating, with_rating

SHARE = {"kind": "share_of_rated", "share": 0.7}


def power_of(**sections: Any) -> PowerSection:
    return PowerSection.model_validate(sections)


def budget_of(site: SiteSection | None = None, **sections: Any) -> PowerBudget:
    return budget_from_config(power_of(**sections), site or SiteSection())


@pytest.mark.parametrize("site", [SiteSection(), SiteSection(pue=1.3, overhead_w=900.0)])
def test_the_gpus_get_their_share_whatever_the_site_draws_beside_them(site: SiteSection) -> None:
    power = with_rating(power_of(supply=[SHARE]), 5600.0)
    now = budget_from_config(power, site).at(3.0)
    assert now.gpu_budget_w == pytest.approx(0.7 * 5600)
    assert now.site_budget_w == pytest.approx(0.7 * 5600 * site.pue + site.overhead_w)
    assert now.source == "share_of_rated"


def test_the_gpus_keep_their_share_when_the_rest_of_the_nodes_is_measured() -> None:
    site = SiteSection(pue=1.2, node_rest_w=800.0)
    power = with_rating(power_of(supply=[SHARE]), 5600.0)
    budget = budget_from_config(power, site, nodes=2)
    assert budget.at(0.0).gpu_budget_w == pytest.approx(3920)
    budget.set_node_rest(2100.0, "measured")
    assert budget.at(1.0).gpu_budget_w == pytest.approx(3920)
    assert budget.at(1.0).site_budget_w == pytest.approx((3920 + 2100) * 1.2)
    assert budget.most_gpu_w == pytest.approx(3920)


def test_a_given_rating_needs_no_gpus() -> None:
    power = power_of(supply=[SHARE | {"rated_w": 1000.0}])
    assert not needs_rating(power)
    assert with_rating(power, None) is power
    assert budget_from_config(power, SiteSection()).at(0.0).gpu_budget_w == pytest.approx(700)


def test_a_share_may_limit_another_supply() -> None:
    power = power_of(supply=[{"kind": "constant", "watts": 9000}], limits=[SHARE])
    now = budget_from_config(with_rating(power, 5600.0), SiteSection()).at(0.0)
    assert now.gpu_budget_w == pytest.approx(3920)
    assert now.source == "share_of_rated"


def test_a_share_of_unknown_gpus_is_nothing_and_is_refused_when_the_run_starts() -> None:
    power = power_of(supply=[SHARE])
    assert budget_from_config(power, SiteSection()).at(0.0).gpu_budget_w == 0
    with pytest.raises(ConfigError, match="found a GPU that reports no highest board power limit"):
        with_rating(power, None)


def test_the_most_of_a_budget_is_its_largest_value_after_the_start(tmp_path: Path) -> None:
    trace = tmp_path / "supply.csv"
    trace.write_text("time_utc,p_kw\n0,9\n3600,1\n7200,2\n")
    supply = [{"kind": "trace", "path": str(trace)}]
    assert budget_of(supply=supply).most_gpu_w == 9000
    assert budget_of(supply=supply, fallback_w=9500.0).most_gpu_w == 9500, "the trace will end"
    limits = [{"kind": "constant", "watts": 500}]
    assert budget_of(supply=supply, limits=limits).most_gpu_w == 500
    site = SiteSection(pue=1.25, overhead_w=250.0)
    assert budget_of(site, supply=supply, reserve_w=1000.0).most_gpu_w == 6200


def test_the_most_of_a_year_of_weather_is_that_of_its_best_hour() -> None:
    supply = [{"kind": "wind", "rated_w": 1000.0}]
    budget = budget_of(supply=supply, fallback_w=5000.0)
    assert 900 < budget.most_gpu_w <= 1000, "weather never becomes stale"


def test_a_battery_adds_to_the_most_and_a_signal_may_say_anything(tmp_path: Path) -> None:
    battery = {"capacity_wh": 10.0, "max_charge_w": 50.0, "max_discharge_w": 80.0}
    assert budget_of(supply=[{"kind": "constant", "watts": 100}], battery=battery).most_gpu_w == 180
    signal = {"kind": "signal", "path": str(tmp_path / "watts")}
    assert budget_of(supply=[signal]).most_gpu_w == math.inf
    limited = budget_of(supply=[{"kind": "constant", "watts": 100}], limits=[signal])
    assert limited.most_gpu_w == 100
