"""Which variant serves an alias, as the watts fall and rise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.fake_fleet import FakeFleet

from steppe.control.policy.goals import FollowBudget
from steppe.control.pools import Pool, ShareBudget
from steppe.control.state import AliasLoad, Observation, ReplicaState
from steppe.control.variants import RETURN_PER_S, ChooseVariants, shares_at
from steppe.frontier.pareto import Frontier

LARGE, SMALL = "large", "small"
REPLICAS = 4


def pool_of(frontier: Frontier) -> Pool:
    drain_w = frontier.floor.draw_w
    return Pool(frontier, drain_w, FollowBudget(frontier, drain_w))


def cheaper(frontier: Frontier, factor: float) -> Frontier:
    """Return a frontier that gives more tokens for the same watts."""
    points = [replace(p, output_tps=factor * p.output_tps) for p in frontier.points]
    return Frontier.of(points, frontier.asleep_w, frontier.idle_w, frontier.source)


def chooser(frontier: Frontier) -> ChooseVariants:
    pools = {LARGE: pool_of(frontier), SMALL: pool_of(cheaper(frontier, 8.0))}
    return ChooseVariants(ShareBudget(pools), {"any": (LARGE, SMALL)})


def seen(
    budget_w: float, alias_tps: float, now_s: float = 0.0, required: float = 0.0
) -> Observation:
    """Return two pools with requests of an alias, all of which the large model got so far."""
    whole = FakeFleet.of([ReplicaState.AWAKE] * REPLICAS, 0.0, 0).observation
    parts = {}
    for name in (LARGE, SMALL):
        replicas = tuple(
            replace(r, id=f"{name}-{r.id}", pool=name, outstanding=0) for r in whole.replicas
        )
        tps = alias_tps if name == LARGE else 0.0
        parts[name] = replace(whole, replicas=replicas, demand_tps=tps, now_s=now_s)
    load = AliasLoad(alias_tps, {LARGE: alias_tps, SMALL: 0.0}, required * alias_tps)
    return replace(
        parts[LARGE],
        gpu_budget_w=budget_w,
        replicas=tuple(r for part in parts.values() for r in part.replicas),
        pools=parts,
        aliases={"any": load},
    )


def full(frontier: Frontier) -> tuple[float, float]:
    """Return draw and output of all large replicas at the full point."""
    return REPLICAS * frontier.full.draw_w, REPLICAS * frontier.full.output_tps


def test_with_enough_watts_the_best_variant_serves_all(frontier: Frontier) -> None:
    draw_w, tps = full(frontier)
    plan = chooser(frontier).decide(seen(3 * draw_w, 0.5 * tps))
    assert plan.variants == {"any": {LARGE: 1.0, SMALL: 0.0}}


def test_while_watts_are_short_the_smaller_one_serves_just_what_must_be(
    frontier: Frontier,
) -> None:
    draw_w, tps = full(frontier)
    asleep_w = REPLICAS * frontier.asleep_w
    shares = [
        chooser(frontier).decide(seen(share * draw_w + asleep_w, 0.6 * tps)).variants["any"]
        for share in (0.9, 0.5, 0.35)
    ]
    assert shares[0][SMALL] < shares[1][SMALL] < shares[2][SMALL]
    assert all(sum(each.values()) == pytest.approx(1.0) for each in shares)


def test_the_pools_get_demand_and_watts_by_the_shares(frontier: Frontier) -> None:
    draw_w, tps = full(frontier)
    plan = chooser(frontier).decide(seen(0.5 * draw_w + REPLICAS * frontier.asleep_w, 0.6 * tps))
    share = plan.variants["any"][SMALL]
    assert plan.pools[SMALL].output_tps >= share * 0.6 * tps
    assert plan.pools[LARGE].output_tps >= (1 - share) * 0.6 * tps
    assert plan.draw_w <= 0.5 * draw_w + REPLICAS * frontier.asleep_w + 1e-6


def test_what_requires_the_best_variant_stays_with_it(frontier: Frontier) -> None:
    draw_w, tps = full(frontier)
    dark = seen(0.3 * draw_w + REPLICAS * frontier.asleep_w, 0.6 * tps, required=0.5)
    policy = chooser(frontier)
    policy.decide(dark)
    demands = policy._demands(dark, 1.0)
    assert demands[LARGE] == pytest.approx(0.3 * tps)
    assert demands[SMALL] == pytest.approx(0.3 * tps)


def test_it_returns_slowly_when_the_watts_are_back(frontier: Frontier) -> None:
    draw_w, tps = full(frontier)
    policy = chooser(frontier)
    dark_w = 0.3 * draw_w + REPLICAS * frontier.asleep_w
    before = policy.decide(seen(dark_w, 0.6 * tps)).variants["any"][SMALL]
    after = policy.decide(seen(3 * draw_w, 0.6 * tps, now_s=1.0)).variants["any"][SMALL]
    assert after == pytest.approx(before - RETURN_PER_S)
    later = policy.decide(seen(3 * draw_w, 0.6 * tps, now_s=100.0)).variants["any"][SMALL]
    assert later == 0.0


def test_a_steady_budget_gives_a_steady_level(frontier: Frontier) -> None:
    draw_w, tps = full(frontier)
    policy = chooser(frontier)
    watts = 0.45 * draw_w + REPLICAS * frontier.asleep_w
    levels = [
        policy.decide(seen(watts, 0.6 * tps, now_s=float(second))).variants["any"][SMALL]
        for second in range(20)
    ]
    assert len(set(levels)) == 1


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 3000), st.floats(0, 2.0), st.floats(0, 1))
def test_shares_sum_to_one_and_the_plan_keeps_the_budget(
    frontier: Frontier, budget_w: float, load: float, required: float
) -> None:
    _, tps = full(frontier)
    plan = chooser(frontier).decide(seen(budget_w, load * tps, required=required))
    assert sum(plan.variants["any"].values()) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 for share in plan.variants["any"].values())
    assert plan.draw_w <= budget_w + 1e-6 or not plan.feasible


@given(st.floats(0, 1), st.integers(2, 5))
def test_two_neighbours_share_at_each_level(level: float, number: int) -> None:
    variants = tuple(f"model-{index}" for index in range(number))
    shares = shares_at(level, variants)
    used = [index for index, name in enumerate(variants) if shares[name] > 0]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert used[-1] - used[0] <= 1
    assert shares_at(0.0, variants)[variants[0]] == 1.0
    assert shares_at(1.0, variants)[variants[-1]] == 1.0
