"""A policy around another one: batch work gets the watts that its plan gives it, and no more.

While only batch rows wait, the inner policy sees no more budget than firm requests need or the plan
of the batch work uses. As soon as a firm request waits, it sees the whole budget.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from steppe.config import RunConfig
from steppe.control.batch_work import BatchPace, BatchWork, When
from steppe.control.horizon.batch import (
    ROW_FACTOR,
    BatchOutlook,
    BatchPlan,
    plan_batch,
    slowest_tpot_s,
)
from steppe.control.horizon.capacity import Capacity
from steppe.control.horizon.forecast_error import ForecastErrors
from steppe.control.loop import LOOKS
from steppe.control.plan import Plan
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.policy import Foresight, Policy
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.power.budget import PowerBudget

STEP_SHARE = 0.1
"""A change of budget, surplus or firm demand by more than this share is a reason to plan again."""
FIRM_MEMORY_S = 86_400.0
"""How long the highest firm demand is remembered, s of trace time."""
MORE, LESS, MOST_ROOM = 1.05, 0.99, 2.0
"""The watts that are kept for firm requests grow by the first factor at each tick at which one of
them waits, and fall by the second at the others; up to so many times what they need at best."""
EXCESS_SHARE, FEW_ROWS = 0.05, 0.02
"""Weight of the last tick in what firm requests are known to draw beyond their best points; and the
share of the requests up to which rows are too few to be part of that."""
ONE_ROOM = 1.1
"""Budget for one replica over its least draw: a margin of it is left free."""


@dataclass(frozen=True, slots=True)
class BatchPool:
    """The replicas that serve one model.

    Attributes:
        model: The model, by the name that clients use; empty for the only one.
        frontier: Operating points of one replica that keep the SLO, if any does.
        replicas: Number of replicas.
    """

    model: str
    frontier: Frontier
    replicas: int

    @property
    def capacity(self) -> Capacity:
        """Tokens of watts."""
        return Capacity.of(self.frontier, self.replicas)


@dataclass(frozen=True, slots=True)
class BatchTerms:
    """How batch work is planned; times are those of the run.

    Attributes:
        budget: Forecast of the GPUs' budget.
        surplus: Forecast of the part of it that is surplus.
        step_s: Length of a step, s.
        steps: Number of steps to plan.
        every_s: Time between two plans, s.
        day_s: Length of a day, s.
        persists: Whether the present is the forecast.
        has_surplus: Whether some supply is bought and another is not.
        limits: The limits of the GPUs' power ahead, W; None if none are known ahead.
        drain_s: How long a replica may finish its requests, s.
    """

    budget: Foresight
    surplus: Foresight
    step_s: float
    steps: int
    every_s: float
    day_s: float = FIRM_MEMORY_S
    persists: bool = False
    has_surplus: Callable[[], bool] = lambda: True
    limits: Foresight | None = None
    drain_s: float = 0.0

    @classmethod
    def of(cls, config: RunConfig, budget: PowerBudget) -> BatchTerms:
        """Return the terms of a configured run.

        Args:
            config: The run.
            budget: Its power budget.
        """
        section, speedup = config.control.batch, config.power.speedup
        return cls(
            budget=budget.forecast,
            surplus=budget.surplus,
            step_s=section.step_s / speedup,
            steps=section.steps,
            every_s=max(config.control.period_s, section.every_s / speedup),
            day_s=FIRM_MEMORY_S / speedup,
            persists=section.forecast == "persistence",
            has_surplus=lambda: budget.has_surplus,
            limits=budget.limits_ahead,
            drain_s=config.control.drain_s,
        )

    def ahead(self, source: Foresight, now_s: float) -> list[float]:
        """Return the watts now and at the start of each step to come, W."""
        if self.persists:
            return [source(now_s, 0.5 * self.step_s, self.step_s)[0][1]] * self.steps
        return [watts for _, watts in source(now_s, (self.steps - 0.5) * self.step_s, self.step_s)]

    def lowest_w(self, observation: Observation, row_s: float) -> float:
        """Return the lowest budget until rows that are sent now have ended, W.

        Args:
            observation: The budget now.
            row_s: Time that a row takes, s.
        """
        if self.limits is None:
            return observation.gpu_budget_w
        ahead_s = self.drain_s + row_s
        coming = self.limits(observation.now_s, ahead_s, ahead_s / LOOKS)
        return min([observation.gpu_budget_w, *(watts for _, watts in coming)])


@dataclass(frozen=True, slots=True)
class _Planned:
    """The last plan of all models, and what it was made for.

    Attributes:
        plans: The plan of each model.
        paces: The pace of each job, by its key.
        at_s: When it was made, s.
        seen: Surplus, lowest budget until a row ends, and firm demands then.
        jobs: The keys and kinds of the jobs then.
    """

    plans: Mapping[str, BatchPlan] = field(default_factory=dict)
    paces: Mapping[str, BatchPace] = field(default_factory=dict)
    at_s: float = -math.inf
    seen: tuple[float, ...] = ()
    jobs: frozenset[tuple[str, str, When]] = frozenset()


@dataclass(slots=True)
class FirmDemand:
    """The highest firm demand of the last day, from the mean of each hour of it.

    Attributes:
        day_s: Length of a day, s.
    """

    day_s: float
    _hours: dict[int, tuple[float, int]] = field(default_factory=dict)

    def update(self, now_s: float, tps: float) -> float:
        """Add the demand of now; return the highest of the last day, tokens/s."""
        hour = int(now_s / self.day_s * 24)
        mean, count = self._hours.get(hour, (0.0, 0))
        self._hours[hour] = mean + (tps - mean) / (count + 1), count + 1
        for old in [each for each in self._hours if each <= hour - 24]:
            del self._hours[old]
        return max(mean for mean, _ in self._hours.values())


class PlanBatch:
    """Plans batch work, and limits the budget of another policy while only rows wait."""

    def __init__(self, policy: Policy, pools: Sequence[BatchPool], terms: BatchTerms) -> None:
        """Begin without a plan.

        Args:
            policy: Chooses the operating points.
            pools: The models and their replicas.
            terms: How batch work is planned.
        """
        self.policy, self._terms = policy, terms
        self._pools = {pool.model: pool for pool in pools}
        self._errors = ForecastErrors(terms.step_s)
        self._firm = {pool.model: FirmDemand(terms.day_s) for pool in pools}
        self._planned, self._firm_room, self._excess_w = _Planned(), 1.0, 0.0

    @property
    def pools(self) -> tuple[BatchPool, ...]:
        """The models and their replicas."""
        return tuple(self._pools.values())

    def decide(self, observation: Observation) -> Plan:
        """Return the plan of the other policy, with the pace of each job."""
        demands = self._demands(observation)
        most = {m: self._firm[m].update(observation.now_s, tps) for m, tps in demands.items()}
        self._learn_excess(observation, demands)
        if not observation.batch:
            self._planned = _Planned()
            return self.policy.decide(observation)
        surplus_w = self._terms.surplus(observation.now_s, self._terms.step_s, self._terms.step_s)
        lowest_w = self._terms.lowest_w(observation, self._row_s(observation))
        seen = (surplus_w[0][1], lowest_w, *demands.values())
        if self._is_due(observation, seen):
            self._planned = self._plan(observation, demands, most, seen)
        limited = self._limited(observation, demands, surplus_w[0][1])
        return replace(self.policy.decide(limited), batch=self._planned.paces)

    def _learn_excess(self, observation: Observation, demands: Mapping[str, float]) -> None:
        """Learn what firm requests draw beyond their best points: whole replicas, room to spare."""
        rows = observation.deferrable.running + observation.deferrable.waiting
        if observation.draw_w is None or rows > FEW_ROWS * observation.outstanding:
            return
        best_w = sum(pool.capacity.watts(demands.get(m, 0.0)) for m, pool in self._pools.items())
        excess_w = max(0.0, observation.draw_w - best_w)
        self._excess_w += EXCESS_SHARE * (excess_w - self._excess_w)

    def _is_due(self, observation: Observation, seen: tuple[float, ...]) -> bool:
        planned = self._planned
        if observation.now_s - planned.at_s >= self._terms.every_s:
            return True
        scale = max(observation.gpu_budget_w, 1e-9)
        moved = [abs(a - b) for a, b in zip(seen[:2], planned.seen[:2], strict=True)]
        return max(moved) > STEP_SHARE * scale or _kinds(observation.batch) != planned.jobs

    def _plan(
        self,
        observation: Observation,
        demands: Mapping[str, float],
        most: Mapping[str, float],
        seen: tuple[float, ...],
    ) -> _Planned:
        """Plan the models one after the other, that with the next deadline first."""
        terms = self._terms
        budget_w = np.array(terms.ahead(terms.budget, observation.now_s))
        budget_w[0] = min(budget_w[0], seen[1])
        surplus_ahead = terms.ahead(terms.surplus, observation.now_s)
        surplus_w = np.minimum(np.array(surplus_ahead), budget_w)
        self._errors.note(observation.now_s, surplus_ahead)
        trusted = np.array(self._errors.certain_w(surplus_ahead))
        certain_w = budget_w - surplus_w + np.minimum(surplus_w, trusted)
        has_surplus, plans = terms.has_surplus(), {}
        others_w = {m: np.array(self._pools[m].capacity.watts(t)) for m, t in demands.items()}
        for model, jobs in self._by_model(observation.batch).items():
            pool = self._pools[model]
            others = (w for m, w in others_w.items() if m != model)
            taken_w = sum(others, np.array(self._excess_w))
            outlook = BatchOutlook(
                step_s=terms.step_s,
                budget_w=np.maximum(0.0, budget_w - taken_w),
                surplus_w=np.maximum(0.0, surplus_w - taken_w),
                certain_w=np.maximum(0.0, certain_w - taken_w),
                firm_tps=demands.get(model, 0.0),
                most_firm_tps=most.get(model, 0.0),
                has_surplus=has_surplus,
            )
            plans[model] = plan_batch(pool.frontier, pool.replicas, outlook, jobs)
            others_w[model] = np.array(plans[model].draw_w)
        paces = {key: pace for plan in plans.values() for key, pace in plan.paces.items()}
        return _Planned(plans, paces, observation.now_s, seen, _kinds(observation.batch))

    def _row_s(self, observation: Observation) -> float:
        """Return the longest time that a mean row of any job takes, s."""
        slowest_s = max(slowest_tpot_s(pool.frontier) for pool in self._pools.values())
        tokens = max(job.output_tokens / max(1, job.rows) for job in observation.batch)
        return ROW_FACTOR * slowest_s * tokens

    def _by_model(self, work: Sequence[BatchWork]) -> dict[str, list[BatchWork]]:
        """Return the jobs of each model that has any, the next deadline first."""
        found: defaultdict[str, list[BatchWork]] = defaultdict(list)
        for job in sorted(work, key=lambda j: math.inf if j.due_in_s is None else j.due_in_s):
            model = job.model if job.model in self._pools else next(iter(self._pools))
            found[model].append(job)
        return found

    def _demands(self, observation: Observation) -> dict[str, float]:
        """Return the output tokens per second of firm requests for each model."""
        if not observation.pools:
            firm = observation.demand_tps - observation.deferrable.tps
            return {next(iter(self._pools)): max(0.0, firm)}
        found = dict.fromkeys(self._pools, 0.0)
        for name, part in observation.pools.items():
            model = name.partition(" on ")[0] if name not in found else name
            if model in found:
                found[model] += max(0.0, part.demand_tps - part.deferrable.tps)
        return found

    def _limited(
        self, observation: Observation, demands: Mapping[str, float], surplus_w: float
    ) -> Observation:
        """Return the observation with the budget that the inner policy may use."""
        if _firm_waits(observation):
            self._firm_room = min(MOST_ROOM, self._firm_room * MORE)
            return observation
        self._firm_room = max(1.0, self._firm_room * LESS)
        if not any(pace.runs for pace in self._planned.paces.values()):
            return _without_waiting_rows(observation)
        plans, needed_w = self._planned.plans, 0.0
        if any(plan.is_urgent for plan in plans.values()):
            return observation
        for model, pool in self._pools.items():
            asleep_w = pool.replicas * pool.frontier.asleep_w
            one_w = ONE_ROOM * (pool.frontier.floor.draw_w - pool.frontier.asleep_w)
            firm_w = pool.capacity.watts(demands.get(model, 0.0) * (1 + SPARE_SHARE))
            firm_w = asleep_w + self._firm_room * (firm_w + one_w - asleep_w)
            plan = plans.get(model, BatchPlan())
            must_w = max(plan.must_w + self._excess_w, asleep_w + one_w) if plan.must_w else 0.0
            wants_w = min(plan.wants_w + self._excess_w, surplus_w) if plan.wants_w else 0.0
            needed_w += max(firm_w, must_w, wants_w)
        return observation.with_budget(min(observation.gpu_budget_w, needed_w))


def _firm_waits(observation: Observation) -> bool:
    """Whether a request waits for watts that is no row; those in sleeping replicas may be rows."""
    rows = observation.deferrable
    return observation.waiting > rows.waiting or observation.frozen > rows.running


def _without_waiting_rows(observation: Observation) -> Observation:
    """Return what a policy sees while no job may run: rows that wait already are no reason to wake.

    They are served with the firm requests.
    """
    rows = observation.deferrable.waiting
    if not rows:
        return observation
    none = replace(observation.deferrable, waiting=0, tokens=0.0)
    pools = {name: _without_waiting_rows(part) for name, part in observation.pools.items()}
    waiting = max(0, observation.waiting - rows)
    return replace(observation, waiting=waiting, deferrable=none, pools=pools)


def _kinds(work: Sequence[BatchWork]) -> frozenset[tuple[str, str, When]]:
    return frozenset((job.key, job.model, job.when) for job in work)
