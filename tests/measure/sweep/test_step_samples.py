"""The costs of a step are found again from windows of an engine whose costs are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.fixtures.saturated_engine import TOKENS_PER_STEP, measured_point

from steppe.load.arrivals import Arrival
from steppe.measure.sweep.frontier import Offer, frontier_from
from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.result import (
    Flag,
    MeasuredWindow,
    Phase,
    PointResult,
    RestWatts,
    Setting,
)
from steppe.measure.sweep.step_samples import measured_costs, step_sample
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import ClockCosts, StepCosts, StepTerms

SLOW = ClockCosts(
    900, StepTerms(8e-3, 2e-3, 6e-5, 4e-5, 4e-8), StepTerms(2.0, 0.4, 0.02, 0.02, 1e-5)
)
FAST = ClockCosts(
    1800, StepTerms(7e-3, 1e-3, 3e-5, 2e-5, 3e-8), StepTerms(3.0, 0.6, 0.03, 0.025, 1.3e-5)
)
TRUE = StepCosts((SLOW, FAST), TOKENS_PER_STEP)
GRID = SweepGrid((900, 1800), (1, 4, 16, 64), ((200, 60),))


def measured(setting: Setting, requests: Sequence[Arrival] | None = None) -> PointResult:
    costs = SLOW if setting.clock_mhz == SLOW.clock_mhz else FAST
    known = StepCosts((costs,), TOKENS_PER_STEP)

    def cost(step: StepWork) -> tuple[float, float]:
        prompts, context = step.prefill_tokens, step.context_tokens
        work = np.array([[1.0], [prompts > 0], [step.decode_sequences], [prompts], [context]])
        return known.time_s(work).item(), known.energy_j(work).item()

    return measured_point(setting, cost, requests)


@pytest.fixture(scope="module")
def points() -> list[PointResult]:
    return [measured(setting) for setting in GRID.settings]


def test_steps_of_other_loads_are_predicted(points: list[PointResult]) -> None:
    found = measured_costs(points, TOKENS_PER_STEP)
    assert found is not None
    assert found.clocks_mhz == (900, 1800)
    assert found.time_error < 0.02
    assert found.energy_error < 0.02
    # ones, prefill, sequences, prompt tokens, context: steps of quite different requests
    work = np.array(
        [
            [1, 1, 0, 500, 0],
            [1, 0, 64, 0, 64 * 400],
            [1, 0, 16, 0, 16 * 100],
            [1, 1, 32, 300, 32 * 900],
            [1, 0.3, 48, 60, 48 * 250],
        ],
        dtype=float,
    ).T
    assert found.time_s(work) == pytest.approx(TRUE.time_s(work), rel=0.04)
    assert found.energy_j(work) == pytest.approx(TRUE.energy_j(work), rel=0.04)


@pytest.mark.parametrize("batch", [1, 16, 64])
def test_the_mean_step_of_a_mixed_load_follows_from_its_lengths(
    points: list[PointResult], batch: int
) -> None:
    point = next(p for p in points if p.setting == Setting(Phase.MIXED, 1800, batch, 200, 60))
    sample = step_sample(point, TOKENS_PER_STEP)
    work = np.array(
        [1, sample.prefills, sample.sequences, sample.prompt_tokens, sample.context_tokens]
    )
    assert sample.sequences <= batch
    assert TRUE.time_s(work[:, None])[1, 0] == pytest.approx(sample.time_s, rel=0.02)
    assert TRUE.energy_j(work[:, None])[1, 0] == pytest.approx(sample.energy_j, rel=0.02)


def test_the_mean_step_of_a_sample_follows_from_its_lengths() -> None:
    rng = np.random.default_rng(5)
    pairs = 1 + np.stack([rng.lognormal(4.5, 1, 400), rng.lognormal(3.5, 0.8, 400)], 1).astype(int)
    sample = LengthSample("trace", 400, 0, tuple((int(p), int(o)) for p, o in pairs))
    setting = Setting(Phase.MIXED, 1800, 16, *sample.rounded, sample.digest)
    point = measured(setting, sample.arrivals())
    step = step_sample(point, TOKENS_PER_STEP, sample)
    work = np.array([1, step.prefills, step.sequences, step.prompt_tokens, step.context_tokens])
    assert TRUE.time_s(work[:, None])[1, 0] == pytest.approx(step.time_s, rel=0.03)
    assert TRUE.energy_j(work[:, None])[1, 0] == pytest.approx(step.energy_j, rel=0.03)
    around = step_sample(replace(point, setting=replace(setting, sample="")), TOKENS_PER_STEP)
    assert around.context_tokens < step.context_tokens, "wide lengths have long contexts"


def test_noise_of_two_percent_costs_a_few_percent(points: list[PointResult]) -> None:
    rng = np.random.default_rng(3)

    def shaken(window: MeasuredWindow) -> MeasuredWindow:
        time, energy = 1 + 0.02 * rng.standard_normal(2)
        return replace(
            window, duration_s=window.duration_s * time, energy_j=window.energy_j * energy
        )

    noisy = [replace(p, windows=tuple(map(shaken, p.windows))) for p in points]
    found = measured_costs(noisy, TOKENS_PER_STEP)
    assert found is not None
    work = np.array([[1, 0, 64, 0, 64 * 240], [1, 1, 32, 300, 32 * 200]], dtype=float).T
    assert found.time_s(work) == pytest.approx(TRUE.time_s(work), rel=0.06)
    assert found.energy_j(work) == pytest.approx(TRUE.energy_j(work), rel=0.06)


@pytest.mark.parametrize("missing", [Phase.PREFILL, Phase.DECODE])
def test_without_one_of_the_loads_a_step_has_no_costs(
    points: list[PointResult], missing: Phase
) -> None:
    left = [point for point in points if point.setting.phase is not missing]
    assert measured_costs(left, TOKENS_PER_STEP) is None


def test_clocks_with_mixed_load_alone_are_interpolated(points: list[PointResult]) -> None:
    left = [
        point
        for point in points
        if point.setting.clock_mhz == 1800 or point.setting.phase is Phase.MIXED
    ]
    found = measured_costs(left, TOKENS_PER_STEP)
    assert found is not None
    assert found.clocks_mhz == (1800,)


def test_unsound_points_and_uncounted_steps_do_not_count(
    points: list[PointResult], make_point: Callable[..., PointResult]
) -> None:
    unsound = [replace(point, flags=(Flag.SHARED,)) for point in points]
    assert measured_costs(unsound, TOKENS_PER_STEP) is None
    uncounted = [
        replace(point, windows=tuple(replace(w, steps=0) for w in point.windows))
        for point in points
    ]
    assert measured_costs(uncounted, TOKENS_PER_STEP) is None


def test_the_frontier_of_a_sweep_holds_costs_and_lengths(points: list[PointResult]) -> None:
    lengths = RequestLengths(200, 60)
    offer = Offer((900, 1800), 64, 200 / 60, lengths, TOKENS_PER_STEP)
    rest = RestWatts(floor_idle_w=20.0, asleep_w=10.0)
    frontier = frontier_from(points, rest, "emulated", offer).frontier
    assert frontier.costs == measured_costs(points, TOKENS_PER_STEP)
    assert frontier.lengths == lengths
    unknown = replace(offer, tokens_per_step=None)
    assert frontier_from(points, rest, "emulated", unknown).frontier.costs is None
