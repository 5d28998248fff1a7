"""The plan of the markets in a grid service: what it hands over, and what it settles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.grid_fleet import GridFleet, Times

from steppe.config import RunConfig, parse_config
from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.frontier.pareto import Frontier
from steppe.grid.limits.limit import Limit, Link, Step
from steppe.grid.openadr.translation import Rate
from steppe.grid.service.links import HTTP, links_of
from steppe.grid.service.plan.part import PlanPart
from steppe.grid.service.seam import FleetPoints, Sample
from steppe.grid.service.settings import GridSettings
from steppe.roofline.point import OperatingPoint

MORNING_S = datetime(2026, 12, 1, 9, 5, tzinfo=UTC).timestamp()
HOUR_S = 3600.0
CONFIG = """
model: {name: none}
engine: {kind: synthetic, max_batch_limit: 16}
fleet: {replicas: 4}
device: {kind: emulated, profile: l4, count: 4}
power: {supply: [{kind: constant, watts: 2000}]}
frontier: {sweep: {prompt_tokens: 144, output_tokens: 26}}
load: {utilisation: 0.25}
grid:
  plan:
    prices: {path: prices.csv}
    token_value: 0.2
    firm_token_value: 10
    work: {tokens_per_day: 4000000}
"""
CHEAP_HOURS = range(3, 6)


def points() -> FleetPoints:
    """Return four replicas that draw 50 W without work, and 100 W at 100 tokens/s."""
    found = [OperatingPoint(mhz, 16, mhz / 10, 50 + mhz / 20, 0.1) for mhz in (500, 800, 1000)]
    return FleetPoints(Frontier.of(found, 10.0, 50.0, "modelled"), 4)


@dataclass
class Planned:
    """A plan of a run.

    Attributes:
        part: The part.
        fleet: The fleet.
        now_s: The clock.
        folder: The folder of the grid.
    """

    part: PlanPart
    fleet: GridFleet
    now_s: Times
    folder: Path

    async def look(self, at_s: float | None = None) -> None:
        """Show the site to the plan, and wait for what it begins."""
        if at_s is not None:
            self.now_s.now_s = at_s
        await self.part.see(await self.fleet.view(0))
        await self.part.planned()

    def limits(self) -> dict[str, Limit]:
        """Return the limits of the plan that are held, with a schedule."""
        held = (each.limit for each in self.fleet.limits._held.limits)
        return {limit.name: limit for limit in held if limit.watts and limit.source == "plan"}

    def in_force(self) -> tuple[str, float]:
        """Return the limit in force."""
        found = self.fleet.limits.in_force()
        assert found is not None
        return found.name, found.watts


Open = Callable[..., Planned]


def write_prices(folder: Path) -> None:
    rows = ["time,price"]
    for day in range(1, 5):
        for hour in range(24):
            price = 20 if hour in CHEAP_HOURS else 9000 if hour == 18 else 90
            rows.append(f"2026-12-{day:02}T{hour:02}:00Z,{price}")
    (folder / "prices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    write_prices(tmp_path)

    def open_(text: str = CONFIG, rates: tuple[Rate, ...] = (), **changed: Any) -> Planned:
        values = yaml.safe_load(text)
        values["grid"]["plan"] |= changed
        run: RunConfig = parse_config(values, "run.yaml", tmp_path)
        assert run.grid is not None
        now_s = Times(MORNING_S)
        fleet = GridFleet(tmp_path, [*links_of(run.grid), Link("other", LARGEST, LARGEST)], now_s)
        fleet.able = points()
        settings = GridSettings(run.grid, tmp_path / "grid", "1-a", now_s(), run=run)
        part = PlanPart(settings, fleet, lambda: rates, now_s)
        return Planned(part, fleet, now_s, tmp_path / "grid")

    return open_


async def test_the_plan_is_a_limit_that_work_that_can_wait_follows(opened: Open) -> None:
    planned = opened()
    await planned.look()
    assert planned.part.shown["problem"] == ""
    limit = planned.limits()["intraday"]
    at_once, at_night = limit.at(MORNING_S), limit.at(MORNING_S + 19 * HOUR_S)
    assert at_once is not None
    assert at_night is not None
    assert at_night > at_once
    assert planned.in_force() == ("plan/intraday", at_once)


async def test_a_lower_limit_of_the_grid_holds_before_the_plan(opened: Open) -> None:
    planned = opened()
    await planned.look()
    planned.fleet.limits.put(Limit("x", HTTP, MORNING_S, (Step(MORNING_S, 90.0),), None, LARGEST))
    assert planned.in_force() == ("http/x", 90.0)


async def test_requests_that_cannot_wait_keep_their_headroom_at_any_price(opened: Open) -> None:
    planned = opened()
    await planned.look()
    site = planned.part._made
    assert site is not None
    needed_w = site.market.site.draw_of((0.25 + 0.25) * 400)
    limit = planned.limits()["intraday"]
    assert min(step.watts for step in limit.watts) >= needed_w - 0.1


async def test_the_next_day_is_bought_at_noon_and_once(opened: Open) -> None:
    planned = opened()
    await planned.look()
    assert set(planned.limits()) == {"intraday"}
    await planned.look(MORNING_S + 3 * HOUR_S)
    assert set(planned.limits()) == {"intraday", "day-ahead"}
    midnight_s = datetime(2026, 12, 2, tzinfo=UTC).timestamp()
    limit = planned.limits()["day-ahead"]
    assert limit.watts[0].from_s == midnight_s
    assert limit.at(midnight_s - 1) is None
    assert planned.part.shown["day_ahead_bought_until"] == "2026-12-03T00:00:00+00:00"
    issued_s = limit.issued_s
    await planned.look(MORNING_S + 4 * HOUR_S)
    assert planned.limits()["day-ahead"].issued_s == issued_s


async def test_the_intraday_plan_takes_over_when_the_day_begins(opened: Open) -> None:
    planned = opened()
    await planned.look(MORNING_S + 3 * HOUR_S)
    await planned.look(datetime(2026, 12, 2, 0, 0, 1, tzinfo=UTC).timestamp())
    assert set(planned.limits()) == {"intraday"}


async def test_nothing_of_a_plan_that_is_stale_holds(opened: Open) -> None:
    planned = opened()
    await planned.look()
    (planned.folder.parent / "prices.csv").unlink()
    await planned.look(MORNING_S + 1000)
    assert "prices.csv: no such file" in planned.part.shown["problem"]
    assert planned.in_force()[0] == "plan/intraday"
    planned.now_s.now_s = MORNING_S + 1900
    assert planned.fleet.limits.in_force() is None
    write_prices(planned.folder.parent)
    await planned.look(MORNING_S + 2000)
    assert planned.in_force()[0] == "plan/intraday"


async def test_a_default_may_hold_while_the_plan_is_stale(opened: Open) -> None:
    planned = opened(default_w=700)
    await planned.look()
    planned.now_s.now_s = MORNING_S + 1900
    assert planned.in_force()[1] == 700


async def test_the_plan_waits_for_operating_points(opened: Open) -> None:
    planned = opened()
    planned.fleet.able = None
    await planned.look()
    assert planned.part.shown["problem"] == "the operating points of the fleet are not known yet"
    planned.fleet.able = points()
    await planned.look(MORNING_S + 30)
    assert planned.limits() == {}
    await planned.look(MORNING_S + 61)
    assert set(planned.limits()) == {"intraday"}


def fed(planned: Planned, from_s: float, watts: float, steps: int) -> None:
    """Let the site draw so many watts for so many spans of a minute."""
    for number in range(steps):
        at_s = from_s + 60.0 * (number + 1)
        planned.fleet.samples.append(
            Sample(len(planned.fleet.samples) + 1, at_s, watts, 60.0, "modelled")
        )


async def test_each_step_that_is_over_is_settled(opened: Open) -> None:
    planned = opened(imbalance_spread=10)
    quarter_s = MORNING_S - MORNING_S % 900
    await planned.look(quarter_s)
    bought_w = planned.part.shown["position_w"]
    fed(planned, quarter_s, 500.0, 16)
    await planned.look(quarter_s + 960)
    (text,) = (planned.folder / "imbalance.jsonl").read_text(encoding="utf-8").splitlines()
    line = json.loads(text)
    assert (line["begins"], line["grid_w"], line["draw_w"]) == (
        "2026-12-01T09:00:00+00:00",
        500,
        500,
    )
    assert line["position_w"] == round(bought_w)
    over_w = 500 - round(bought_w)
    per_mwh = 100 if over_w > 0 else 80
    assert line["amount_micro"] == round(over_w * 900 * per_mwh * 1e6 / 3.6e9)
    assert line["covered_share"] == 1.0
    assert line["energy_source"] == "modelled"
    assert planned.part.shown["last_step"] == line
    assert planned.part.shown["imbalance_amount_micro"] == line["amount_micro"]


async def test_the_usual_draw_becomes_the_demand(opened: Open) -> None:
    planned = opened()
    quarter_s = MORNING_S - MORNING_S % 900
    await planned.look(quarter_s)
    before = planned.part._made
    fed(planned, quarter_s, 390.0, 31)
    await planned.look(quarter_s + 1860)
    after = planned.part._made
    assert before is not None
    assert after is not None
    assert after.intraday.outlook.firm_tps[0] > 1.5 * before.intraday.outlook.firm_tps[0]


async def test_a_service_that_starts_again_goes_on_with_what_was_bought(opened: Open) -> None:
    first = opened()
    await first.look(MORNING_S + 3 * HOUR_S)
    bought = first.part._book.bought
    again = opened()
    await again.part.start()
    assert again.part._book.bought == bought
    await again.look(MORNING_S + 3 * HOUR_S + 60)
    assert again.limits()["day-ahead"].issued_s == first.limits()["day-ahead"].issued_s


async def test_a_step_is_settled_once_though_its_ticks_are_seen_again(opened: Open) -> None:
    planned = opened()
    quarter_s = MORNING_S - MORNING_S % 900
    await planned.look(quarter_s)
    fed(planned, quarter_s, 500.0, 16)
    await planned.look(quarter_s + 960)
    again = opened()
    again.fleet.samples = planned.fleet.samples
    await again.part.start()
    await again.look(quarter_s + 961)
    await again.look(quarter_s + 962)
    assert len((planned.folder / "imbalance.jsonl").read_text(encoding="utf-8").splitlines()) == 1


async def test_a_book_that_is_damaged_does_not_stop_the_run(opened: Open) -> None:
    planned = opened()
    planned.folder.mkdir()
    (planned.folder / "plan.json").write_text("{", encoding="utf-8")
    await planned.part.start()
    await planned.look()
    assert set(planned.limits()) == {"intraday"}


async def test_prices_may_come_from_openadr(opened: Open) -> None:
    rates = (Rate("e/1", "p", "PRICE", 5, MORNING_S - HOUR_S, MORNING_S + 30 * HOUR_S, 0.1, "EUR"),)
    text = CONFIG.replace("prices: {path: prices.csv}", "openadr_prices: true").replace(
        "  plan:",
        "  openadr: {url: 'http://127.0.0.1:1', client_id: a, secret_file: s, default_w: 10000, "
        "most_w: 100000}\n  plan:",
    )
    planned = opened(text, rates)
    await planned.look()
    assert planned.part.shown["problem"] == ""
    assert planned.part.shown["currency"] == "EUR"
    without = opened(text)
    await without.look()
    assert "asked for prices of OpenADR, found none" in without.part.shown["problem"]


def test_a_run_whose_days_pass_faster_is_refused(opened: Open) -> None:
    with pytest.raises(UsageError, match="asked for a run in real time, found power"):
        opened(CONFIG.replace("watts: 2000}]", "watts: 2000}], speedup: 24"))
