"""`steppe.Signal`, used as by a user's own package."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import steppe
from steppe.config import PowerSection, SiteSection
from steppe.errors import ConfigError
from steppe.power.budget import PowerBudget, budget_from_config

MODULE = '''
import steppe

class Plant:
    """Full power in the first hour of each day, a tenth after it."""

    def __init__(self, peak_w: float) -> None:
        self.peak_w = peak_w

    def at(self, time_s: float) -> steppe.Reading:
        return steppe.Fresh(self.peak_w if time_s % 86400 < 3600 else self.peak_w / 10)

class Returns:
    """Returns, from the second call on, what the test puts in `values`; raises exceptions."""

    values: dict[float, object] = {}

    def at(self, time_s: float) -> steppe.Reading:
        value = self.values.get(time_s, steppe.Fresh(50.0))
        if isinstance(value, Exception):
            raise value
        return value

class NoMethod:
    pass

class Float:
    def at(self, time_s: float) -> float:
        return 80.0

class Fails:
    def at(self, time_s: float) -> steppe.Reading:
        raise KeyError("no such\\nmeter")
'''


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module beside the configuration, in the current directory."""
    (tmp_path / "my_plant.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_plant", None)


def budget_of(signal: str, *, speedup: float = 1.0, **settings: Any) -> PowerBudget:
    supply = {"kind": "custom", "signal": signal, "settings": settings}
    values = {"supply": [supply], "stale_s": 30.0, "fallback_w": 5.0, "speedup": speedup}
    return budget_from_config(PowerSection.model_validate(values), SiteSection())


def returning(values: dict[float, object]) -> PowerBudget:
    """Return the budget of a signal with these values by time; 50 W at others."""
    budget = budget_of("my_plant:Returns")
    sys.modules["my_plant"].Returns.values = values
    return budget


def test_a_users_class_supplies_the_budget_and_its_forecast() -> None:
    budget = budget_of("my_plant:Plant", speedup=60.0, peak_w=800)
    now = budget.at(0.0)
    assert (now.gpu_budget_w, now.source, now.stale) == (800.0, "my_plant:Plant", False)
    assert budget.at(60.0).gpu_budget_w == 80.0
    ahead = budget.forecast(0.0, horizon_s=120.0, step_s=60.0)
    assert ahead == ((0.0, 800.0), (60.0, 80.0))
    assert budget.ends_s == math.inf


def test_a_users_class_limits_the_budget() -> None:
    plant = {"kind": "custom", "signal": "my_plant:Plant", "settings": {"peak_w": 800}}
    values = {"supply": [{"kind": "constant", "watts": 500.0}], "limits": [plant]}
    budget = budget_from_config(PowerSection.model_validate(values), SiteSection())
    assert (budget.at(0.0).site_budget_w, budget.at(0.0).source) == (500.0, "constant")
    late = budget.at(4000.0)
    assert (late.site_budget_w, late.source) == (80.0, "my_plant:Plant")


@pytest.mark.parametrize(
    "absent",
    [
        steppe.Missing("no route"),
        OSError("no route"),
        steppe.Fresh(math.nan),
        steppe.Fresh(None),  # type: ignore[arg-type]
        80.0,
    ],
)
def test_a_missing_reading_keeps_the_last_one_until_it_is_stale(absent: object) -> None:
    budget = returning({10.0: steppe.Fresh(70.0, age_s=5.0), 35.0: absent, 36.0: absent})
    assert budget.at(10.0).gpu_budget_w == 70.0
    assert budget.at(35.0).gpu_budget_w == 70.0
    late = budget.at(36.0)
    assert (late.gpu_budget_w, late.source, late.stale) == (5.0, "fallback", True)
    assert budget.at(37.0).gpu_budget_w == 50.0


@pytest.mark.parametrize("old", [steppe.Stale(1.0), steppe.Fresh(70.0, age_s=31.0)])
def test_a_stale_reading_falls_back_at_once(old: object) -> None:
    budget = returning({10.0: steppe.Fresh(70.0), 11.0: old})
    assert budget.at(10.0).gpu_budget_w == 70.0
    assert budget.at(11.0).gpu_budget_w == 5.0


def test_a_signal_that_never_had_a_reading_is_never_unlimited() -> None:
    assert returning({0.0: steppe.Missing("not yet")}).at(0.0).gpu_budget_w == 5.0


def test_negative_power_is_no_supply_and_an_endless_number_is_refused() -> None:
    budget = returning({0.0: steppe.Fresh(-20.0), 1.0: steppe.Fresh(1e20)})
    assert budget.at(0.0).gpu_budget_w == 0.0
    assert budget.at(1.0).gpu_budget_w == 0.0


def test_a_reading_of_the_forecast_is_not_kept_for_the_present() -> None:
    budget = returning({10.0: steppe.Fresh(70.0), 20.0: steppe.Missing("lost")})
    budget.at(10.0)
    budget.forecast(10.0, horizon_s=5.0, step_s=1.0)
    assert budget.at(20.0).gpu_budget_w == 70.0


def test_a_missing_signal_is_logged_once_with_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    budget = returning({10.0: OSError("no route"), 11.0: OSError("no route")})
    for at_s in (10.0, 11.0, 12.0):
        budget.at(at_s)
    reasons = [record.message for record in caplog.records]
    assert reasons == ["signal my_plant:Returns is missing: OSError: no route"]


@pytest.mark.parametrize(
    ("signal", "settings", "message"),
    [
        ("nowhere:Plant", {}, "asked for module nowhere, found ModuleNotFoundError: .*"),
        ("my_plant:Wind", {}, "asked for a class Wind in my_plant, found none"),
        ("my_plant:Plant", {"peek_w": 1}, "asked for my_plant:Plant, found TypeError: .*peek_w.*"),
        ("my_plant:NoMethod", {}, "asked for a method `at` of my_plant:NoMethod, found none"),
        ("my_plant:Float", {}, "my_plant:Float.at: asked for Fresh, Stale or Missing, found float"),
        ("my_plant:Fails", {}, "my_plant:Fails.at failed: KeyError: .*"),
    ],
)
def test_a_class_that_cannot_be_used_is_one_line(
    signal: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^power.supply: {message}$"):
        budget_of(signal, **settings)


def test_a_class_path_without_a_colon_is_refused_by_the_config() -> None:
    with pytest.raises(ValueError, match="signal"):
        budget_of("my_plant.Plant")


def test_a_users_class_is_a_signal() -> None:
    budget_of("my_plant:Plant", peak_w=1.0)
    plant = sys.modules["my_plant"].Plant(800.0)
    assert isinstance(plant, steppe.Signal)
