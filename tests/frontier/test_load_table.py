"""What a replica does under every load, against the simulator that steps through each request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.modelled_fleet import modelled_fleet, requests_of

from steppe.control.plan import Plan
from steppe.control.state import Observation
from steppe.frontier.load_table import (
    KV_SHARE,
    TAIL,
    LoadTable,
    ending_of,
    load_table,
    most_ending,
    prompt_steps,
)
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import ClockCosts, StepCosts, StepTerms
from steppe.sim.build import scenario_of
from steppe.sim.run import RecordsInMemory, run_scenario

REPLICAS, BATCH = 4, 256
LOADS = (0.3, 0.6, 0.8)
"""Loads that are simulated, share of the most requests per second."""
LIGHT = 0.05
"""A light load. The table takes an idle replica to be at the lowest clock, and every prompt to be a
mean one, which shows most here: the draw and the TTFT tail are too low."""
RESIDENCES = 2
"""A simulated replica is filled after so many times the mean time of a request in it."""
COSTS = StepCosts(
    (
        ClockCosts(
            990, StepTerms(0.03, 0.004, 1e-4, 6e-5, 2e-8), StepTerms(18.0, 4.0, 0.1, 0.09, 2e-5)
        ),
        ClockCosts(
            1980, StepTerms(0.02, 0.002, 6e-5, 3e-5, 2e-8), StepTerms(20.0, 3.0, 0.12, 0.08, 3e-5)
        ),
    ),
    2048,
    400_000,
)
IDLE_W = 400.0
MIXES = [
    RequestLengths(1155, 211),
    RequestLengths(2000, 30),
    RequestLengths(8000, 300),
    RequestLengths(500, 1500),
]
SHARES = [0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0]
lengths_of = st.builds(RequestLengths, st.floats(1, 12_000), st.floats(1, 4000), st.floats(0, 4000))


def name_of(lengths: RequestLengths) -> str:
    return f"{lengths.prompt_tokens}/{lengths.output_tokens}"


def table_of(lengths: RequestLengths, shares: list[float], replicas: int = REPLICAS) -> LoadTable:
    """Return the loads that are shares of the most."""
    ending = most_ending(COSTS, lengths) * np.array(shares)
    return load_table(COSTS, lengths, ending, IDLE_W, replicas)


@dataclass(frozen=True)
class AtOnePoint:
    """A policy that keeps all replicas at one operating point."""

    point: OperatingPoint

    def decide(self, observation: Observation) -> Plan:
        return Plan((self.point,) * len(observation.replicas), 1e6)


@dataclass(frozen=True)
class Load:
    """What the table says of a replica under a load."""

    rate_rps: float
    draw_w: float
    running: float
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True)
class Simulated:
    """What a replica of a simulated fleet did."""

    draw_w: float
    running: float
    ttft_s: float
    tpot_s: float


def simulated(lengths: RequestLengths, clock_mhz: int, load: Load) -> Simulated:
    """Return what the simulator says of a steady load on each replica."""
    made = modelled_fleet("70b", REPLICAS)
    begin_s = 10 + RESIDENCES * load.running / load.rate_rps
    end_s = begin_s + max(20.0, 200 / load.rate_rps / REPLICAS)
    arrivals = requests_of(lengths, REPLICAS * load.rate_rps, (0.0, end_s))
    policy = AtOnePoint(OperatingPoint(clock_mhz, BATCH, 1.0, 1.0))
    scenario = scenario_of(made.config, made.fleet, made.frontier, arrivals, policy)
    records = RecordsInMemory()
    run_scenario(replace(scenario, duration_s=end_s), 1.0, records)
    ticks = [tick for tick in records.ticks if tick.t_s > begin_s]
    requests = [request for request in records.requests if request.arrival_s > begin_s]
    ended = [request for request in requests if request.finish == "length"]
    return Simulated(
        float(np.mean([tick.draw_w for tick in ticks])) / REPLICAS,
        float(np.mean([tick.running for tick in ticks])) / REPLICAS,
        tail([request.ttft_s for request in requests if request.ttft_s is not None]),
        tail([request.tpot_s for request in ended if request.tpot_s]),
    )


def tail(times_s: list[float]) -> float:
    return float(np.quantile(times_s, 1 - TAIL))


def load_of(lengths: RequestLengths, clock_mhz: int, share: float) -> Load:
    """Return a load by its share of the most requests per second."""
    frontier = modelled_fleet("70b", REPLICAS).frontier
    assert frontier.costs is not None
    costs = frontier.costs.at([clock_mhz])
    ending = most_ending(costs, lengths) * np.geomspace(0.005, 1.0, 200)
    table = load_table(costs, lengths, ending, frontier.idle_w, REPLICAS)
    at = int(np.argmax(table.rate_rps[0] >= share * table.rate_rps.max()))
    clocked = (table.rate_rps, table.draw_w, table.ttft_s, table.tpot_s)
    rate_rps, draw_w, ttft_s, tpot_s = (float(each[0, at]) for each in clocked)
    return Load(rate_rps, draw_w, float(table.running[at]), ttft_s, tpot_s)


@pytest.mark.parametrize("clock_mhz", [1200, 1980])
@pytest.mark.parametrize("lengths", MIXES, ids=name_of)
def test_the_table_comes_close_to_the_simulator(lengths: RequestLengths, clock_mhz: int) -> None:
    for share in LOADS:
        load = load_of(lengths, clock_mhz, share)
        found = simulated(lengths, clock_mhz, load)
        assert load.draw_w == pytest.approx(found.draw_w, rel=0.1)
        assert load.running == pytest.approx(found.running, rel=0.25)
        assert 0.85 * found.tpot_s < load.tpot_s < 1.45 * found.tpot_s
        assert 0.6 * found.ttft_s < load.ttft_s < 1.2 * found.ttft_s


@pytest.mark.parametrize("lengths", MIXES, ids=name_of)
def test_at_a_light_load_the_table_leaves_out_idle_clocks_and_long_prompts(
    lengths: RequestLengths,
) -> None:
    load = load_of(lengths, 1980, LIGHT)
    found = simulated(lengths, 1980, load)
    assert 0.8 * found.draw_w < load.draw_w < found.draw_w
    assert load.running == pytest.approx(found.running, rel=0.15)
    assert 0.9 * found.tpot_s < load.tpot_s < 2 * found.tpot_s
    assert 0.45 * found.ttft_s < load.ttft_s < found.ttft_s


@given(lengths_of, st.integers(1, 64))
def test_requests_draw_and_running_requests_rise_with_the_load(
    lengths: RequestLengths, replicas: int
) -> None:
    table = table_of(lengths, SHARES, replicas)
    assert (np.diff(table.running) > 0).all()
    for rising in (table.rate_rps, table.draw_w, table.step_s):
        assert (np.diff(rising) > -1e-9 * rising[:, 1:]).all()
    assert (table.draw_w >= IDLE_W).all()


@given(lengths_of, st.integers(1, 64))
def test_latency_rises_with_the_load_and_is_at_least_a_step(
    lengths: RequestLengths, replicas: int
) -> None:
    table = table_of(lengths, SHARES, replicas)
    assert (table.ttft_s[:, 1:] >= table.ttft_s[:, :-1] * (1 - 1e-9)).all()
    assert (table.ttft_s > table.step_s).all()
    if lengths.output_tokens > 1:
        assert (table.tpot_s >= table.step_s).all()


@given(lengths_of)
def test_a_higher_clock_serves_more_and_sooner(lengths: RequestLengths) -> None:
    slow, fast = range(2)
    table = table_of(lengths, SHARES)
    assert (table.rate_rps[fast] > table.rate_rps[slow]).all()
    assert (table.step_s[fast] < table.step_s[slow]).all()


def test_prompts_that_come_faster_than_they_are_computed_wait_for_ever() -> None:
    table = table_of(RequestLengths(2000, 30), [0.5, 1.0])
    assert np.isfinite(table.ttft_s[:, 0]).all()
    assert np.isinf(table.ttft_s[:, -1]).all()


def test_replicas_that_serve_one_queue_wait_less() -> None:
    alone, together = (table_of(RequestLengths(4000, 50), [0.6], n).ttft_s for n in (1, 16))
    assert (together < alone).all()


def test_requests_of_one_token_have_no_time_per_token() -> None:
    assert not table_of(RequestLengths(300, 1), SHARES).tpot_s.any()


def test_a_replica_without_work_draws_what_an_idle_one_does() -> None:
    table = table_of(RequestLengths(1155, 211), [1e-6])
    assert table.draw_w.ravel() == pytest.approx([IDLE_W, IDLE_W], rel=1e-3)


@given(lengths_of, st.lists(st.integers(1, 512), min_size=1, max_size=8))
def test_a_full_batch_ends_no_more_requests_than_tokens_and_cache_allow(
    lengths: RequestLengths, batches: list[int]
) -> None:
    ending = ending_of(COSTS, lengths, np.array(batches, dtype=float))
    assert (ending > 0).all()
    assert (ending <= most_ending(COSTS, lengths) * (1 + 1e-12)).all()
    computed = ending * (lengths.prompt_tokens + lengths.output_tokens - 1)
    assert (computed <= COSTS.tokens_per_step * (1 + 1e-9)).all()
    assert (ending * (lengths.output_tokens - 1) <= batches).all()


def test_the_kv_cache_limits_how_many_requests_run() -> None:
    lengths = RequestLengths(500, 8000)
    costs = replace(COSTS, kv_tokens=50_000)
    ending = np.array([most_ending(costs, lengths)])
    running = load_table(costs, lengths, ending).running.item()
    assert running * lengths.context_tokens == pytest.approx(KV_SHARE * 50_000, rel=0.01)
    assert most_ending(COSTS, lengths) > most_ending(costs, lengths)


def test_a_prompt_takes_more_steps_beside_sequences_that_decode() -> None:
    lengths = RequestLengths(4096, 100)
    assert prompt_steps(COSTS, lengths, 0) == 2
    assert prompt_steps(COSTS, lengths, 1024) == 4
    assert prompt_steps(COSTS, RequestLengths(10, 100), 1024) == 1
