from __future__ import annotations

from collections.abc import Callable

from steppe.measure.sweep.result import Flag, Phase, PointResult
from steppe.measure.sweep.store import SweepResults
from steppe.measure.sweep.summary import serving, summarize


def test_summaries_keep_values_intervals_and_flags(results: SweepResults) -> None:
    summaries = summarize(results.points)
    assert len(summaries) == len(results.points)
    assert [point.flags for point in summaries if not point.is_sound] == [(Flag.THROTTLED,)]
    for point in summaries:
        assert point.tpot_s is not None
        assert point.tpot_s * point.output_tps.value > 0
        assert point.energy_per_output_token.is_bounded
        assert point.window_s == 10.0


def test_unsound_points_other_phases_and_other_lengths_are_left_out(
    make_point: Callable[..., PointResult],
) -> None:
    points = [
        make_point(1800, 8),
        make_point(1000, 8, Phase.MIXED, Flag.SHARED),
        make_point(1400, 8, Phase.DECODE),
    ]
    assert [point.clock_mhz for point in serving(summarize(points))] == [1800]
