from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.fixtures.saturated_engine import TOKENS_PER_STEP, StepCost, measured_point

from steppe.config import PaceSection
from steppe.errors import InfeasibleError
from steppe.measure.sweep.frontier import Offer, frontier_from, sound_mixed
from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.result import Flag, Phase, PointResult, RestWatts, Setting
from steppe.measure.sweep.store import SweepResults
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.lengths import RequestLengths
from steppe.sim.engine.pace_model import PaceModel, emulated_profile

CLOCKS = (990, 1485, 1980)
GRID = SweepGrid(CLOCKS, (4, 24, 96), ((80, 160),), longest_tokens=800)
OFFER = Offer((990, 1200, 1485, 1700, 1980), 96, 0.5, RequestLengths(80, 160), TOKENS_PER_STEP)
REST = RestWatts(floor_idle_w=100.0, asleep_w=90.0)
MODEL = PaceModel(
    emulated_profile("h100"),
    PaceSection(
        weights_s=0.0055, decode_s=3e-5, prefill_s=3e-5, context_s=4e-7, launch_s=1e-3, overlap=4
    ),
)


def test_a_measured_frontier_holds_the_sound_mixed_points_that_nothing_beats(
    results: SweepResults, make_point: Callable[..., PointResult]
) -> None:
    points = [*results.points, make_point(1800, 64, Phase.DECODE)]
    rest = results.head.rest
    frontier = frontier_from(points, rest, "emulated", offer=None).frontier
    assert (frontier.idle_w, frontier.asleep_w) == (15.0, 14.0)
    assert max(point.clock_mhz for point in frontier.points) == 1800
    assert max(point.batch_limit for point in frontier.points) == 8


@pytest.fixture(scope="module")
def overlapped() -> list[PointResult]:
    """A sweep of an emulated GPU whose streaming and computing overlap, as no fit assumes."""
    return [
        measured_point(setting, cost_at(setting.clock_mhz), window_steps=200)
        for setting in GRID.settings
    ]


def cost_at(clock_mhz: int) -> StepCost:
    def cost(work: StepWork) -> tuple[float, float]:
        step_s = MODEL.step_s(work, clock_mhz)
        return step_s, step_s * MODEL.step_draw_w(work, clock_mhz)

    return cost


def test_a_fitted_frontier_offers_points_between_the_measured_ones(
    overlapped: list[PointResult],
) -> None:
    swept = frontier_from(overlapped, REST, "emulated", OFFER)
    assert swept.refused == ()
    assert swept.frontier.costs is not None
    assert swept.frontier.source == "emulated"
    assert {point.clock_mhz for point in swept.frontier.candidates} - set(CLOCKS)


def test_points_between_the_measured_clocks_are_near_the_truth_although_the_form_differs(
    overlapped: list[PointResult],
) -> None:
    fit = frontier_from(overlapped, REST, "emulated", OFFER).fit
    assert fit is not None
    assert fit.time_error > 0.002, "the engine does not have the form of the fit"
    assert fit.cache_s > 0, "a part of each token does not depend on the clock"
    for clock_mhz, batch in itertools.product((1200, 1700), (8, 96)):
        setting = Setting(Phase.MIXED, clock_mhz, batch, *GRID.lengths[0])
        truth = measured_point(setting, cost_at(clock_mhz)).estimates
        assert truth is not None
        found = fit.point(clock_mhz, batch, OFFER.prompt_tokens_per_output)
        assert found.output_tps == pytest.approx(truth.output_tps.value, rel=0.1)
        assert found.draw_w == pytest.approx(truth.draw_w.value, rel=0.1)


def test_points_that_lie_far_from_their_fit_are_used_as_measured(
    overlapped: list[PointResult],
) -> None:
    shaken = [scaled(p, 0.5 if n % 3 else 1.5) for n, p in enumerate(overlapped)]
    swept = frontier_from(shaken, REST, "emulated", OFFER)
    (line,) = swept.refused
    assert line.startswith("the fit is refused, and the points are used as measured")
    assert swept.fit is not None
    assert f"found {swept.fit.time_error:.1%} and {swept.fit.time_tail:.1%}" in line
    assert swept.frontier.costs is None
    assert swept.frontier.lengths == OFFER.lengths
    measured = {(p.setting.clock_mhz, p.setting.batch_limit) for p in sound_mixed(shaken)}
    assert {(p.clock_mhz, p.batch_limit) for p in swept.frontier.candidates} <= measured


def test_costs_that_do_not_fit_are_refused_while_the_curves_are_kept(
    overlapped: list[PointResult],
) -> None:
    apart = [
        point if point.setting.phase is Phase.MIXED else scaled(point, 3.0) for point in overlapped
    ]
    swept = frontier_from(apart, REST, "emulated", OFFER)
    (line,) = swept.refused
    assert line.startswith("the costs of a step are refused, so plans keep the lengths")
    assert swept.frontier.costs is None
    assert {point.clock_mhz for point in swept.frontier.candidates} - set(CLOCKS)


def scaled(point: PointResult, factor: float) -> PointResult:
    """Return the point as if it had taken so many times as long, at the same draw."""
    windows = tuple(
        replace(w, duration_s=factor * w.duration_s, energy_j=factor * w.energy_j)
        for w in point.windows
    )
    return replace(point, windows=windows)


def test_two_points_are_too_few_for_a_fit_and_are_offered_as_measured(
    make_point: Callable[..., PointResult],
) -> None:
    points = [make_point(1000, 8), make_point(1800, 8)]
    frontier = frontier_from(
        points, RestWatts(), "measured", Offer((1000, 1400, 1800), 8, 5.5)
    ).frontier
    assert [point.clock_mhz for point in frontier.points] == [1000, 1800]


def test_a_replica_that_draws_no_less_asleep_than_at_work_has_no_frontier(
    results: SweepResults,
) -> None:
    rest = RestWatts(loaded_idle_w=500.0)  # as while another load ran
    with pytest.raises(InfeasibleError, match="found 500 W asleep, no less than the"):
        frontier_from(results.points, rest, "measured", offer=None)


def test_without_a_sound_point_there_is_no_frontier(
    make_point: Callable[..., PointResult],
) -> None:
    points = [make_point(1800, 8, Phase.MIXED, Flag.SHARED)]
    with pytest.raises(InfeasibleError):
        frontier_from(points, RestWatts(), "measured", offer=None)
