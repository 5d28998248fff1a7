from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steppe.errors import DeviceError, InfeasibleError
from steppe.measure.sweep.campaign import SweepGrid, frontier_from, left_to_do, run_campaign
from steppe.measure.sweep.fleet_sweep import Offer
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.result import Flag, Phase, PointResult, RestWatts
from steppe.measure.sweep.store import SweepResults

PLAN = MeasurePlan(windows=2, window_s=1.0, warm_up_s=0.0, longest_settle_s=0.0)
GRID = SweepGrid((1000, 1800), (1, 4, 8), ((144, 26),))


def test_the_grid_begins_hot_and_ends_with_prefill_and_decode_alone() -> None:
    settings = GRID.settings
    assert len(settings) == len({setting.key for setting in settings}) == 2 * 3 + 2 * 2
    assert (settings[0].clock_mhz, settings[0].batch_limit) == (1800, 8)
    prefill = [s for s in settings if s.phase is Phase.PREFILL]
    decode = [s for s in settings if s.phase is Phase.DECODE]
    assert {s.output_tokens for s in prefill} == {1}
    assert {s.prompt_tokens for s in decode} == {1}
    assert {s.batch_limit for s in prefill + decode} == {8}


def test_decode_alone_fits_the_model() -> None:
    grid = SweepGrid((), (8,), ((144, 2000),), longest_tokens=512)
    decode = [s for s in grid.settings if s.phase is Phase.DECODE]
    assert decode[0].output_tokens * 2 <= 512


def test_without_a_clock_knob_every_point_leaves_the_clock_alone() -> None:
    grid = SweepGrid((), (1, 4), ((144, 26), (500, 26)), apart=False)
    assert {s.clock_mhz for s in grid.settings} == {0}
    assert len(grid.settings) == 4


def test_what_is_done_is_left_out() -> None:
    done = {GRID.settings[0].key, GRID.settings[3].key}
    left = left_to_do(GRID.settings, done)
    assert len(left) == len(GRID.settings) - 2
    assert not done & {setting.key for setting in left}


def test_every_point_is_measured_once_and_handed_over(replica: Any) -> None:
    found: list[PointResult] = []
    run_campaign([replica.rig], GRID.settings, PLAN, found.append, replica.timing)
    assert [point.setting for point in found] == GRID.settings


def test_after_a_failure_nobody_begins_another_point(replica: Any) -> None:
    def fail(*_: object) -> None:
        raise DeviceError("the GPU fell off the bus")

    replica.set_point = fail
    with pytest.raises(DeviceError, match="fell off"):
        run_campaign([replica.rig], GRID.settings, PLAN, lambda _: None, replica.timing)
    assert replica.asked == []


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


def test_two_points_are_too_few_for_curves_and_are_offered_as_they_are(
    make_point: Callable[..., PointResult],
) -> None:
    points = [make_point(1000, 8), make_point(1800, 8)]
    frontier = frontier_from(points, RestWatts(), "measured", Offer((1000, 1400, 1800), 8, 5.5))
    assert [point.clock_mhz for point in frontier.points] == [1000, 1800]


def test_without_a_sound_point_there_is_no_frontier(
    make_point: Callable[..., PointResult],
) -> None:
    points = [make_point(1800, 8, Phase.MIXED, Flag.SHARED)]
    with pytest.raises(InfeasibleError):
        frontier_from(points, RestWatts(), "measured", offer=None)
