from __future__ import annotations

from collections.abc import Callable

import pytest

from steppe.errors import InfeasibleError
from steppe.measure.sweep.frontier import Offer, frontier_from
from steppe.measure.sweep.result import Flag, Phase, PointResult, RestWatts
from steppe.measure.sweep.store import SweepResults


def test_a_measured_frontier_holds_the_sound_mixed_points_that_nothing_beats(
    results: SweepResults, make_point: Callable[..., PointResult]
) -> None:
    points = [*results.points, make_point(1800, 64, Phase.DECODE)]
    rest = results.head.rest
    frontier = frontier_from(points, rest, "emulated", offer=None)
    assert (frontier.idle_w, frontier.asleep_w) == (15.0, 14.0)
    assert max(point.clock_mhz for point in frontier.points) == 1800
    assert max(point.batch_limit for point in frontier.points) == 8


def test_a_fitted_frontier_offers_points_between_the_measured_ones(results: SweepResults) -> None:
    offer = Offer((1000, 1200, 1400, 1600, 1800), 8, 144 / 26)
    frontier = frontier_from(results.points, results.head.rest, "emulated", offer)
    assert len(frontier.points) > 4
    assert frontier.source == "emulated"


def test_two_points_are_too_few_for_a_fit_and_are_offered_as_measured(
    make_point: Callable[..., PointResult],
) -> None:
    points = [make_point(1000, 8), make_point(1800, 8)]
    frontier = frontier_from(points, RestWatts(), "measured", Offer((1000, 1400, 1800), 8, 5.5))
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
