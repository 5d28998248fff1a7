from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import InfeasibleError
from steppe.frontier.mix import best_mix
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

points = st.builds(
    OperatingPoint,
    clock_mhz=st.just(1000),
    batch_limit=st.just(8),
    output_tps=st.floats(1, 1000),
    draw_w=st.floats(10, 100),
)
frontiers = st.lists(points, min_size=1, max_size=7).map(
    lambda found: Frontier.of(found, asleep_w=5, idle_w=8, source="modelled")
)


def exhaustive(frontier: Frontier, replicas: int, draw_w: float) -> float:
    mixes = combinations_with_replacement(frontier.points, replicas)
    fitting = [mix for mix in mixes if sum(p.draw_w for p in mix) <= draw_w]
    return max((sum(p.output_tps for p in mix) for mix in fitting), default=0.0)


@settings(deadline=None)
@given(frontiers, st.floats(5, 250))
def test_two_replicas_get_the_best_pair_of_points(frontier: Frontier, draw_w: float) -> None:
    mix = best_mix(frontier, 2, draw_w)
    found = sum(p.output_tps for p in mix) if mix else 0.0
    assert found == pytest.approx(exhaustive(frontier, 2, draw_w))


@settings(deadline=None)
@given(frontiers, st.integers(1, 5), st.floats(5, 500))
def test_a_mix_never_draws_more_than_it_may(frontier: Frontier, n: int, draw_w: float) -> None:
    mix = best_mix(frontier, n, draw_w)
    if mix is None:
        assert n * frontier.floor.draw_w > draw_w
    else:
        assert len(mix) == n
        assert sum(p.draw_w for p in mix) <= draw_w + 1e-9


@settings(deadline=None)
@given(frontiers, st.integers(1, 4), st.floats(5, 300), st.floats(0, 100))
def test_more_watts_never_buy_fewer_tokens(
    frontier: Frontier, n: int, draw_w: float, more_w: float
) -> None:
    less = best_mix(frontier, n, draw_w)
    if less is None:
        return
    more = best_mix(frontier, n, draw_w + more_w)
    assert more is not None
    # Exact for one and two replicas; beyond that within the relaxation's rounding.
    slack = 0.0 if n <= 2 else frontier.full.output_tps
    assert sum(p.output_tps for p in more) >= sum(p.output_tps for p in less) - slack - 1e-6


def test_dominated_points_are_dropped() -> None:
    cheap = OperatingPoint(600, 64, output_tps=500, draw_w=150)
    wasteful = OperatingPoint(700, 64, output_tps=400, draw_w=200)
    assert Frontier.of([wasteful, cheap], 50, 60, "modelled").points == (cheap,)


def test_a_frontier_without_tokens_is_an_error() -> None:
    with pytest.raises(InfeasibleError, match="no operating point"):
        Frontier.of([], 50, 60, "modelled")


@settings(deadline=None)
@given(frontiers)
def test_a_frontier_rises_in_draw_and_output(frontier: Frontier) -> None:
    for low, high in pairwise(frontier.points):
        assert high.draw_w > low.draw_w
        assert high.output_tps > low.output_tps
