from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.recommend import Recommendation, recommend
from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Flag, Phase
from steppe.measure.sweep.summary import PointSummary, pareto


def about(value: float, share: float) -> Interval:
    return Interval(value, (1 - share) * value, (1 + share) * value)


def point(
    tps: float, joules: float, gap_s: float = 0.1, error: float = 0.05, *flags: Flag
) -> PointSummary:
    return PointSummary(
        phase=Phase.MIXED,
        clock_mhz=1000,
        batch_limit=8,
        prompt_tokens=144,
        output_tokens=26,
        output_tps=about(tps, error),
        energy_per_output_token=about(joules, error),
        energy_per_prompt_token=None,
        draw_w=about(tps * joules, 0.0),
        window_s=10.0,
        tpot_s=gap_s,
        itl_p50_s=None,
        itl_p99_s=None,
        flags=flags,
        is_sound=True,
    )


FAST, LEAN, QUICK = point(200, 0.5, 0.3), point(100, 0.2, 0.2), point(50, 0.4, 0.05)


def recommended(*points: PointSummary, slo_s: float = 0.1) -> tuple[Recommendation, ...]:
    return recommend(points, slo_s, settle_s=15.0)


def test_each_aim_gets_the_best_point_where_no_interval_overlaps() -> None:
    lean, fast, quick = recommended(FAST, LEAN, QUICK)
    assert (lean.point, fast.point, quick.point) == (LEAN, FAST, QUICK)
    assert "-60% energy per token and -50% tokens/s beside 1000 MHz" in lean.reason


def test_the_slo_limits_the_99th_percentile_where_it_is_known() -> None:
    *_, quick = recommended(FAST, replace(QUICK, itl_p99_s=0.4))
    assert quick.point is None
    assert quick.reason == "No measured point stays within 100 ms."


def test_points_whose_intervals_overlap_get_a_window_length_in_place_of_a_recommendation() -> None:
    lean, fast, _ = recommended(LEAN, FAST, point(90, 0.21))
    assert lean.point is None
    assert "the 95 % intervals of 2 points overlap" in lean.reason
    # Half-widths 0.0100 and 0.0105, difference 0.01: windows 4.2 times as long.
    assert "`--window 43`" in lean.reason
    assert fast.point == FAST


def test_longer_windows_of_that_length_separate_the_points() -> None:
    shrunk = (10 / 43) ** 0.5 * 0.05
    lean, *_ = recommended(point(100, 0.2, error=shrunk), point(90, 0.21, error=shrunk), FAST)
    assert lean.point is not None


def test_points_that_only_very_long_windows_would_separate_count_as_equal() -> None:
    lean, *_ = recommended(LEAN, FAST, point(90, 0.201))
    assert lean.point is None
    assert "0.5% of each other" in lean.reason
    assert "Choose any of them" in lean.reason


@pytest.mark.parametrize(
    ("flag", "remedy"),
    [(Flag.UNSETTLED, "`--settle 30`"), (Flag.UNSTEADY, "`--window 477`")],
)
def test_a_point_that_is_not_reliable_is_not_recommended(flag: Flag, remedy: str) -> None:
    wild = point(100, 0.2, 0.1, 0.69, flag)
    found = recommended(wild, point(10, 5.0, 0.5, 0.01))
    for recommendation in found:
        assert recommendation.point is None
        assert flag in recommendation.reason
        assert remedy in recommendation.reason


def test_a_point_with_too_few_windows_for_an_interval_is_not_recommended() -> None:
    endless = replace(LEAN, energy_per_output_token=Interval(0.2, -float("inf"), float("inf")))
    lean, *_ = recommended(endless, FAST)
    assert lean.point is None
    assert "`--windows 5`" in lean.reason


def test_one_point_alone_is_best_at_everything() -> None:
    lean, fast, _ = recommended(LEAN, slo_s=1.0)
    assert lean.point is fast.point
    assert "at once" in lean.reason


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_no_point_of_the_pareto_set_is_beaten_and_every_other_is(
    values: list[tuple[float, float]],
) -> None:
    points = [point(tps, joules) for tps, joules in values]
    best = pareto(points)
    assert best == sorted(best, key=lambda p: p.output_tps.value)
    for p in points:
        beaten = any(
            q.output_tps.value >= p.output_tps.value
            and q.energy_per_output_token.value <= p.energy_per_output_token.value
            for q in best
        )
        assert beaten
    for a in best:
        assert not any(
            b.output_tps.value > a.output_tps.value
            and b.energy_per_output_token.value < a.energy_per_output_token.value
            for b in points
        )
