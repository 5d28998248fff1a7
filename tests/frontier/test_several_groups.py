from __future__ import annotations

import math
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.frontier import exact
from steppe.frontier.exact import least_for_sequences
from steppe.frontier.group import ReplicaGroup, TokenDemand
from steppe.frontier.mix import best_counts, best_mix, least_counts
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

ASLEEP_W = 5.0
points = st.builds(
    OperatingPoint,
    clock_mhz=st.just(1000),
    batch_limit=st.sampled_from([2, 8, 32]),
    output_tps=st.floats(1, 1000),
    draw_w=st.floats(10, 100),
)
frontiers = st.lists(points, min_size=1, max_size=5).map(
    lambda found: Frontier.of(found, ASLEEP_W, 8, "modelled")
)
finite_wants = st.lists(
    st.builds(TokenDemand, value=st.floats(0.1, 10), output_tps=st.floats(10, 2000)), max_size=2
)
wants = finite_wants.map(
    lambda found: [*sorted(found, key=lambda want: -want.value), TokenDemand(0.1, math.inf)]
)
groups = st.builds(ReplicaGroup.awake_or_asleep, frontiers, st.integers(1, 3), wants)


def totals(group: ReplicaGroup) -> list[tuple[float, float, int]]:
    """Return draw, output and sequences of every way to place the replicas."""
    choices = group.choices
    places = range(len(choices.points))
    return [
        tuple(sum(column[list(place)]) for column in columns)  # type: ignore[misc]
        for columns in [(choices.draws_w, choices.outputs_tps, choices.batch_limits)]
        for place in combinations_with_replacement(places, group.replicas)
    ]


def exhaustive(found: list[ReplicaGroup], draw_w: float) -> float:
    ways = [[(w, g.worth(tps)) for w, tps, _ in totals(g)] for g in found]
    fitting = [way for way in product(*ways) if sum(w for w, _ in way) <= draw_w]
    return max((sum(worth for _, worth in way) for way in fitting), default=0.0)


@settings(deadline=None, max_examples=150)
@given(st.lists(groups, min_size=1, max_size=3), st.floats(0.05, 1.1))
def test_small_fleets_of_several_pools_reach_what_an_exhaustive_search_does(
    found: list[ReplicaGroup], share: float
) -> None:
    most_w = sum(g.replicas * float(g.choices.draws_w[-1]) for g in found)
    draw_w = share * most_w
    counts = best_counts(found, draw_w)
    if counts is None:
        assert sum(g.least_w for g in found) > draw_w
        return
    assert sum(g.draw_w(c) for g, c in zip(found, counts, strict=True)) <= draw_w + 1e-9
    assert all(c.sum() == g.replicas for g, c in zip(found, counts, strict=True))
    worth = sum(g.worth(g.output_tps(c)) for g, c in zip(found, counts, strict=True))
    assert worth >= 0.99 * exhaustive(found, draw_w)


@settings(deadline=None)
@given(
    st.lists(st.tuples(frontiers, st.integers(9, 2000)), min_size=1, max_size=4), st.floats(0, 1)
)
def test_large_fleets_miss_the_relaxed_optimum_by_less_than_one_replica_of_each_pool(
    pools: list[tuple[Frontier, int]], share: float
) -> None:
    found = [ReplicaGroup.awake_or_asleep(f, n, [TokenDemand(1.0, math.inf)]) for f, n in pools]
    draw_w = share * sum(g.replicas * float(g.choices.draws_w[-1]) for g in found)
    counts = best_counts(found, draw_w)
    if counts is None:
        return
    assert sum(g.draw_w(c) for g, c in zip(found, counts, strict=True)) <= draw_w * (1 + 1e-12)
    worth = sum(g.output_tps(c) for g, c in zip(found, counts, strict=True))
    one_more = sum(float(g.choices.outputs_tps[-1]) for g in found)
    # A fleet 64 times as large on 64 times the watts loses 64 times less by rounding.
    many = [ReplicaGroup.awake_or_asleep(f, 64 * n, [TokenDemand(1.0, math.inf)]) for f, n in pools]
    finer = best_counts(many, 64 * draw_w)
    assert finer is not None
    bound = sum(g.output_tps(c) for g, c in zip(many, finer, strict=True)) / 64
    assert worth >= bound - one_more


@settings(deadline=None)
@given(frontiers, st.integers(1, 5), st.floats(0, 1.2), st.integers(0, 40))
def test_the_least_draw_that_covers_a_need_is_found_in_small_fleets(
    frontier: Frontier, replicas: int, share: float, sequences: int
) -> None:
    group = ReplicaGroup.awake_or_asleep(frontier, replicas, [TokenDemand(1.0, math.inf)])
    output_tps = share * replicas * frontier.full.output_tps
    counts = least_counts(group, output_tps, sequences)
    covering = [w for w, tps, room in totals(group) if tps >= output_tps and room >= sequences]
    if counts is None:
        assert not covering
        return
    assert counts.sum() == replicas
    assert group.output_tps(counts) >= output_tps - 1e-6
    assert group.batch_limit(counts) >= sequences
    assert group.draw_w(counts) == pytest.approx(min(covering), rel=0.01)


