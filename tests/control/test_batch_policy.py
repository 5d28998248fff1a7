"""Batch work gets the watts that its plan gives it, and firm requests never wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.batch_policy import BatchPool, BatchTerms, FirmDemand, PlanBatch
from steppe.control.batch_work import BatchWork, PaceReason
from steppe.control.plan import Plan
from steppe.control.policy.policy import Foresight
from steppe.control.state import DeferrableWork, Observation, ReplicaState
from steppe.frontier.pareto import Frontier

REPLICAS, STEP_S, DRAIN_S = 4, 900.0, 30.0
AWAKE = ReplicaState.AWAKE


@dataclass
class Seen:
    """A policy that notes the budgets that it is given."""

    budgets_w: list[float] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        self.budgets_w.append(observation.gpu_budget_w)
        return Plan((), 0.0)


@dataclass
class Supply:
    """A forecast of one value for ever."""

    watts: float

    def __call__(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> Sequence[tuple[float, float]]:
        return [(now_s + i * step_s, self.watts) for i in range(round(horizon_s / step_s + 0.5))]


@dataclass
class Site:
    frontier: Frontier
    budget: Supply
    surplus: Supply
    inner: Seen = field(default_factory=Seen)

    limits: Foresight | None = None

    def __post_init__(self) -> None:
        terms = BatchTerms(
            self.budget, self.surplus, STEP_S, 24, every_s=60.0, limits=self.limits, drain_s=DRAIN_S
        )
        self.policy = PlanBatch(self.inner, [BatchPool("", self.frontier, REPLICAS)], terms)

    def observation(self, *work: BatchWork, rows: int = 0, firm: int = 0) -> Observation:
        fleet = FakeFleet.of([AWAKE] * REPLICAS, self.budget.watts, waiting=rows + firm)
        deferrable = DeferrableWork(0.0, rows, 0.0)
        found = replace(fleet.observation, demand_tps=0.0, deferrable=deferrable)
        return replace(found, batch=work)


def job(tokens: float = 1e9, due_s: float | None = None, id_: str = "j") -> BatchWork:
    return BatchWork(id_, "t", "m", 1000, 0, tokens, due_s)


def site(frontier: Frontier, budget_share: float, surplus_share: float) -> Site:
    full_w = REPLICAS * frontier.full.draw_w
    return Site(frontier, Supply(budget_share * full_w), Supply(surplus_share * full_w))


def test_without_batch_work_the_other_policy_sees_the_whole_budget(frontier: Frontier) -> None:
    found = site(frontier, 1.0, 0.5)
    assert found.policy.decide(found.observation()).batch == {}
    assert found.inner.budgets_w == [found.budget.watts]


def test_while_only_rows_wait_no_more_than_the_surplus_is_drawn(frontier: Frontier) -> None:
    found = site(frontier, 1.0, 0.5)
    plan = found.policy.decide(found.observation(job(), rows=9))
    assert plan.batch["t/j"].reason is PaceReason.SURPLUS
    assert found.inner.budgets_w == [found.surplus.watts]


def test_a_firm_request_that_waits_gets_the_whole_budget(frontier: Frontier) -> None:
    found = site(frontier, 1.0, 0.5)
    found.policy.decide(found.observation(job(), rows=9, firm=1))
    assert found.inner.budgets_w == [found.budget.watts]


def test_a_deadline_draws_bought_power_and_one_replica_at_least(frontier: Frontier) -> None:
    found = site(frontier, 1.0, 0.0)
    rested = found.policy.decide(found.observation(job(1000.0, 20 * STEP_S)))
    assert rested.batch["t/j"].reason is PaceReason.WAITS_FOR_SURPLUS
    hurried = found.policy.decide(found.observation(job(1.76e6, 3 * STEP_S, "k"), rows=9))
    assert hurried.batch["t/k"].reason is PaceReason.DEADLINE
    one_w = frontier.floor.draw_w + 3 * frontier.asleep_w
    assert one_w <= found.inner.budgets_w[-1] < found.budget.watts


def test_shortly_before_a_deadline_rows_may_use_the_whole_budget(frontier: Frontier) -> None:
    found = site(frontier, 1.0, 0.0)
    found.policy.decide(found.observation(job(1000.0, STEP_S), rows=9))
    assert found.inner.budgets_w == [found.budget.watts]


def test_work_is_planned_again_when_the_surplus_moves_or_another_job_comes(
    frontier: Frontier,
) -> None:
    found = site(frontier, 1.0, 0.5)
    first = found.policy.decide(found.observation(job()))
    assert found.policy.decide(found.observation(job())).batch is first.batch
    both = found.policy.decide(found.observation(job(), job(id_="k")))
    assert set(both.batch) == {"t/j", "t/k"}
    found.surplus.watts = 0.0
    dark = found.policy.decide(found.observation(job(), job(id_="k")))
    assert {pace.reason for pace in dark.batch.values()} == {PaceReason.WAITS_FOR_SURPLUS}


def test_rows_stop_before_a_limit_falls_to_what_firm_requests_need(frontier: Frontier) -> None:
    full_w, falls_s = REPLICAS * frontier.full.draw_w, 100.0

    def limits(now_s: float, horizon_s: float, step_s: float) -> Sequence[tuple[float, float]]:
        times_s = [now_s + (step + 1) * step_s for step in range(round(horizon_s / step_s))]
        return [(at_s, full_w if at_s < falls_s else 0.5 * full_w) for at_s in times_s]

    supply = Supply(full_w)
    found = Site(frontier, supply, supply, limits=limits)
    firm_tps = found.policy.pools[0].capacity.tps(np.array([0.5 * full_w]))[0]
    seen = replace(found.observation(job()), demand_tps=float(firm_tps))
    runs = {
        now_s: found.policy.decide(replace(seen, now_s=now_s)).batch["t/j"].runs
        for now_s in (0.0, 60.0, 69.0, 71.0, 99.0)
    }
    assert runs == {0.0: True, 60.0: True, 69.0: True, 71.0: False, 99.0: False}


def test_the_highest_firm_demand_is_remembered_for_a_day() -> None:
    demand = FirmDemand(day_s=24.0)
    assert demand.update(0.0, 5.0) == 5.0
    assert demand.update(10.0, 1.0) == 5.0
    assert demand.update(23.5, 1.0) == 5.0
    assert demand.update(24.0, 1.0) == 1.0
