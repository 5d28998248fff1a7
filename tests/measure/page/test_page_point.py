from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.page.page_point import BenchPoint, Span, choices, pareto, serving


def point(tps: float, joules: float, gap_s: float = 0.1, clock: int = 1000) -> BenchPoint:
    return BenchPoint(
        phase="mixed",
        clock_mhz=clock,
        batch_limit=8,
        prompt_tokens=144,
        output_tokens=26,
        output_tps=Span(tps, 0.95 * tps, 1.05 * tps),
        energy_per_output_token=Span(joules, 0.95 * joules, 1.05 * joules),
        energy_per_prompt_token=None,
        draw_w=Span(tps * joules, tps * joules, tps * joules),
        tpot_s=gap_s,
        itl_p50_s=None,
        itl_p99_s=None,
        flags=(),
        is_sound=True,
    )


FAST, LEAN, QUICK = point(200, 0.5, 0.3), point(100, 0.2, 0.2), point(50, 0.4, 0.05)


def test_each_aim_gets_the_point_that_is_best_at_it() -> None:
    lean, fast, quick = choices((FAST, LEAN, QUICK), slo_s=0.1)
    assert (lean.point, fast.point, quick.point) == (LEAN, FAST, QUICK)
    assert "-60% energy per token and -50% tokens/s beside 1000 MHz" in lean.why


def test_the_slo_is_held_against_the_99th_percentile_where_it_is_known() -> None:
    *_, quick = choices((FAST, replace(QUICK, itl_p99_s=0.4)), slo_s=0.1)
    assert quick.point is None
    assert quick.why == "No measured point stays within 100 ms."


def test_points_that_may_be_as_lean_within_the_errors_are_counted() -> None:
    lean, *_ = choices((LEAN, FAST, point(90, 0.21)), slo_s=0.1)
    assert "Within the errors, 1 other point may be as lean." in lean.why


def test_one_point_is_best_at_everything() -> None:
    lean, fast, _ = choices((LEAN,), slo_s=1.0)
    assert lean.point is fast.point
    assert "at once" in lean.why


def test_unsound_points_other_phases_and_other_lengths_are_not_chosen_from() -> None:
    others = (
        replace(FAST, is_sound=False),
        replace(FAST, phase="decode"),
        replace(FAST, prompt_tokens=1),
    )
    assert serving((LEAN, *others)) == [LEAN]


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