@pytest.mark.parametrize(("output_tps", "sequences"), [(68.0, 43), (350.0, 74), (410.0, 150)])
def test_a_fleet_too_large_for_a_whole_search_draws_as_little(
    monkeypatch: pytest.MonkeyPatch, output_tps: float, sequences: int
) -> None:
    corners = ((8, 10.0, 40.0), (16, 18.0, 55.0), (4, 21.0, 60.0), (16, 30.0, 90.0))
    points = tuple(OperatingPoint(600, *corner) for corner in corners)
    group = ReplicaGroup.awake_or_asleep(
        Frontier(points, 16.0, 20.0, "modelled"), 16, [TokenDemand(1.0, math.inf)]
    )
    found = least_for_sequences(group, output_tps, sequences)
    monkeypatch.setattr(exact, "SEARCHED", 16)
    whole = least_for_sequences(group, output_tps, sequences)
    assert found is not None
    assert whole is not None
    assert group.draw_w(found) == pytest.approx(group.draw_w(whole))


@settings(deadline=None)
@given(frontiers, st.integers(9, 500), st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_least_draw_in_large_fleets_covers_the_need(
    frontier: Frontier, replicas: int, share: float, batch_share: float
) -> None:
    group = ReplicaGroup.awake_or_asleep(frontier, replicas, [TokenDemand(1.0, math.inf)])
    output_tps = share * replicas * frontier.full.output_tps
    sequences = int(batch_share * replicas * frontier.full.batch_limit)
    counts = least_counts(group, output_tps, sequences)
    assert counts is not None
    assert counts.sum() == replicas
    assert group.output_tps(counts) >= output_tps - 1e-6
    assert group.batch_limit(counts) >= sequences
    one_w = float(np.ptp(group.choices.draws_w))
    if not sequences:
        within = best_counts([group], group.draw_w(counts) - one_w)
        assert within is None or group.output_tps(within[0]) <= output_tps * 1.001
    # A fleet 64 times as large with 64 times the need loses 64 times less by rounding.
    many = ReplicaGroup.awake_or_asleep(frontier, 64 * replicas, [TokenDemand(1.0, math.inf)])
    finer = least_counts(many, 64 * output_tps, 64 * sequences)
    assert finer is not None
    assert group.draw_w(counts) <= many.draw_w(finer) / 64 + one_w


def test_a_demand_that_ends_leaves_watts_unused() -> None:
    point = OperatingPoint(1000, 8, output_tps=100, draw_w=50)
    frontier = Frontier.of([point], ASLEEP_W, 8, "modelled")
    group = ReplicaGroup.awake_or_asleep(frontier, 10, [TokenDemand(1.0, 250)])
    counts = best_counts([group], 1000)
    assert counts is not None
    assert group.points(counts[0]) == (point,) * 3


def test_watts_go_to_the_pool_with_the_more_valuable_tokens() -> None:
    point = OperatingPoint(1000, 8, output_tps=100, draw_w=50)
    frontier = Frontier.of([point], ASLEEP_W, 8, "modelled")
    dear = ReplicaGroup.awake_or_asleep(
        frontier, 2, [TokenDemand(3.0, 100), TokenDemand(1.0, math.inf)]
    )
    cheap = ReplicaGroup.awake_or_asleep(frontier, 2, [TokenDemand(2.0, math.inf)])
    for awake, expected in ((1, (1, 0)), (2, (1, 1)), (3, (1, 2)), (4, (2, 2))):
        counts = best_counts([dear, cheap], 4 * ASLEEP_W + awake * 45.0)
        assert counts is not None
        assert tuple(int(c[-1]) for c in counts) == expected


def test_no_replica_sleeps_if_sleeping_draws_more_than_working() -> None:
    point = OperatingPoint(1000, 8, output_tps=100, draw_w=50)
    frontier = Frontier.of([point], 60, 70, "modelled")
    group = ReplicaGroup.awake_or_asleep(frontier, 2, [TokenDemand(1.0, math.inf)])
    counts = best_counts([group], 100)
    assert counts is not None
    assert group.points(counts[0]) == (point, point)


@settings(deadline=None)
@given(frontiers, st.integers(1, 6), st.floats(5, 600))
def test_a_mix_of_awake_replicas_is_within_a_percent_of_the_best(
    frontier: Frontier, replicas: int, draw_w: float
) -> None:
    mix = best_mix(frontier, replicas, draw_w)
    best = exhaustive([ReplicaGroup.awake(frontier, replicas)], draw_w)
    assert sum(p.output_tps for p in mix or ()) >= 0.99 * best
