"""Factors on the costs of a step, learned from the steps that run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.measurements import ClockWork
from steppe.control.policy.cost_learning import (
    LEAST_FACTOR,
    LEAST_STEPS,
    MOST_FACTOR,
    PRIOR_DEVIATION,
    CostMemory,
    FactorEstimate,
    learn_costs,
)
from steppe.roofline.step_costs import AS_MODELLED, ClockCosts, CostFactors, StepCosts, StepTerms

COSTS = StepCosts(
    (
        ClockCosts(
            1000, StepTerms(0.03, 0.004, 1e-4, 6e-5, 2e-8), StepTerms(18.0, 4.0, 0.1, 0.09, 2e-5)
        ),
        ClockCosts(
            2000, StepTerms(0.02, 0.002, 6e-5, 3e-5, 2e-8), StepTerms(20.0, 3.0, 0.12, 0.08, 3e-5)
        ),
    ),
    2048,
    400_000,
)
factor = st.floats(0.6, 1.6)
factors = st.builds(CostFactors, factor, factor, factor, factor)


def cost_of(costs: StepCosts, clock_mhz: int, work: Sequence[float]) -> tuple[float, float]:
    """Return time, s, and energy, J, of work: a number for each term of a step."""
    here, column = costs.at([clock_mhz]), np.array(work)[:, None]
    return here.time_s(column).item(), here.energy_j(column).item()


def window(
    truth: CostFactors, rng: random.Random, prompt_share: float, noise: float = 0.0
) -> tuple[ClockWork, ...]:
    """Return a window of two clocks in which that share of the steps computes prompts."""
    true = COSTS.scaled(truth)
    found = []
    for clock_mhz in (1000, 1700):
        steps, sequences = rng.randint(20, 60), rng.randint(5, 120)
        prefills = prompt_share * steps
        prompts = prefills * rng.uniform(300, 1200)
        context = steps * sequences * rng.uniform(400, 2000)
        work = steps, prefills, steps * sequences, prompts, context
        busy_s, energy_j = cost_of(true, clock_mhz, work)
        busy_s, energy_j = busy_s * rng.gauss(1, noise), energy_j * rng.gauss(1, noise)
        found.append(ClockWork(clock_mhz, *work, busy_s, energy_j))
    return tuple(found)


def after_windows(
    truth: CostFactors,
    windows: int,
    prompt_shares: tuple[float, float],
    noise: float = 0.0,
    *,
    memory: CostMemory | None = None,
    seed: int = 0,
) -> CostMemory:
    """Return what is known after windows whose share of prompts is drawn between two."""
    rng, memory = random.Random(seed), memory or CostMemory()
    for _ in range(windows):
        made = window(truth, rng, rng.uniform(*prompt_shares), noise)
        memory = learn_costs(made, memory, COSTS)
    return memory


def learned(memory: CostMemory) -> tuple[float, ...]:
    return memory.time.decode, memory.time.prompt, memory.energy.decode, memory.energy.prompt


@settings(max_examples=30)
@given(factors, st.integers(0, 1000))
def test_wrong_costs_are_learned_within_twenty_windows_of_mixed_loads(
    truth: CostFactors, seed: int
) -> None:
    memory = after_windows(truth, 20, (0.05, 0.9), noise=0.01, seed=seed)
    assert learned(memory) == pytest.approx(astuple(truth), rel=0.06)
    assert astuple(memory.used) == pytest.approx(astuple(truth), rel=0.08)


@settings(max_examples=30)
@given(factors, st.integers(0, 1000), st.floats(0.0, 0.6))
def test_the_cost_of_the_load_that_is_there_is_learned_whatever_its_share_of_prompts(
    truth: CostFactors, seed: int, share: float
) -> None:
    memory = after_windows(truth, 20, (share, share), seed=seed)
    (*_, last) = window(truth, random.Random(seed), share)
    work = last.steps, last.prefill_steps, last.sequences, last.prompt_tokens, last.context_tokens
    known = cost_of(COSTS.scaled(CostFactors(*learned(memory))), last.clock_mhz, work)
    assert known == pytest.approx((last.busy_s, last.energy_j), rel=0.05)


def test_a_truth_that_moves_is_followed_within_sixty_windows() -> None:
    cool, hot = CostFactors(), CostFactors(1.1, 1.1, 1.3, 1.3)
    memory = after_windows(cool, 200, (0.05, 0.9), noise=0.01)
    memory = after_windows(hot, 60, (0.05, 0.9), noise=0.01, memory=memory, seed=1)
    assert learned(memory) == pytest.approx(astuple(hot), rel=0.04)


@pytest.mark.parametrize("windows", [1, 5])
@pytest.mark.parametrize("error", [0.001, 0.05, 20.0, 1e4])
def test_a_few_absurd_windows_hardly_move_what_was_learned(error: float, windows: int) -> None:
    truth, rng = CostFactors(1.3, 0.8, 0.9, 1.2), random.Random(4)
    memory = after_windows(truth, 60, (0.05, 0.9), noise=0.01)
    before = learned(memory)
    for _ in range(windows):
        bad = tuple(
            replace(work, busy_s=work.busy_s * error, energy_j=work.energy_j * error)
            for work in window(truth, rng, 0.3)
        )
        memory = learn_costs(bad, memory, COSTS)
    assert learned(memory) == pytest.approx(before, rel=0.05)
    memory = after_windows(truth, 10, (0.05, 0.9), noise=0.01, memory=memory)
    assert learned(memory) == pytest.approx(astuple(truth), rel=0.05)


def test_factors_stay_between_bounds_whatever_the_meters_read() -> None:
    rng, memory = random.Random(4), CostMemory()
    for error in [1e6] * 300 + [1e-6] * 300:
        truth = CostFactors(error, error, error, error)
        memory = learn_costs(window(truth, rng, 0.4), memory, COSTS)
        assert all(LEAST_FACTOR <= each <= MOST_FACTOR for each in learned(memory))


def test_without_work_nothing_changes() -> None:
    memory = after_windows(CostFactors(1.3, 1.3, 1.3, 1.3), 5, (0.1, 0.5))
    few = ClockWork(1000, LEAST_STEPS - 1, 0, 10, 0, 10, 1.0, 100.0)
    for work in ((), (few,)):
        assert learn_costs(work, memory, COSTS) is memory


def test_without_modelled_costs_nothing_is_learned() -> None:
    memory = CostMemory()
    assert learn_costs(window(CostFactors(), random.Random(0), 0.3), memory, None) is memory


def test_a_window_without_energy_teaches_times_only() -> None:
    truth = CostFactors(1.4, 1.4, 1.4, 1.4)
    work = tuple(replace(each, energy_j=0.0) for each in window(truth, random.Random(0), 0.3))
    memory = learn_costs(work, CostMemory(), COSTS)
    assert memory.energy == FactorEstimate()
    assert memory.time.decode > 1.1


def test_deviations_shrink_with_data_and_never_exceed_the_prior() -> None:
    rng, memory = random.Random(2), CostMemory()
    known = [astuple(memory.deviations)]
    for _ in range(40):
        made = window(AS_MODELLED, rng, rng.uniform(0.05, 0.9), 0.01)
        memory = learn_costs(made, memory, COSTS)
        known.append(astuple(memory.deviations))
    assert all(each <= PRIOR_DEVIATION for row in known for each in row)
    assert max(known[3]) < PRIOR_DEVIATION / 2
    assert max(known[-1]) < 0.1 * PRIOR_DEVIATION


def test_loads_that_only_decode_leave_the_factor_of_prompts_at_its_prior() -> None:
    memory = after_windows(CostFactors(1.4, 1.4, 0.8, 0.8), 400, (0.0, 0.0), noise=0.01)
    assert memory.time.decode == pytest.approx(1.4, rel=0.02)
    assert memory.energy.decode == pytest.approx(0.8, rel=0.02)
    assert memory.time.prompt == memory.energy.prompt == 1.0
    assert memory.time.deviations[1] == memory.energy.deviations[1] == PRIOR_DEVIATION


def test_plans_keep_their_factors_until_the_learned_ones_differ_clearly() -> None:
    used, rng, memory = set(), random.Random(3), CostMemory()
    for _ in range(200):
        made = window(CostFactors(1.3, 1.3, 1.3, 1.3), rng, rng.uniform(0.05, 0.9), 0.02)
        memory = learn_costs(made, memory, COSTS)
        used.add(memory.used)
    assert len(used) < 40
    assert astuple(memory.used) == pytest.approx([1.3] * 4, rel=0.05)
