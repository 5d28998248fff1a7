"""Batch jobs in virtual time: each row ends once, when the plan says, and on its power."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steppe.config import RunConfig
from steppe.control.admission import DEFERRABLE
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.batch_work import BatchPace, PaceReason, When
from steppe.load.arrivals import Arrival
from steppe.power.budget import PowerBudget
from steppe.power.site_terms import SiteTerms
from steppe.power.supply import Steady, TraceClock, TraceReplay
from steppe.power.trace import SupplyTrace
from steppe.roofline.lengths import RequestLengths
from steppe.sim.batch_jobs import BatchJobs, Job, JobProgress
from steppe.sim.build import emulated_replica, fleet_of, kind_of, policy_of, scenario_of
from steppe.sim.events import EventQueue
from steppe.sim.points import modelled_frontier
from steppe.sim.request import Request
from steppe.sim.run import RecordsInMemory, Scenario, run_scenario

REPLICAS, LONG_S, DAWN_S = 4, 240.0, 100.0
FULL_W = 4 * 72.0


def config_of(**load: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "engine": {"kind": "synthetic", "max_batch_limit": 16},
            "fleet": {"replicas": REPLICAS},
            "device": {"kind": "emulated", "profile": "l4"},
            "power": {"supply": [{"kind": "constant", "watts": FULL_W}], "speedup": 60.0},
            "frontier": {"sweep": {}},
            "control": {"dwell_s": 3.0, "drain_s": 3.0},
            "load": load,
            "sim": {"duration_s": LONG_S},
        }
    )


def scenario(config: RunConfig, arrivals: tuple[Arrival, ...] = ()) -> Scenario:
    kind = kind_of(config, emulated_replica(config.device, 1))  # type: ignore[arg-type]
    frontier = modelled_frontier(
        kind, range(1020, 2041, 60), (4, 8, 12, 16), RequestLengths(100, 30)
    )
    return scenario_of(config, fleet_of(config, kind), frontier, arrivals)


def at_dawn(config: RunConfig) -> Scenario:
    """Return a run on a firm supply to which as much surplus comes at dawn."""
    found = scenario(config)
    sun = SupplyTrace((0.0, DAWN_S * 60, DAWN_S * 60 + 1, 1e6), (0.0, 0.0, FULL_W, FULL_W), None)
    budget = PowerBudget(
        supplies=(TraceReplay(sun, 0.0), Steady(FULL_W)),
        clock=TraceClock(0.0, 60.0),
        terms=SiteTerms(0.0, 0.0, 60.0, 1.0, 0.0),
    )
    policy = found.policy
    assert isinstance(policy, PlanBatch)
    frontier = policy.pools[0].frontier
    inner = policy_of(config, frontier, found.fleet, budget)  # type: ignore[arg-type]
    pools = [BatchPool("", frontier, REPLICAS)]
    return replace(
        found, budget=budget, policy=PlanBatch(inner, pools, BatchTerms.of(config, budget))
    )


def run(made: Scenario) -> tuple[RecordsInMemory, list[JobProgress]]:
    records, progress = RecordsInMemory(), list[JobProgress]()
    run_scenario(made, 1.0, records, progress.extend)
    return records, progress


def test_every_row_ends_once() -> None:
    job = {"rows": 300, "prompt_tokens": 50, "output_tokens": 20, "when": "now"}
    records, (progress,) = run(scenario(config_of(utilisation=0.0, jobs=[job])))
    done = [request for request in records.requests if request.finish == "length"]
    assert len(done) == len(records.requests) == progress.finished == 300
    assert {request.priority for request in done} == {"deferrable"}
    assert progress.output_tokens == sum(request.output_tokens for request in done)
    assert progress.ended_s is not None
    assert progress.rows_left == 0


def test_work_waits_for_the_surplus_of_the_day() -> None:
    job = {"rows": 300, "prompt_tokens": 50, "output_tokens": 20, "deadline_s": 230.0}
    records, (progress,) = run(at_dawn(config_of(utilisation=0.0, jobs=[job])))
    assert DAWN_S - 2 <= (progress.began_s or 0.0) <= DAWN_S + 10
    assert not progress.is_late(LONG_S)
    batch = [tick.batch for tick in records.ticks if tick.batch is not None]
    assert {"waits_for_surplus", "surplus"} <= {tick.reason for tick in batch}
    drawn_w = sum(tick.draw_w for tick in batch)
    known = [(t.batch, t.draw_w) for t in records.ticks if t.batch is not None]
    assert sum(b.from_surplus_w(whole_w) for b, whole_w in known) > 0.9 * drawn_w


@pytest.mark.parametrize("when", ["surplus", "deadline"])
def test_a_deadline_before_the_surplus_is_kept_on_bought_power(when: str) -> None:
    job = {"rows": 300, "prompt_tokens": 50, "output_tokens": 20, "deadline_s": 90.0, "when": when}
    _, (progress,) = run(at_dawn(config_of(utilisation=0.0, jobs=[job])))
    assert (progress.ended_s or 1e9) <= 90.0


def test_a_run_without_jobs_has_no_batch_part() -> None:
    records, progress = run(scenario(config_of(utilisation=0.3)))
    assert progress == []
    assert {tick.batch for tick in records.ticks} == {None}


def test_a_row_that_is_refused_is_sent_again() -> None:
    sent: list[tuple[int, Arrival]] = []
    queue = EventQueue()
    jobs = BatchJobs(
        queue, lambda: len(sent) + 1, lambda n, a: sent.append((n, a)), lambda _: (4, 0)
    )
    jobs.expect([Job("j", 0.0, 10, 50, 20, when=When.NOW)])
    queue.run_until(0.0)
    jobs.set_paces({"batch/j": BatchPace(1.0, 1.0, PaceReason.NOW)})
    assert len(sent) == 6  # four places, and two that wait
    number, arrival = sent[0]
    assert arrival.rank == DEFERRABLE
    refused = Request(number, arrival)
    refused.end(0.0, "shed", 0)
    jobs.end(refused)
    (work,) = jobs.work(0.0)
    assert (work.rows, len(sent)) == (10, 6)
    jobs.set_paces({"batch/j": BatchPace(1.0, 1.0, PaceReason.NOW)})
    assert len(sent) == 7
    assert (sent[6][1].prompt_tokens, sent[6][1].output_tokens) == (
        arrival.prompt_tokens,
        arrival.output_tokens,
    )


def test_a_job_without_a_pace_sends_no_row() -> None:
    queue = EventQueue()
    jobs = BatchJobs(queue, lambda: 1, lambda _n, _a: pytest.fail("a row"), lambda _: (4, 0))
    jobs.expect([Job("j", 0.0, 10, 50, 20, due_s=5.0)])
    queue.run_until(0.0)
    jobs.set_paces({"batch/j": BatchPace(0.0, 0.0, PaceReason.WAITS_FOR_SURPLUS)})
    (work,) = jobs.work(1.0)
    assert (work.rows, work.due_in_s, work.output_tokens) == (10, 4.0, 200)
