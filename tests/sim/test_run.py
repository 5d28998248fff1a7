"""Whole runs: what is written down adds up, and what happens is what was configured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steppe.config import ControlSection, HorizonSection, PowerSection, RunConfig, SiteSection
from steppe.load.arrivals import Arrival
from steppe.report.records import RunTotals
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import emulated_replica, fleet_of, kind_of, scenario_of
from steppe.sim.events import EventQueue
from steppe.sim.points import modelled_frontier
from steppe.sim.run import Failure, RecordsInMemory, Scenario, run_scenario

REPLICAS, LONG_S = 4, 120.0
ENOUGH_W = 400.0


def config_of(watts: float = ENOUGH_W, **sim: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "engine": {"kind": "synthetic", "max_batch_limit": 16},
            "fleet": {"replicas": REPLICAS},
            "device": {"kind": "emulated", "profile": "l4"},
            "power": {"supply": [{"kind": "constant", "watts": watts}]},
            "frontier": {"sweep": {}},
            "gateway": {"max_waiting": 5000, "max_wait_s": 1000},
            "sim": {"duration_s": LONG_S, **sim},
        }
    )


def poisson(rate_rps: float, output_tokens: int = 30) -> tuple[Arrival, ...]:
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.exponential(1 / rate_rps, int(LONG_S * rate_rps)))
    return tuple(
        Arrival(at_s, int(rng.integers(1, 200)), int(rng.integers(1, 2 * output_tokens)))
        for at_s in times_s.tolist()
        if at_s < LONG_S
    )


def scenario(config: RunConfig, arrivals: tuple[Arrival, ...]) -> Scenario:
    kind = kind_of(config, emulated_replica(config.device, 1))  # type: ignore[arg-type]
    frontier = modelled_frontier(
        kind, range(1020, 2041, 60), (4, 8, 12, 16), RequestLengths(100, 30)
    )
    return scenario_of(config, fleet_of(config, kind), frontier, arrivals)


def run(made: Scenario) -> tuple[RecordsInMemory, RunTotals]:
    records = RecordsInMemory()
    return records, run_scenario(made, 1.0, records)


@pytest.fixture(scope="module")
def tight() -> tuple[RecordsInMemory, RunTotals]:
    """Return a run in which the budget holds the fleet back."""
    return run(scenario(config_of(150.0), poisson(20.0)))


def test_the_parts_of_the_energy_add_up(tight: tuple[RecordsInMemory, RunTotals]) -> None:
    records, totals = tight
    charged_j = sum(request.energy_j or 0.0 for request in records.requests)
    parts_j = charged_j + totals.idle_energy_j + totals.transition_energy_j
    assert parts_j == pytest.approx(totals.energy_j, rel=1e-9)
    assert charged_j > 0.5 * totals.energy_j


@pytest.mark.parametrize(
    ("boundary", "site_j"),
    [("node", 0.0), ("site", 0.25)],
)
def test_joules_of_the_node_or_the_site_are_charged_and_the_gpus_follow_what_is_left(
    tight: tuple[RecordsInMemory, RunTotals], boundary: str, site_j: float
) -> None:
    rest_w, pue = 100.0, 1.0 + site_j
    config = config_of((150.0 + 2 * rest_w) * pue)  # four replicas on two nodes of two GPUs
    site = {"boundary": boundary, "node_rest_w": rest_w, "pue": pue}
    config = config.model_copy(update={"site": SiteSection.model_validate(site)})
    records, totals = run(scenario(config, poisson(20.0)))
    charged_j = sum(request.energy_j or 0.0 for request in records.requests)
    parts_j = charged_j + totals.idle_energy_j + totals.transition_energy_j
    assert parts_j == pytest.approx(totals.energy_j, rel=1e-9)
    gpus_j, rest_j = tight[1].energy_j, 2 * rest_w * LONG_S
    assert totals.energy_j == pytest.approx(pue * (gpus_j + rest_j), rel=0.01)
    assert totals.boundary == boundary
    assert {request.boundary for request in records.requests} == {boundary}
    settled = [tick for tick in records.ticks if tick.waiting and tick.t_s > 30]
    assert np.mean([tick.draw_w for tick in settled]) == pytest.approx(150.0, rel=0.08)
    assert {tick.node_rest_w for tick in records.ticks} == {2 * rest_w}
    ticks_j = sum(tick.energy_j for tick in records.ticks)
    assert ticks_j == pytest.approx(totals.energy_j, rel=0.02)
    assert charged_j > 0.5 * totals.energy_j


def test_every_request_is_recorded_once(tight: tuple[RecordsInMemory, RunTotals]) -> None:
    names = [request.id for request in tight[0].requests]
    assert len(names) == len(set(names)) == len(poisson(20.0))


def test_everything_is_called_modelled(tight: tuple[RecordsInMemory, RunTotals]) -> None:
    records, totals = tight
    assert totals.energy_source == "modelled"
    assert {request.energy_source for request in records.requests} == {"modelled"}


def test_the_draw_follows_a_budget_that_holds_the_fleet_back(
    tight: tuple[RecordsInMemory, RunTotals],
) -> None:
    settled = [tick for tick in tight[0].ticks if tick.waiting and tick.t_s > 30]
    assert len(settled) > 20
    draws_w = np.array([tick.draw_w for tick in settled])
    assert draws_w.mean() == pytest.approx(150.0, rel=0.08)
    assert (draws_w < 151.5).mean() > 0.97


def test_ticks_add_up_to_the_tokens_of_the_requests() -> None:
    records, _ = run(scenario(config_of(), poisson(2.0)[:150]))
    tokens = sum(request.output_tokens for request in records.requests)
    assert sum(tick.output_tokens for tick in records.ticks) == pytest.approx(tokens, rel=0.01)
    assert {request.finish for request in records.requests} == {"length"}


def test_the_draw_is_down_when_a_known_cut_comes(tmp_path: Path) -> None:
    cut_s, low_w = 60.35, 120.0
    rows = [(0.0, 170.0), (cut_s, 170.0), (cut_s + 1e-3, low_w), (LONG_S, low_w)]
    supply = tmp_path / "supply.csv"
    supply.write_text("t_s,watts\n" + "".join(f"{at_s},{watts}\n" for at_s, watts in rows))
    file = {"time_column": "t_s", "power_column": "watts", "watts_per_unit": 1}
    config = config_of()
    trace = {"kind": "trace", "path": str(supply), **file}
    power = PowerSection.model_validate({"supply": [trace]})
    made = scenario(config.model_copy(update={"power": power}), poisson(20.0))
    made = replace(made, duration_s=cut_s + 3.0)
    over_j = [over_after(run(replace(made, lead_s=lead_s))[0], cut_s) for lead_s in (0.0, 0.4)]
    assert over_j[0] > 1.0
    assert over_j[1] == 0.0


def over_after(records: RecordsInMemory, cut_s: float) -> float:
    """Return what was drawn above the budget in the two seconds after a cut, J."""
    windows = [(a.t_s, b) for a, b in pairwise(records.ticks) if cut_s < b.t_s <= cut_s + 2]
    return sum(max(0.0, t.draw_w - t.budget_w) * (t.t_s - at_s) for at_s, t in windows)


def test_the_same_run_twice_is_the_same_to_the_last_digit(
    tight: tuple[RecordsInMemory, RunTotals],
) -> None:
    again = run(scenario(config_of(150.0), poisson(20.0)))
    assert again == tight


def test_requests_without_an_end_are_cancelled_with_what_they_had() -> None:
    made = scenario(config_of(), (Arrival(1.0, 100, 100_000),))
    records, totals = run(made)
    (request,) = records.requests
    assert request.outcome == "cancelled"
    assert 1000 < request.output_tokens < 100_000
    assert request.energy_j is not None
    assert request.energy_j > 0.1 * totals.energy_j


def test_requests_fail_with_their_replica_unless_no_token_came_yet() -> None:
    arrivals = tuple(Arrival(at_s, 20, 400) for at_s in (2.0, 2.1, 2.2, 2.3, 9.99))
    made = scenario(config_of(start_s=20.0), arrivals)
    failures = tuple(Failure(10.0, replica) for replica in range(REPLICAS))
    records, totals = run(replace(made, failures=failures))
    ends = sorted((request.arrival_s, request.finish) for request in records.requests)
    assert [finish for _, finish in ends] == ["failed"] * 4 + ["length"]
    last = next(request for request in records.requests if request.finish == "length")
    assert last.e2e_s is not None
    assert last.e2e_s > 20.0
    assert totals.transition_energy_j > 0
    states = {replica.state for tick in records.ticks for replica in tick.replicas}
    assert {"awake", "gone", "starting"} <= states


def test_starting_replicas_take_only_their_own_draw_from_the_budget() -> None:
    budget_w, transition_w = 300.0, 100.0
    config = config_of(budget_w, start_s=60.0, transition_w=transition_w)
    made = scenario(config, poisson(20.0))
    failures = (Failure(20.5, 0), Failure(20.5, 1))
    records, _ = run(replace(made, failures=failures))
    during = [tick for tick in records.ticks if 30 <= tick.t_s < 80]
    beside_w = [tick.draw_w - 2 * transition_w for tick in during]
    assert np.mean(beside_w) > 0.8 * (budget_w - 2 * transition_w)


def test_a_shortage_is_recorded_before_it_begins(tmp_path: Path) -> None:
    supply = tmp_path / "supply.csv"
    supply.write_text("t,w\n" + "".join(f"{t},{400 if t < 60 else 20}\n" for t in range(200)))
    trace = {"kind": "trace", "path": str(supply), "time_column": "t", "power_column": "w"}
    config = config_of()
    power = PowerSection.model_validate({"supply": [{**trace, "watts_per_unit": 1}]})
    records, _ = run(scenario(config.model_copy(update={"power": power}), poisson(2.0)))
    floors = {
        round(tick.t_s): shortage
        for tick in records.ticks
        for shortage in tick.shortages
        if shortage.of == "floor"
    }
    assert set(floors) == {round(tick.t_s) for tick in records.ticks}
    assert floors[20].begins_in_s == pytest.approx(40.0, abs=5.0)
    assert floors[20].ends_in_s is None
    assert floors[100].begins_in_s == 0.0


def test_waking_takes_time_and_energy() -> None:
    arrivals = (*poisson(0.2)[:3], *(Arrival(60.0 + i / 50, 50, 60) for i in range(400)))
    slow, quick = (run(scenario(config_of(wake_s=s), arrivals)) for s in (6.0, 0.0))
    assert slow[1].transition_energy_j > 50
    assert quick[1].transition_energy_j == 0
    assert mean_e2e_s(slow[0]) > mean_e2e_s(quick[0])


def mean_e2e_s(records: RecordsInMemory) -> float:
    return float(np.mean([request.e2e_s for request in records.requests]))


def test_a_cut_with_requests_inside_drains_and_sleeps() -> None:
    records, _ = run(scenario(config_of(90.0), poisson(20.0)))
    states = {replica.state for tick in records.ticks for replica in tick.replicas}
    assert {"awake", "asleep"} <= states


@pytest.mark.parametrize("speedup", [1, 60])
def test_a_battery_keeps_energy_for_a_foreseen_lull(tmp_path: Path, speedup: int) -> None:
    path = tmp_path / "supply.csv"
    rows = ((0, 200), (60, 200), (60.001, 80), (180, 80))
    lines = "\n".join(f"{speedup * at_s},{watts}" for at_s, watts in rows)
    path.write_text(f"t_s,watts\n{lines}\n")
    trace = {"kind": "trace", "path": str(path), "time_column": "t_s", "power_column": "watts"}
    battery = {"capacity_wh": speedup, "max_charge_w": 60, "max_discharge_w": 60}
    supply = [{**trace, "watts_per_unit": 1}]
    power = PowerSection.model_validate({"supply": supply, "battery": battery, "speedup": speedup})
    plain = config_of()
    horizon = HorizonSection(step_s=10 * speedup, steps=12, every_s=5 * speedup)
    control = plain.control.model_copy(update={"horizon": horizon})
    config = plain.model_copy(update={"power": power, "control": control})
    records, _ = run(scenario(config, poisson(20.0)))
    before = [t for t in records.ticks if 40 < t.t_s < 58]
    within = [t for t in records.ticks if 62 < t.t_s < 118]
    assert min(t.supply_w - t.budget_w for t in before) > 0
    assert np.mean([t.supply_w - t.budget_w for t in before]) > 10
    assert np.mean([t.budget_w - t.supply_w for t in within]) > 10
    assert np.mean([t.draw_w for t in within]) > 85


def test_supply_that_is_not_drawn_is_curtailed() -> None:
    records, _ = run(scenario(config_of(), poisson(20.0)))
    assert max(tick.draw_w for tick in records.ticks) < ENOUGH_W
    for tick in records.ticks:
        assert tick.curtailed_w == pytest.approx(ENOUGH_W - tick.draw_w)


def test_costs_follow_requests_not_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    events = count_events(monkeypatch)
    counts, tokens = [], []
    # A policy that moves no limits: each move ends a step early, which is an event.
    config = config_of().model_copy(update={"control": ControlSection(policy="full_clocks")})
    for length in (20, 1000):
        arrivals = tuple(Arrival(1.0 + i, 20, length) for i in range(20))
        before = events[0]
        records, _ = run(scenario(config, arrivals))
        counts.append(events[0] - before)
        tokens.append(sum(request.output_tokens for request in records.requests))
    assert tokens[1] > 20 * tokens[0]
    assert counts[1] < 2 * counts[0]


def count_events(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose one number counts the events from now on."""
    counted = [0]
    at = EventQueue.at

    def counting(queue: EventQueue, *arguments: Any) -> None:
        counted[0] += 1
        at(queue, *arguments)

    monkeypatch.setattr(EventQueue, "at", counting)
    return counted


def test_prompts_that_were_not_computed_are_not_counted() -> None:
    records, _ = run(scenario(config_of(0.0), poisson(2.0)))
    assert records.requests
    assert {request.prompt_tokens for request in records.requests} == {0}
    served, _ = run(scenario(config_of(), poisson(2.0)))
    completed = [request for request in served.requests if request.outcome == "completed"]
    assert len(completed) > 200
    asked = poisson(2.0)
    assert {
        request.prompt_tokens - asked[int(request.id.split("-")[1]) - 1].prompt_tokens
        for request in completed
    } == {0}
