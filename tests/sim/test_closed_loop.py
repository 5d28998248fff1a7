"""Whole runs with the shipped policy: a traffic that changes, points that are wrong, a budget."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise
from statistics import fmean

import pytest
from tests.fixtures.modelled_fleet import MODELS, SWEPT, modelled_fleet, requests_of

from steppe.config import PowerSection
from steppe.control.plan import Plan
from steppe.control.policy.policy import Policy
from steppe.control.state import Observation
from steppe.frontier.at_lengths import LatencyLimits, PointsNeed, points_at
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival
from steppe.power.budget import budget_from_config
from steppe.report.latency import within_slo
from steppe.report.records import RequestRecord, Slo, TickRecord
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import CostFactors
from steppe.sim.build import policy_of, scenario_of
from steppe.sim.run import RecordsInMemory, run_scenario

REPLICAS = 4
SUMMARIES = RequestLengths(2000, 30)
MODEL, SLO = "70b", Slo(2.0, MODELS["70b"][2])
SWITCH_S, RECOVERY_S, END_S = 30.0, 60.0, 120.0
ALLOWED_SHARE, MINUTES = 0.005, 2
"""Energy above the budget, share of that of a run of so many minutes."""


@dataclass(frozen=True)
class Wrong:
    """How the known points differ from the true ones.

    Attributes:
        draw: Known over true draw.
        speed: Known over true speed.
    """

    draw: float = 1.0
    speed: float = 1.0

    def of(self, frontier: Frontier) -> Frontier:
        """Return the points as the policy knows them."""
        assert frontier.costs is not None
        points = [
            replace(
                point,
                draw_w=self.draw * point.draw_w,
                output_tps=self.speed * point.output_tps,
                tpot_s=point.tpot_s / self.speed,
            )
            for point in frontier.candidates
        ]
        asleep_w, idle_w = self.draw * frontier.asleep_w, self.draw * frontier.idle_w
        time, energy = 1 / self.speed, self.draw / self.speed
        costs = frontier.costs.scaled(CostFactors(time, time, energy, energy))
        found = Frontier.of(points, asleep_w, idle_w, frontier.source)
        return found.with_costs(costs, frontier.lengths)


def capacity_of(lengths: RequestLengths) -> tuple[float, float]:
    """Return requests per second and draw, W, of all replicas at their highest point."""
    made = modelled_fleet(MODEL, REPLICAS)
    slo = made.config.slo
    need = PointsNeed(lengths, LatencyLimits(slo.ttft_s, slo.tpot_s), 256, REPLICAS)
    full = points_at(made.frontier, need).full.full
    return REPLICAS * full.output_tps / lengths.output_tokens, REPLICAS * full.draw_w


@dataclass
class Watched:
    """A policy, with what it observed and planned.

    Attributes:
        policy: The policy.
        seen: Each observation, with the plan for it.
    """

    policy: Policy
    seen: list[tuple[Observation, Plan]] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        plan = self.policy.decide(observation)
        self.seen.append((observation, plan))
        return plan


@dataclass(frozen=True)
class Run:
    """What happened in a run."""

    ticks: list[TickRecord]
    requests: list[RequestRecord]
    seen: list[tuple[Observation, Plan]]

    def attainment(self, begin_s: float, end_s: float) -> float:
        """Return the share of the requests that arrived within a time and kept the SLO."""
        judged = [
            within_slo(request, SLO)
            for request in self.requests
            if begin_s <= request.arrival_s < end_s
        ]
        known = [each for each in judged if each is not None]
        return sum(known) / len(known)

    def draw_w(self, begin_s: float, end_s: float) -> float:
        return fmean(tick.draw_w for tick in self.ticks if begin_s < tick.t_s <= end_s)

    def over_j(self, begin_s: float = 0.0) -> float:
        """Return the energy above the budget, J."""
        windows = [(a.t_s, b) for a, b in pairwise(self.ticks) if a.t_s >= begin_s]
        return sum((b.t_s - a_s) * max(0.0, b.draw_w - b.budget_w) for a_s, b in windows)


def run(
    arrivals: tuple[Arrival, ...],
    budget_w: float,
    duration_s: float,
    policy: str = "follow_budget",
    known: Frontier | None = None,
) -> Run:
    """Let a policy serve requests within a constant budget, with the points that it knows."""
    made = modelled_fleet(MODEL, REPLICAS)
    known = known or made.frontier
    control = made.config.control.model_copy(update={"policy": policy})
    power = PowerSection.model_validate({"supply": [{"kind": "constant", "watts": budget_w}]})
    config = made.config.model_copy(update={"control": control, "power": power})
    budget = budget_from_config(power, config.site)
    watched = Watched(policy_of(config, known, made.fleet, budget))
    scenario = scenario_of(config, made.fleet, known, arrivals, watched)
    records = RecordsInMemory()
    run_scenario(replace(scenario, duration_s=duration_s), 1.0, records)
    return Run(records.ticks, records.requests, watched.seen)


def switched(policy: str) -> Run:
    """Return a run in which summaries follow conversation, with more watts than can be drawn."""
    (chat_rps, chat_w), (rps, most_w) = capacity_of(SWEPT), capacity_of(SUMMARIES)
    arrivals = requests_of(SWEPT, 0.55 * chat_rps, (0.0, SWITCH_S)) + requests_of(
        SUMMARIES, 0.55 * rps, (SWITCH_S, END_S)
    )
    return run(arrivals, 1.1 * max(chat_w, most_w), END_S, policy)


@pytest.fixture(scope="module")
def full_clocks() -> Run:
    return switched("full_clocks")


@pytest.mark.parametrize("policy", ["follow_budget", "save_energy"])
def test_a_traffic_that_changes_stays_within_the_slo_for_fewer_joules_than_full_clocks(
    policy: str, full_clocks: Run
) -> None:
    found = switched(policy)
    assert found.attainment(5.0, SWITCH_S) >= 0.95
    assert found.attainment(SWITCH_S, SWITCH_S + RECOVERY_S) >= 0.8
    assert found.attainment(SWITCH_S + RECOVERY_S, END_S - 5.0) >= 0.95
    for begin_s, end_s in ((15.0, SWITCH_S), (SWITCH_S + RECOVERY_S, END_S)):
        assert found.draw_w(begin_s, end_s) <= 0.75 * full_clocks.draw_w(begin_s, end_s)
    lengths = found.seen[-1][0].lengths
    assert lengths is not None
    assert lengths.prompt_tokens == pytest.approx(SUMMARIES.prompt_tokens, rel=0.15)
    assert lengths.output_tokens == pytest.approx(SUMMARIES.output_tokens, rel=0.25)


@pytest.mark.parametrize("wrong", [Wrong(d, s) for d in (0.6, 1.6) for s in (0.6, 1.6)], ids=str)
def test_points_that_are_wrong_in_watts_and_speed_are_learned_and_the_budget_is_kept(
    wrong: Wrong,
) -> None:
    rate_rps, most_w = capacity_of(SWEPT)
    budget_w, end_s = 0.6 * most_w, 50.0
    known = wrong.of(modelled_fleet(MODEL, REPLICAS).frontier)
    arrivals = requests_of(SWEPT, 0.9 * rate_rps, (0.0, end_s))
    found = run(arrivals, budget_w, end_s, known=known)
    factors = found.seen[-1][1].learned.factors
    for time, energy in (
        (factors.decode_time, factors.decode_energy),
        (factors.prompt_time, factors.prompt_energy),
    ):
        assert time == pytest.approx(wrong.speed, rel=0.12)
        assert energy / time == pytest.approx(1 / wrong.draw, rel=0.12)
    assert found.over_j() <= ALLOWED_SHARE * MINUTES * 60 * budget_w
    assert found.over_j(begin_s=30.0) == 0.0
    assert found.draw_w(30.0, end_s) >= 0.9 * budget_w


def test_points_that_are_right_stay_as_they_are_and_need_no_guard() -> None:
    (rate_rps, most_w), end_s = capacity_of(SWEPT), 60.0
    arrivals = requests_of(SWEPT, 0.55 * rate_rps, (0.0, end_s))
    found = run(arrivals, 1.1 * most_w, end_s)
    for observation, plan in found.seen:
        learned = plan.learned
        assert not learned.at_ceiling
        if observation.now_s > 20:
            assert astuple(learned.factors) == pytest.approx((1.0,) * 4, abs=0.12)
    works = [work for observation, _ in found.seen for work in observation.work]
    assert all(0 < work.prefill_steps <= work.steps for work in works if work.prompt_tokens)
    # Steps take no more time and energy than there are; windows of a clock that moved are missing.
    assert 0.3 * REPLICAS * end_s < sum(work.busy_s for work in works) < REPLICAS * end_s
    assert sum(work.energy_j for work in works) < end_s * found.draw_w(0.0, end_s)


def misses_beside_unused_watts(observation: Observation, before: Observation) -> bool:
    """Return whether requests wait and miss the SLO beside unused watts."""
    now, then, draw_w = observation.latency, before.latency, observation.draw_w
    assert now is not None
    assert then is not None
    missed = now.late - then.late + now.slow - then.slow + now.overdue
    waits = observation.work_waits or observation.engine_queue > 0
    is_unused = draw_w is not None and draw_w < 0.95 * observation.gpu_budget_w
    return waits and missed > 0 and is_unused


@pytest.mark.parametrize("policy", ["follow_budget", "save_energy"])
def test_points_that_claim_three_times_the_true_speed_end_at_the_ceiling_within_ten_seconds(
    policy: str,
) -> None:
    swept = modelled_fleet(MODEL, REPLICAS).frontier
    # Without the costs of a step nothing is learned but what the SLO shows.
    known = replace(Wrong(speed=3.0).of(swept), costs=None)
    (rate_rps, most_w), busy_s, end_s = capacity_of(SUMMARIES), 30.0, 75.0
    arrivals = requests_of(SUMMARIES, 0.7 * rate_rps, (0.0, busy_s)) + requests_of(
        SUMMARIES, 0.1 * rate_rps, (busy_s, end_s)
    )
    found = run(arrivals, 1.1 * most_w, end_s, policy, known)
    missed = [b for (a, _), (b, _) in pairwise(found.seen) if misses_beside_unused_watts(b, a)]
    guarded = [observation.now_s for observation, plan in found.seen if plan.learned.at_ceiling]
    assert guarded[0] - missed[0].now_s <= 10.0
    plan = next(plan for _, plan in found.seen if plan.learned.at_ceiling)
    assert [point.clock_mhz for point in plan.awake] == [known.full.clock_mhz] * REPLICAS
    assert found.draw_w(guarded[0] + 2.0, guarded[0] + 8.0) >= 0.8 * most_w
    assert not found.seen[-1][1].learned.at_ceiling
    assert found.draw_w(end_s - 5.0, end_s) < 0.6 * most_w
