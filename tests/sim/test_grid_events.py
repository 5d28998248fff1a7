"""Drills in virtual time: the same limits, verdicts and use of the notice as in a live run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from steppe.config import RunConfig
from steppe.load.arrivals import Arrival
from steppe.report.records import TickRecord
from steppe.roofline.lengths import RequestLengths
from steppe.sim.batch_jobs import Job
from steppe.sim.build import emulated_replica, fleet_of, kind_of, scenario_of
from steppe.sim.points import modelled_frontier
from steppe.sim.run import RecordsInMemory, run_scenario

LONG_S, STARTS_S, DOWN_S, HOLD_S, UP_S, SETTLE_S = 100.0, 40.0, 4.0, 20.0, 6.0, 20.0
HOLDS_S = STARTS_S + DOWN_S
ENDS_HOLD_S = HOLDS_S + HOLD_S
EVENT = {"ramp_down_s": DOWN_S, "hold_s": HOLD_S, "ramp_up_s": UP_S, "settle_s": SETTLE_S}

Run = Callable[..., list[TickRecord]]


def config_of(drills: list[dict[str, Any]]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "engine": {"kind": "synthetic", "max_batch_limit": 16},
            "fleet": {"replicas": 4},
            "device": {"kind": "emulated", "profile": "l4"},
            "power": {"supply": [{"kind": "constant", "watts": 400.0}]},
            "frontier": {"sweep": {}},
            "control": {"drain_s": 10.0, "batch": {"step_s": 10.0, "steps": 12, "every_s": 5.0}},
            "gateway": {"max_waiting": 5000, "max_wait_s": 1000},
            "sim": {"duration_s": LONG_S},
            "grid": {"drills": drills},
        }
    )


def poisson(rate_rps: float) -> tuple[Arrival, ...]:
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.exponential(1 / rate_rps, int(LONG_S * rate_rps)))
    return tuple(
        Arrival(at_s, int(rng.integers(1, 200)), int(rng.integers(1, 60)))
        for at_s in times_s.tolist()
        if at_s < LONG_S
    )


@pytest.fixture(scope="module")
def run() -> Run:
    """Run a fleet of four replicas through drills."""

    def ticks(drill: dict[str, Any], rate_rps: float, *jobs: Job) -> list[TickRecord]:
        config = config_of([EVENT | drill])
        kind = kind_of(config, emulated_replica(config.device, 1))  # type: ignore[arg-type]
        lengths = RequestLengths(100, 30)
        frontier = modelled_frontier(kind, range(1020, 2041, 60), (4, 8, 12, 16), lengths)
        made = scenario_of(config, fleet_of(config, kind), frontier, poisson(rate_rps))
        made = replace(made, jobs=jobs)
        records = RecordsInMemory()
        run_scenario(made, 1.0, records)
        return records.ticks

    return ticks


def between(ticks: list[TickRecord], begin_s: float, end_s: float) -> list[TickRecord]:
    return [tick for tick in ticks if begin_s < tick.t_s <= end_s]


def test_a_busy_fleet_follows_an_event_without_notice_and_makes_no_rebound(run: Run) -> None:
    ticks = run({"after_s": STARTS_S, "share": 0.7}, 80.0)
    before, held = between(ticks, 0.0, STARTS_S - 1), between(ticks, HOLDS_S + 2, ENDS_HOLD_S)
    settled = between(ticks, ENDS_HOLD_S, ENDS_HOLD_S + UP_S + SETTLE_S)
    assert {tick.budget_source for tick in before} == {"constant"}
    assert {tick.budget_source for tick in held} == {"drill/drill-1"}
    baseline_w = held[0].grid.baseline_w if held[0].grid is not None else None
    assert baseline_w is not None
    assert all(tick.draw_w <= 1.05 * 0.7 * baseline_w for tick in held)
    assert np.mean([tick.draw_w for tick in held]) > 0.65 * baseline_w
    assert all(tick.draw_w <= 1.02 * baseline_w for tick in settled)
    assert all(tick.waiting for tick in settled)


def test_an_event_that_begins_at_once_is_followed_before_the_next_period(run: Run) -> None:
    drill = {"after_s": STARTS_S + 0.3, "share": 0.7, "ramp_down_s": 0.0}
    found = [tick.t_s for tick in run(drill, 80.0) if STARTS_S < tick.t_s <= STARTS_S + 1.0]
    assert found == pytest.approx([STARTS_S + 0.4, STARTS_S + 1.0])


def test_that_a_site_cannot_comply_is_in_the_record_before_the_start(run: Run) -> None:
    drill = {"after_s": STARTS_S - 20.0, "notice_s": 20.0, "watts": 1.0}
    ticks = run(drill, 80.0)
    announced = between(ticks, STARTS_S - 19.0, STARTS_S)
    assert {tick.grid.complies for tick in announced if tick.grid is not None} == {False}
    assert all(tick.grid is not None and "asked for" in tick.grid.reason for tick in announced)
    held = between(ticks, HOLDS_S + 2, ENDS_HOLD_S)
    assert {tick.grid.complies for tick in held if tick.grid is not None} == {False}


def test_that_a_site_can_comply_is_in_the_record_before_the_start(run: Run) -> None:
    drill = {"after_s": STARTS_S - 20.0, "notice_s": 20.0, "share": 0.8}
    ticks = run(drill, 80.0)
    announced = between(ticks, STARTS_S - 18.0, STARTS_S)
    found = [tick.grid for tick in announced]
    assert all(each is not None and each.complies and each.target_w is None for each in found)
    assert not any(tick.grid for tick in between(ticks, 0.0, STARTS_S - 21.0))


def test_rows_of_a_batch_stop_before_the_event_begins(run: Run) -> None:
    job = Job("rows", 0.0, 50_000, 100.0, 20.0)
    ticks = run({"after_s": STARTS_S - 30.0, "notice_s": 30.0, "share": 0.5}, 5.0, job)
    early, late = between(ticks, 5.0, STARTS_S - 20.0), between(ticks, STARTS_S - 4.0, STARTS_S)
    assert rows(late) < 0.5 * rows(early)
    assert all(tick.grid is not None and tick.grid.baseline_w is not None for tick in late)
    asked_w = [0.5 * tick.grid.baseline_w for tick in late if tick.grid and tick.grid.baseline_w]
    assert [tick.budget_source for tick in late] == ["constant"] * len(late)
    assert all(tick.draw_w < watts for tick, watts in zip(late, asked_w, strict=True))


def rows(ticks: list[TickRecord]) -> float:
    """Return the mean number of rows that replicas have."""
    return float(np.mean([tick.batch.running for tick in ticks if tick.batch is not None]))
