"""The operating points for the requests that come now, from the costs of a step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.modelled_fleet import MODELS, SWEPT, modelled_fleet

from steppe.frontier.at_lengths import (
    LatencyLimits,
    PointsAtLengths,
    PointsNeed,
    batch_limits,
    points_at,
)
from steppe.frontier.load_table import KV_SHARE
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import CostFactors, StepCosts
from steppe.sim.points import modelled_point

LIMITS = LatencyLimits(2.0, 0.15)
NEED = PointsNeed(SWEPT, LIMITS, batch_limit=256, replicas=4)
TRAFFICS = [
    RequestLengths(1155, 211),
    RequestLengths(2000, 30),
    RequestLengths(8000, 300),
    RequestLengths(500, 5000),
    RequestLengths(300, 1),
    RequestLengths(1000, 200, 4000),
]


@pytest.fixture(scope="module")
def swept() -> Frontier:
    return modelled_frontier()


def modelled_frontier(model: str = "70b") -> Frontier:
    frontier: Frontier = modelled_fleet(model).frontier
    return frontier


def costs_of(frontier: Frontier) -> StepCosts:
    assert frontier.costs is not None
    return frontier.costs


def with_lengths(lengths: RequestLengths, need: PointsNeed = NEED) -> PointsNeed:
    return replace(need, lengths=lengths)


def most_tps(points: PointsAtLengths) -> float:
    """Return the largest output that keeps the SLO, tokens/s."""
    assert points.sustained is not None
    return points.sustained.full.output_tps


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("lengths", "error"),
    [(SWEPT, 0.06), (RequestLengths(2000, 30), 0.08), (RequestLengths(300, 1), 0.1)],
)
def test_points_with_full_batches_come_close_to_what_a_sweep_of_these_lengths_finds(
    model: str, lengths: RequestLengths, error: float
) -> None:
    made = modelled_fleet(model)
    need = replace(with_lengths(lengths), limits=LatencyLimits(2.0, MODELS[model][2]))
    for point in points_at(made.frontier, need).full.points:
        swept = modelled_point(made.fleet.kind, point.clock_mhz, point.batch_limit, lengths)
        assert point.output_tps == pytest.approx(swept.output_tps, rel=error)
        assert point.draw_w == pytest.approx(swept.draw_w, rel=error)


def test_at_the_swept_lengths_as_many_tokens_are_served_as_the_sweep_found(
    swept: Frontier,
) -> None:
    full = points_at(swept, NEED).full
    within = [p.output_tps for p in swept.candidates if p.tpot_s <= 0.95 * LIMITS.tpot_s]
    assert full.full.output_tps == pytest.approx(max(within), rel=0.05)
    assert full.lengths == SWEPT
    assert (full.asleep_w, full.idle_w, full.source) == (
        swept.asleep_w,
        swept.idle_w,
        swept.source,
    )


def test_longer_prompts_leave_fewer_output_tokens(swept: Frontier) -> None:
    prompts = [200, 800, 2000, 5000, 12_000]
    found = [points_at(swept, with_lengths(RequestLengths(p, 200))) for p in prompts]
    sustained = [most_tps(points) for points in found]
    assert sustained == sorted(sustained, reverse=True)
    assert sustained[0] > 3 * sustained[-1]
    full = [points.full.full.output_tps for points in found]
    assert full == sorted(full, reverse=True)


def test_cached_prompt_tokens_cost_less_than_computed_ones(swept: Frontier) -> None:
    whole, hit, without = (
        most_tps(points_at(swept, with_lengths(lengths)))
        for lengths in (
            RequestLengths(4000, 200),
            RequestLengths(800, 200, 3200),
            RequestLengths(800, 200),
        )
    )
    assert whole < hit < without


@pytest.mark.parametrize("lengths", TRAFFICS)
def test_points_keep_the_time_per_token_and_sustained_loads_need_no_more_watts_than_full_batches(
    swept: Frontier, lengths: RequestLengths
) -> None:
    points = points_at(swept, with_lengths(lengths))
    assert all(p.tpot_s <= 0.95 * LIMITS.tpot_s for p in points.full.candidates)
    assert all(1 <= p.batch_limit <= NEED.batch_limit for p in points.full.candidates)
    assert points.sustained is not None
    for point in points.sustained.candidates:
        full = points.at_full[point]
        assert point.tpot_s <= LIMITS.tpot_s
        assert (full.clock_mhz, full.batch_limit) == (point.clock_mhz, point.batch_limit)
        assert point.batch_limit <= NEED.batch_limit
        assert point.draw_w <= 1.01 * full.draw_w
        assert point.output_tps <= 1.01 * full.output_tps


def test_a_load_that_may_wait_longer_is_larger(swept: Frontier) -> None:
    lengths = RequestLengths(4000, 100)
    served = [
        most_tps(
            points_at(swept, replace(with_lengths(lengths), limits=LatencyLimits(ttft_s, 0.15)))
        )
        for ttft_s in (1.0, 2.0, 8.0)
    ]
    assert served[0] < served[1] < served[2]


def test_more_replicas_sustain_more_each_because_they_serve_one_queue(swept: Frontier) -> None:
    need = with_lengths(RequestLengths(4000, 100))
    served = [most_tps(points_at(swept, replace(need, replicas=n))) for n in (1, 4, 64)]
    assert served[0] < served[1] <= served[2]


def test_prompts_without_an_answer_are_served_at_any_clock(swept: Frontier) -> None:
    embeddings = points_at(swept, with_lengths(RequestLengths(300, 1)))
    assert embeddings.sustained is not None
    clocks = {point.clock_mhz for point in swept.candidates}
    assert {point.clock_mhz for point in embeddings.at_full} == clocks
    assert most_tps(embeddings) > 1.0


def test_a_kv_cache_that_fills_limits_the_batch_and_the_load(swept: Frontier) -> None:
    lengths, costs = RequestLengths(8000, 4000), costs_of(swept)
    small = swept.with_costs(replace(costs, kv_tokens=60_000), swept.lengths)
    points, roomy = (points_at(each, with_lengths(lengths)) for each in (small, swept))
    held = KV_SHARE * 60_000 / lengths.context_tokens
    assert most_tps(points) < most_tps(roomy)
    for point in points.full.points:
        assert point.output_tps * point.tpot_s <= 1.01 * held
    assert max(point.batch_limit for point in points.full.points) < 2 * held


def test_a_request_larger_than_the_kv_cache_still_gives_points(swept: Frontier) -> None:
    tiny = swept.with_costs(replace(costs_of(swept), kv_tokens=1000), swept.lengths)
    assert points_at(tiny, with_lengths(RequestLengths(8000, 300))).full.points


@pytest.mark.parametrize("lengths", TRAFFICS)
def test_replicas_that_are_slower_than_modelled_give_fewer_tokens(
    swept: Frontier, lengths: RequestLengths
) -> None:
    need = with_lengths(lengths)
    slower = replace(need, factors=CostFactors(decode_time=1.3, prompt_time=1.3))
    assert most_tps(points_at(swept, slower)) < most_tps(points_at(swept, need))
    hungrier = replace(need, factors=CostFactors(decode_energy=1.2, prompt_energy=1.2))
    assert points_at(swept, hungrier).full.full.draw_w == pytest.approx(
        1.2 * points_at(swept, need).full.full.draw_w
    )


def test_smaller_steps_weigh_more_so_that_fewer_prompts_are_served(swept: Frontier) -> None:
    need = with_lengths(RequestLengths(2000, 30))
    served = [most_tps(points_at(swept, replace(need, tokens_per_step=n))) for n in (512, 1024, 0)]
    assert served == sorted(served)
    assert served[0] < 0.9 * served[-1]


def test_points_are_computed_once_for_each_need(swept: Frontier) -> None:
    assert points_at(swept, NEED) is points_at(swept, replace(NEED))
    assert points_at(swept, NEED) is not points_at(swept, replace(NEED, replicas=5))


def test_an_slo_that_no_clock_keeps_leaves_points_but_no_sustained_load(swept: Frontier) -> None:
    hopeless = replace(NEED, limits=LatencyLimits(0.001, 0.0001))
    points = points_at(swept, hopeless)
    assert points.sustained is None
    assert not points.at_full
    assert points.full.points


@given(st.integers(1, 4096))
def test_batch_limits_rise_in_even_steps_to_the_largest(largest: int) -> None:
    limits = batch_limits(largest).tolist()
    assert limits[0] == 1
    assert limits[-1] == largest
    assert limits == sorted(set(limits))
    assert all(after <= 2 * before for before, after in pairwise(limits))


@settings(max_examples=40)
@given(
    st.builds(RequestLengths, st.floats(1, 16_000), st.floats(1, 8000), st.floats(0, 16_000)),
    st.integers(1, 64),
)
def test_any_lengths_give_points_that_draw_no_less_than_idle(
    lengths: RequestLengths, replicas: int
) -> None:
    swept = modelled_frontier()
    points = points_at(swept, replace(with_lengths(lengths), replicas=replicas))
    found = [*points.full.candidates, *points.at_full]
    assert found
    assert all(point.output_tps > 0 for point in found)
    assert all(0.9 * swept.idle_w <= p.draw_w <= 1.2 * 4 * 700 for p in found)
