"""How fast batch work of one model runs now: a plan of a day with quantities and deadlines.

Three rates are compared. What the linear program of the horizon runs on the surplus of this step,
at good operating points. What must run now, because a later start could miss a deadline: it counts
on no more supply than came after earlier forecasts (`forecast_error`). And, for jobs with
`when: deadline`, what a steady pace needs. The largest of them is the pace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steppe.control.batch_work import BatchPace, BatchWork, PaceReason, When
from steppe.control.horizon.capacity import Capacity, Floats
from steppe.control.horizon.inputs import Deferrable, HorizonInputs, HorizonPlan, HorizonTerms
from steppe.control.horizon.solve import plan_horizon
from steppe.frontier.pareto import Frontier

REAL_SHARE = 0.9
"""Part of the hull's output that is counted on: replicas are whole, and some watts stay free."""
STEADY_FACTOR = 1.05
"""A steady pace is a little faster than the deadline needs."""
ROW_FACTOR = 1.5
"""Time of the last rows, in that of a mean row: they are read and written, too."""
ALL_SHARE = 0.97
"""From this share of the surplus on, a plan uses all of it, whatever comes until the next plan."""
URGENT_STEPS = 2
"""A job whose deadline is nearer may use the whole budget: its last rows may be in replicas that
sleep, and these wake."""
LEAST_S = 1.0
"""What is due sooner is due within this time, s."""
LEAST_SHARE = 1e-3
"""Less of the output of all replicas is not worth sending a row for."""
SURE_Z = 1.645
"""Standard deviations below the mean that a normal variable exceeds with 95 %."""
OUTPUT_SPREAD = 0.05
"""Standard deviation of the tokens that remain, share of them: they are an estimate."""


