from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.fixtures.grid_plan import CONFIG

from steppe.cli import main
from steppe.grid.service.bodies import NewLimit

NOON = range(12, 15)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a run beside prices of three days, the second of which has 25 hours."""
    rows = ["time,price"]
    for day, hours in ((24, range(24)), (25, [0, 1, 2, *range(2, 24)]), (26, range(24))):
        rows += [f"2026-10-{day}T{hour:02}:00,{-30 if hour in NOON else 80}" for hour in hours]
    (tmp_path / "prices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def plan(config: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["grid", "plan", str(config), *options])


def document(config: Path, *options: str) -> dict[str, Any]:
    result = plan(config, "--json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_work_that_can_wait_is_planned_for_the_hours_below_zero(config: Path) -> None:
    found = document(config, "--day", "2026-10-24")
    waiting = {row["begins"][11:13] for row in found["rows"] if row["deferred_tps"] > 0}
    assert waiting
    assert waiting <= {"12", "13", "14"}
    assert found["totals"]["paid_price"] < found["totals"]["mean_price"]
    assert found["energy_source"] == "modelled"


def test_the_day_on_which_clocks_are_set_back_has_a_row_more(config: Path) -> None:
    rows = document(config, "--day", "2026-10-25")["rows"]
    assert len(rows) == 25
    assert [row["begins"][11:] for row in rows[2:4]] == ["02:00:00+02:00", "02:00:00+01:00"]


def test_the_last_day_of_the_prices_is_planned_by_default(config: Path) -> None:
    result = plan(config)
    assert result.exit_code == 0, result.output
    assert "2026-10-26 (Europe/Paris), EUR/MWh and kW" in result.output
    assert "no prices for 24 steps after 2026-10-26" in result.output
    assert "bid for the day" in result.output


def test_a_bid_falls_with_its_price(config: Path) -> None:
    steps = document(config, "--day", "2026-10-24")["bids"][0]["steps"]
    prices, watts = [s["price"] for s in steps], [s["watts"] for s in steps]
    assert prices == sorted(prices, reverse=True)
    assert watts == sorted(watts)
    assert len(steps) > 1


def test_the_limit_leaves_room_for_requests_that_cannot_wait(config: Path) -> None:
    rows = document(config, "--day", "2026-10-24")["rows"]
    assert all(row["limit_w"] >= row["draw_w"] - 0.1 for row in rows)
    dear = [row for row in rows if row["begins"][11:13] == "19"]
    assert dear[0]["limit_w"] > dear[0]["draw_w"]


def test_files_of_a_plan_hold_its_rows_and_a_limit_that_the_service_takes(
    config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = plan(config, "--day", "2026-10-24", "--out", str(out))
    assert result.exit_code == 0, result.output
    with (out / "plan.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 24
    with (out / "bids.csv").open(encoding="utf-8") as file:
        assert {row["product"] for row in csv.DictReader(file)} == {"day"}
    body = NewLimit.model_validate_json((out / "limits.json").read_bytes())
    assert body.name == "day-ahead"
    assert body.steps(0.0)[0].from_s == datetime(2026, 10, 23, 22, tzinfo=UTC).timestamp()
    assert body.expires == datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--day", "2026-11-24"], "asked for prices of 2026-11-24, found those from 2026-10-24"),
        (["--prices", "none.csv"], "none.csv: no such file"),
    ],
)
def test_what_cannot_be_planned_is_one_line(config: Path, options: list[str], line: str) -> None:
    result = plan(config, *options)
    assert result.exit_code == 2
    assert line in result.output


def test_a_run_without_a_plan_says_what_is_missing(config: Path, tmp_path: Path) -> None:
    given = yaml.safe_load(CONFIG)
    del given["grid"]
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    result = plan(config, "--prices", str(tmp_path / "prices.csv"))
    assert result.exit_code == 2
    assert "grid.plan: asked for what tokens are worth, found no such section" in result.output
