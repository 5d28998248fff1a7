"""The plan of the markets in a simulated run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.grid_plan import CONFIG

import steppe
from steppe.errors import ConfigError, UsageError


def run_of(folder: Path, **power: Any) -> dict[str, Any]:
    """Return the first hours of a day in 500 s, of which that from 3 h on is cheap."""
    rows = ["time,price"]
    rows += [f"2026-10-24T{hour:02}:00Z,{-30 if hour == 3 else 80}" for hour in range(24)]
    path = folder / "prices.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(CONFIG)
    values["power"] |= {"start": "2026-10-24T00:00:00+00:00", "speedup": 24} | power
    values["power"]["supply"] = [{"kind": "constant", "watts": 8000}]
    del values["power"]["battery"]
    values["sim"] = {"duration_s": 500}
    values["load"] = {"utilisation": 0.1}
    plan = values["grid"]["plan"]
    plan |= {"prices": {"path": str(path)}, "step_s": 900}
    plan["work"] = {"tokens_per_day": 300000000, "from_hour": 2, "until_hour": 18}
    return values


@pytest.mark.slow
def test_the_plan_is_a_limit_of_a_simulated_run(tmp_path: Path) -> None:
    result = steppe.simulate(run_of(tmp_path))
    sources = [tick.budget_source for tick in result.tick_records]
    assert set(sources) == {"plan/day-ahead"}
    budgets = [tick.budget_w for tick in result.tick_records]
    early, cheap = budgets[10], budgets[470]
    assert cheap > 1.2 * early


def test_a_run_without_prices_of_its_days_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked for prices of the run from 2027-01-01"):
        steppe.simulate(run_of(tmp_path, start="2027-01-01T00:00:00+00:00"))


def test_a_run_without_a_date_is_refused(tmp_path: Path) -> None:
    values = run_of(tmp_path)
    del values["power"]["start"]
    with pytest.raises(ConfigError, match="asked for the day of grid"):
        steppe.simulate(values)