@dataclass(frozen=True, slots=True)
class BatchOutlook:
    """What is expected in each step; the first is the present.

    Attributes:
        step_s: Length of a step, s.
        budget_w: Watts for the replicas of the model, W.
        surplus_w: The part of it that is surplus, W.
        certain_w: The part of the budget that may be counted on, W.
        firm_tps: Output tokens per second of firm requests now.
        most_firm_tps: The most of them that may come.
        has_surplus: Whether some supply is bought and another is not.
    """

    step_s: float
    budget_w: Floats
    surplus_w: Floats
    certain_w: Floats
    firm_tps: float
    most_firm_tps: float
    has_surplus: bool = True


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How the batch work of one model runs.

    Attributes:
        paces: The pace of each job, by its key.
        must_w: Draw of the replicas that deadlines need now, firm requests included, W.
        wants_w: Draw up to which surplus is used now, W.
        draw_w: Draw of the replicas in each step, W.
        is_urgent: Whether a deadline is so near that rows may use the whole budget.
    """

    paces: Mapping[str, BatchPace] = field(default_factory=dict)
    must_w: float = 0.0
    wants_w: float = 0.0
    draw_w: tuple[float, ...] = ()
    is_urgent: bool = False


def plan_batch(
    frontier: Frontier, replicas: int, outlook: BatchOutlook, jobs: Sequence[BatchWork]
) -> BatchPlan:
    """Return how batch work runs now.

    Args:
        frontier: Operating points of one replica.
        replicas: Number of replicas of the model.
        outlook: What is expected.
        jobs: The jobs that the model serves, at least one.
    """
    capacity = Capacity.of(frontier, replicas)
    lines = _Lines.of(outlook, capacity, sorted(jobs, key=_due_s), slowest_tpot_s(frontier))
    terms = HorizonTerms(frontier, replicas, outlook.step_s)
    plan = plan_horizon(terms, lines.inputs())
    return lines.plan(plan)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The jobs by deadline, and the rates of the replicas in each step, tokens/s.

    Attributes:
        outlook: What is expected.
        capacity: Tokens of watts.
        jobs: The jobs, the next deadline first.
        left_s: Time until the last row of each must be sent, s; infinite without a deadline.
        due_steps: The last step that ends by then; -1 if none does.
        expected: What batch work may have, if the forecast comes true.
        certain: What it may count on.
    """

    outlook: BatchOutlook
    capacity: Capacity
    jobs: Sequence[BatchWork]
    left_s: Sequence[float]
    due_steps: Sequence[float]
    expected: Floats
    certain: Floats

    @classmethod
    def of(
        cls, outlook: BatchOutlook, capacity: Capacity, jobs: Sequence[BatchWork], tpot_s: float
    ) -> _Lines:
        expected = np.maximum(0.0, capacity.tps(outlook.budget_w) - outlook.firm_tps)
        certain = np.maximum(0.0, capacity.tps(outlook.certain_w) - outlook.most_firm_tps)
        certain = REAL_SHARE * certain
        left_s = [_left_s(job, tpot_s) for job in jobs]
        due = [_due_step(each_s, outlook.step_s) for each_s in left_s]
        soonest = max(REAL_SHARE * float(expected[0]), 1e-9) * outlook.step_s
        for number, job in enumerate(jobs):
            if job.when is When.NOW:
                due[number] = min(due[number], math.ceil(job.output_tokens / soonest))
        return cls(outlook, capacity, jobs, left_s, due, expected, certain)

    @property
    def tokens(self) -> Floats:
        """Output tokens of each job."""
        return np.array([job.output_tokens for job in self.jobs])

    def inputs(self) -> HorizonInputs:
        """Return the jobs as deferrable quantities; what is due already is due in this step."""
        steps, outlook = len(self.outlook.budget_w), self.outlook
        work = [
            Deferrable(steps if due >= steps else max(0, int(due)), job.output_tokens)
            for job, due in zip(self.jobs, self.due_steps, strict=True)
        ]
        return HorizonInputs(
            supply_w=outlook.budget_w.tolist(),
            demand_tps=[outlook.firm_tps] * steps,
            work=work,
            surplus_w=outlook.surplus_w.tolist(),
        )

    def plan(self, horizon: HorizonPlan) -> BatchPlan:
        """Return the plan, from what the horizon would run."""
        room_tps, firm_tps = float(self.expected[0]), self.outlook.firm_tps
        must_tps = min(room_tps, max(self.must_tps(), self.steady_tps()))
        planned_w = self._planned_w(horizon)
        planned_tps = min(room_tps, max(0.0, self._tps(planned_w) - firm_tps))
        is_urgent = any(job.when is When.NOW and job.output_tokens for job in self.jobs)
        if is_urgent:
            must_tps = room_tps
        return BatchPlan(
            paces=self._paces(max(must_tps, planned_tps), must_tps, horizon),
            must_w=self.capacity.watts((firm_tps + must_tps) / REAL_SHARE) if must_tps else 0.0,
            wants_w=planned_w,
            draw_w=horizon.draw_w,
            is_urgent=any(
                left_s < URGENT_STEPS * self.outlook.step_s and job.rows
                for job, left_s in zip(self.jobs, self.left_s, strict=True)
            ),
        )

    def _planned_w(self, horizon: HorizonPlan) -> float:
        """Return the draw up to which surplus is used now, W; 0 if none is."""
        surplus_w = float(self.outlook.surplus_w[0])
        if horizon.deferred_tps[0] < LEAST_SHARE * self.capacity.most_tps:
            return 0.0
        drawn_w = horizon.draw_w[0]
        return surplus_w if drawn_w >= ALL_SHARE * surplus_w else drawn_w

    def _tps(self, watts: float) -> float:
        return float(self.capacity.tps(np.array([watts]))[0])

    def must_tps(self) -> float:
        """Return the rate that deadlines need now, lest a later start could miss one, tokens/s.

        Within a step, or what is left until a deadline, the tokens must run that the certain output
        after it could not serve. So the rate rises to that output, and never needs more.
        """
        found, step_s = 0.0, self.outlook.step_s
        for left_s, tokens in zip(self.left_s, np.cumsum(self.tokens).tolist(), strict=True):
            if math.isinf(left_s):
                break
            soon_s = max(LEAST_S, min(step_s, left_s))
            later = self._output(self.certain, left_s) - self._output(self.certain, soon_s)
            found = max(found, (tokens - max(0.0, later)) / soon_s)
        return found

    def _output(self, rates: Floats, end_s: float) -> float:
        """Return the tokens of rates from now to a time, s; beyond the horizon at their mean."""
        step_s = self.outlook.step_s
        sums = np.concatenate([[0.0], np.cumsum(rates) * step_s])
        horizon_s = len(rates) * step_s
        if end_s > horizon_s:
            return float(sums[-1]) * end_s / horizon_s
        return float(np.interp(end_s, np.arange(len(sums)) * step_s, sums))

    def steady_tps(self) -> float:
        """Return the rate at which jobs that ask for a steady pace keep their deadlines."""
        return sum(
            STEADY_FACTOR * job.output_tokens / max(LEAST_S, left_s)
            for job, left_s in zip(self.jobs, self.left_s, strict=True)
            if job.when is When.DEADLINE
        )

    def _paces(
        self, pace_tps: float, must_tps: float, horizon: HorizonPlan
    ) -> dict[str, BatchPace]:
        """Return the pace of each job: the next deadline first, as far as the rate goes."""
        left_tps, step_s = pace_tps, self.outlook.step_s
        rates: list[float] = []
        for job in self.jobs:
            rate = min(left_tps, job.output_tokens / step_s)
            rates.append(rate)
            left_tps -= rate
        whole = sum(rates)
        ends = self._ends_s(horizon, pace_tps)
        sums = np.cumsum(self.tokens)
        return {
            job.key: BatchPace(
                tokens_per_s=rate,
                share=rate / whole if whole > 0 else 0.0,
                reason=self._reason(job, rate, must_tps),
                finish_in_s=ends[number],
                sure=self._sure(number, float(sums[number])),
            )
            for number, (job, rate) in enumerate(zip(self.jobs, rates, strict=True))
        }

    def _reason(self, job: BatchWork, rate: float, must_tps: float) -> PaceReason:
        if rate <= 0:
            is_dark = self.expected[0] <= 0
            return PaceReason.NO_POWER if is_dark else PaceReason.WAITS_FOR_SURPLUS
        if job.when is When.NOW:
            return PaceReason.NOW
        surplus_tps = self._tps(float(self.outlook.surplus_w[0])) - self.outlook.firm_tps
        if must_tps > max(0.0, surplus_tps):
            return PaceReason.DEADLINE
        return PaceReason.SURPLUS if self.outlook.has_surplus else PaceReason.HEADROOM

    def _ends_s(self, horizon: HorizonPlan, pace_tps: float) -> list[float | None]:
        """Return the expected time until the last row of each job, s."""
        step_s = self.outlook.step_s
        rates = np.array(horizon.deferred_tps)
        rates[0] = max(rates[0], pace_tps)
        done = np.concatenate([[0.0], np.cumsum(rates)]) * step_s
        times_s = np.arange(len(done)) * step_s
        found: list[float | None] = []
        for tokens in np.cumsum(self.tokens):
            after = int(np.searchsorted(done, tokens * (1 - 1e-6)))
            if after == len(done):
                found.append(None)
                continue
            first = max(0, after - 1)
            span = slice(first, after + 1)
            found.append(float(np.interp(tokens, done[span], times_s[span])))
        return found

    def _sure(self, number: int, tokens: float) -> float | None:
        """Return the probability that a job keeps its deadline, with all that is due before it."""
        left_s = max(0.0, self.left_s[number])
        if self.jobs[number].due_in_s is None:
            return None
        if tokens <= 0:
            return 1.0
        expected = REAL_SHARE * self._output(self.expected, left_s)
        certain = self._output(self.certain, left_s)
        spread = max(0.0, expected - certain) / SURE_Z + OUTPUT_SPREAD * tokens
        z = (expected - tokens) / spread
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _due_s(job: BatchWork) -> float:
    return math.inf if job.due_in_s is None else job.due_in_s


def _left_s(job: BatchWork, tpot_s: float) -> float:
    """Return the time until the last row must be sent, s."""
    if job.due_in_s is None:
        return math.inf
    return job.due_in_s - ROW_FACTOR * tpot_s * job.output_tokens / max(1, job.rows)


def _due_step(left_s: float, step_s: float) -> float:
    """Return the last step that ends within a time; -1 if none does."""
    return left_s if math.isinf(left_s) else max(-1, math.floor(left_s / step_s) - 1)


def slowest_tpot_s(frontier: Frontier) -> float:
    """Return the time per output token at the slowest point, s."""
    return max(point.tpot_s for point in frontier.points)
