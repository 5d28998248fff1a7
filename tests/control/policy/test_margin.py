from __future__ import annotations

import math

import numpy as np
import pytest

from steppe.control.policy.margin import (
    MOST_SHARE,
    MOST_SPREAD,
    learn_variance,
    margin_against,
    margin_share,
)


def learned(errors: list[float], awake_share: float) -> float:
    """Return the variance after these errors."""
    variance = 0.0
    for error in errors:
        variance = learn_variance(variance, error, awake_share)
    return variance


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
def test_one_awake_replica_of_a_few_gets_a_margin_against_the_spread_of_one(replicas: int) -> None:
    spread_of_one = 0.02
    of_all = spread_of_one / math.sqrt(replicas)
    variance = learned([of_all, -of_all] * 500, 1.0)
    alone = margin_share(variance, 1 / replicas, 0.0, 2e-4)
    assert alone == pytest.approx(margin_against(spread_of_one, 2e-4), rel=0.05)
    assert alone > margin_share(variance, 1.0, 0.0, 2e-4)


def test_a_draw_that_spreads_wildly_does_not_take_most_of_the_budget() -> None:
    variance = learned([0.3] * 500, 1.0)
    assert margin_share(variance, 1.0, 0.02, 5e-5) == MOST_SHARE
    assert margin_share(variance, 1.0, 0.1, 5e-5) == 0.1


def test_the_spread_of_one_replica_gives_that_of_the_fleet() -> None:
    one = learned([0.02 * math.sqrt(2)] * 200, 0.5)
    assert one == pytest.approx(learned([0.02] * 200, 1.0))


def test_the_least_margin_grows_as_replicas_sleep_up_to_a_limit() -> None:
    shares = [margin_share(0.0, awake / 1000, 0.01, 2e-4) for awake in (1000, 500, 400, 1)]
    spreads = [1.0, math.sqrt(2), math.sqrt(2.5), MOST_SPREAD]
    assert shares == pytest.approx([0.01 * spread for spread in spreads])
