from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.fixtures.grid_plan import CONFIG

from steppe.cli import main

NOON = range(12, 15)
WAYS = ["none", "price-taker", "plan", "perfect foresight"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a run beside prices of three days."""
    rows = ["time,price"]
    for day in (24, 25, 26):
        rows += [f"2026-11-{day}T{hour:02}:00,{-30 if hour in NOON else 80}" for hour in range(24)]
    (tmp_path / "prices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    given = yaml.safe_load(CONFIG)
    given["grid"]["plan"] |= {"step_s": 900, "reserve": {"price": 6}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    return path


def backtest(config: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["grid", "backtest", str(config), *options])


@pytest.mark.slow
def test_a_backtest_prints_what_each_way_costs_and_records_it(config: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    result = backtest(config, "--days", "1", "--every", "16", "--record", str(record))
    assert result.exit_code == 0, result.output
    assert "1 days from 2026-11-26 (Europe/Paris), EUR; modelled" in result.output
    assert "synthetic: traffic" in result.output
    found = json.loads((record / "backtest.json").read_text(encoding="utf-8"))
    assert [row["way"] for row in found["ways"]] == WAYS
    cost = {row["way"]: row["cost"] for row in found["ways"]}
    assert cost["perfect foresight"] < cost["plan"] < cost["none"]
    assert found["ways"][-1]["share_of_foresight"] == 1.0
    assert len((record / "steps.csv").read_text(encoding="utf-8").splitlines()) == 97
    assert (record / "figure.png").stat().st_size > 10_000


def test_days_without_prices_are_refused(config: Path) -> None:
    result = backtest(config, "--days", "4")
    assert result.exit_code == 2
    assert (
        "asked for prices of 4 days from 2026-11-23, found those from 2026-11-24" in result.output
    )


def test_a_step_of_another_length_is_refused(config: Path) -> None:
    text = config.read_text(encoding="utf-8").replace("step_s: 900", "step_s: 1800")
    config.write_text(text, encoding="utf-8")
    result = backtest(config, "--days", "1")
    assert result.exit_code == 2
    assert "grid.plan.step_s: asked for 900 s in a backtest, found 1800 s" in result.output
