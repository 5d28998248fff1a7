from __future__ import annotations

import math

import numpy as np
import pytest

from steppe.control.policy.margin import MOST_SHARE, MOST_SPREAD, Margin, margin_against


@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.05])
def test_the_margin_leaves_as_much_energy_above_the_budget_as_is_allowed(deviation: float) -> None:
    over_share = 4e-4
    margin = margin_against(deviation, over_share)
    draws = 1 - margin + deviation * np.random.default_rng(0).standard_normal(2_000_000)
    assert np.maximum(draws - 1, 0).mean() == pytest.approx(over_share, rel=0.05)


def test_a_spread_too_small_to_matter_needs_no_margin() -> None:
    assert margin_against(0.0, 4e-4) == 0.0
    assert margin_against(5e-4, 4e-4) == 0.0


@pytest.mark.parametrize("replicas", [2, 3])
def test_one_replica_of_a_few_is_kept_a_margin_against_the_spread_of_one(replicas: int) -> None:
    spread_of_one, margin = 0.02, Margin(0.0, 2e-4)
    of_all = spread_of_one / math.sqrt(replicas)
    for _ in range(500):
        margin.learn(of_all, 1.0)
        margin.learn(-of_all, 1.0)
    alone = margin.share(1 / replicas)
    assert alone == pytest.approx(margin_against(spread_of_one, 2e-4), rel=0.05)
    assert alone > margin.share(1.0)


def test_a_draw_that_spreads_wildly_does_not_take_most_of_the_budget() -> None:
    margin = Margin(0.02, 5e-5)
    for _ in range(500):
        margin.learn(0.3, 1.0)
    assert margin.share(1.0) == MOST_SHARE
    assert Margin(0.1, 5e-5).share(1.0) == 0.1  # who asks for more gets it


def test_what_is_learned_of_one_replica_says_how_little_the_fleet_spreads() -> None:
    margin, whole = Margin(0.0, 2e-4), Margin(0.0, 2e-4)
    for _ in range(200):
        margin.learn(0.02 * math.sqrt(2), 0.5)
        whole.learn(0.02, 1.0)
    assert margin.share(1.0) == pytest.approx(whole.share(1.0))


def test_the_least_margin_grows_as_replicas_sleep_but_not_without_end() -> None:
    margin = Margin(0.01, 2e-4)
    shares = [margin.share(awake / 1000) for awake in (1000, 500, 400, 1)]
    assert shares == pytest.approx(
        [0.01 * spread for spread in (1.0, math.sqrt(2), math.sqrt(2.5), MOST_SPREAD)]
    )
