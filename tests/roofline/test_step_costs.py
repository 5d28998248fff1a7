"""The closed form of a step's costs: its fit, its clocks, its factors, and how close it comes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.modelled_fleet import MODELS, modelled_fleet

from steppe.errors import InfeasibleError
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.lengths import DECODED_SHARE, RequestLengths
from steppe.roofline.step_cost_fit import StepRange, StepSample, fit_step_costs, tabulated
from steppe.roofline.step_costs import AS_MODELLED, ClockCosts, CostFactors, StepCosts, StepTerms

SLOW = ClockCosts(
    1000, StepTerms(0.02, 0.004, 1e-4, 6e-5, 2e-8), StepTerms(8.0, 1.5, 0.03, 0.02, 1e-5)
)
FAST = ClockCosts(
    2000, StepTerms(0.01, 0.002, 6e-5, 3e-5, 1e-8), StepTerms(7.0, 1.0, 0.04, 0.03, 2e-5)
)
KNOWN = StepCosts((SLOW, FAST), 2048)
STEPS = StepRange(tokens=2048, prompt_tokens=2048, sequences=256, kv_tokens=400_000)
ONE_DECODES, ONE_PROMPT = (1.0, 0.0, 8.0, 0.0, 8000.0), (0.0, 1.0, 0.0, 500.0, 0.0)


def predicted(costs: StepCosts, clock: int, work: tuple[float, ...]) -> tuple[float, float]:
    """Return time, s, and energy, J, of a step by its terms."""
    here, column = costs.at([clock]), np.array(work)[:, None]
    return here.time_s(column).item(), here.energy_j(column).item()


def known_step(clock: int, prompt: int, sequences: int, context: int) -> tuple[float, float]:
    return predicted(KNOWN, clock, (1, prompt > 0, sequences, prompt, context))


@pytest.mark.parametrize("quantity", ["time", "energy"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_fit_recovers_the_costs_of_steps_of_that_form(quantity: str, index: int) -> None:
    found = tabulated(known_step, [1000, 2000], STEPS)
    terms, true = (getattr(costs.clocks[index], quantity) for costs in (found, KNOWN))
    for name in ("step", "prefill", "decode", "prompt", "context"):
        assert getattr(terms, name) == pytest.approx(getattr(true, name), rel=1e-6)
    assert max(found.time_error, found.energy_error) < 1e-9
    assert (found.tokens_per_step, found.kv_tokens) == (2048, 400_000)


def test_a_fit_to_noisy_steps_gives_their_error_and_no_term_below_zero() -> None:
    rng, noise = np.random.default_rng(2), 0.05

    def noisy(clock: int, prompt: int, sequences: int, context: int) -> tuple[float, float]:
        time_s, energy_j = known_step(clock, prompt, sequences, context)
        return time_s * rng.normal(1, noise), energy_j * rng.normal(1, noise)

    found = tabulated(noisy, [1000], STEPS)
    # The median of the absolute value of a normal deviate is 0.67 of its standard deviation.
    assert found.time_error == pytest.approx(0.67 * noise, rel=0.3)
    assert found.time_terms.min() >= 0
    assert found.energy_terms.min() >= 0
    for work in product((1,), (0, 1), (8, 200), (0, 1000), (8000, 100_000)):
        assert predicted(found, 1000, work) == pytest.approx(predicted(KNOWN, 1000, work), rel=0.08)


def test_the_mean_of_many_steps_counts_as_one_step() -> None:
    works = [(0, 8, 8000), (600, 8, 8000), (0, 64, 30_000), (100, 64, 90_000), (2000, 100, 9000)]
    samples = []
    for one, other in product(works, works):
        (time_s, energy_j), (other_s, other_j) = known_step(1000, *one), known_step(1000, *other)
        prompt, sequences, context = ((a + b) / 2 for a, b in zip(one, other, strict=True))
        prefills = ((one[0] > 0) + (other[0] > 0)) / 2
        costs = (time_s + other_s) / 2, (energy_j + other_j) / 2
        samples.append(StepSample(1000, prefills, prompt, sequences, context, *costs))
    assert fit_step_costs(samples, 2048).clocks[0].time.prompt == pytest.approx(6e-5, rel=1e-6)


def test_no_step_gives_no_costs() -> None:
    with pytest.raises(InfeasibleError, match="asked for the costs of a step, found no step"):
        fit_step_costs([], 2048)


def test_costs_are_interpolated_between_clocks_and_constant_beyond_them() -> None:
    between = KNOWN.at([500, 1250, 3000])
    assert between.clocks_mhz == (500, 1250, 3000)
    assert between.time_terms[0] == pytest.approx(KNOWN.time_terms[0])
    assert between.time_terms[2] == pytest.approx(KNOWN.time_terms[1])
    assert between.energy_terms[1] == pytest.approx(
        0.75 * KNOWN.energy_terms[0] + 0.25 * KNOWN.energy_terms[1]
    )


def test_no_limit_counts_as_the_highest_clock() -> None:
    free = StepCosts((ClockCosts(0, FAST.time, FAST.energy),), 2048)
    assert free.unlimited_at(1980).clocks_mhz == (1980,)
    assert KNOWN.unlimited_at(1980) == KNOWN


@given(*[st.floats(0.2, 5.0)] * 4)
def test_factors_scale_times_and_energies_by_phase(
    decode_time: float, prompt_time: float, decode_energy: float, prompt_energy: float
) -> None:
    factors = CostFactors(decode_time, prompt_time, decode_energy, prompt_energy)
    scaled = KNOWN.scaled(factors)
    for work, time, energy in (
        (ONE_DECODES, decode_time, decode_energy),
        (ONE_PROMPT, prompt_time, prompt_energy),
    ):
        time_s, energy_j = predicted(KNOWN, 2000, work)
        assert predicted(scaled, 2000, work) == pytest.approx((time * time_s, energy * energy_j))


def test_factors_of_one_leave_the_costs() -> None:
    assert KNOWN.scaled(AS_MODELLED) is KNOWN


def test_the_context_of_a_running_request_holds_cached_tokens_too() -> None:
    lengths = RequestLengths(900.0, 200.0, 100.0)
    assert lengths.context_tokens == 1000.0 + DECODED_SHARE * 200


@pytest.mark.parametrize("model", MODELS)
def test_the_costs_of_a_modelled_frontier_come_close_to_the_steps_of_the_roofline(
    model: str,
) -> None:
    made = modelled_fleet(model)
    costs, roofline = made.frontier.costs, made.fleet.kind.model
    assert costs is not None
    clocks = costs.clocks_mhz
    works = [
        StepWork(prompt, sequences, sequences * context)
        for prompt, sequences, context in product((0, 100, 700, 1900), (2, 20, 120), (400, 2500))
    ]
    errors = []
    for clock, work in product((clocks[0], clocks[4], clocks[-1]), works):
        terms = (1, work.prefill_tokens > 0, work.decode_sequences, work.prefill_tokens)
        time_s, energy_j = predicted(costs, clock, (*terms, work.context_tokens))
        true_s = roofline.step_s(work, clock)
        errors += [
            abs(time_s / true_s - 1),
            abs(energy_j / (true_s * roofline.step_draw_w(work, clock)) - 1),
        ]
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.95) < 0.12
    assert max(costs.time_error, costs.energy_error) < 0.03
