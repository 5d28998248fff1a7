from __future__ import annotations

import math

import numpy as np
import pytest

from steppe.control.guard import MOST_SPREAD, Guard, guard_against


@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.05])
def test_the_guard_leaves_as_much_energy_above_the_budget_as_is_allowed(deviation: float) -> None:
    over_share = 4e-4
    guard = guard_against(deviation, over_share)
    draws = 1 - guard + deviation * np.random.default_rng(0).standard_normal(2_000_000)
    assert np.maximum(draws - 1, 0).mean() == pytest.approx(over_share, rel=0.05)


def test_a_spread_too_small_to_matter_needs_no_guard() -> None:
    assert guard_against(0.0, 4e-4) == 0.0
    assert guard_against(5e-4, 4e-4) == 0.0


@pytest.mark.parametrize("replicas", [2, 4, 8])
def test_one_replica_of_a_few_is_guarded_against_the_spread_of_one(replicas: int) -> None:
    spread_of_one, guard = 0.02, Guard(0.0, 2e-4)
    of_all = spread_of_one / math.sqrt(replicas)
    for _ in range(500):
        guard.learn(of_all, 1.0)
        guard.learn(-of_all, 1.0)
    alone = guard.share(1 / replicas)
    assert alone == pytest.approx(guard_against(spread_of_one, 2e-4), rel=0.05)
    assert alone > guard.share(1.0)


def test_what_is_learned_of_one_replica_says_how_little_the_fleet_spreads() -> None:
    guard, whole = Guard(0.0, 2e-4), Guard(0.0, 2e-4)
    for _ in range(200):
        guard.learn(0.04, 0.25)
        whole.learn(0.02, 1.0)
    assert guard.share(1.0) == pytest.approx(whole.share(1.0))


def test_the_least_guard_grows_as_replicas_sleep_but_not_without_end() -> None:
    guard = Guard(0.01, 2e-4)
    shares = [guard.share(awake / 1000) for awake in (1000, 500, 250, 1)]
    assert shares == pytest.approx([0.01, 0.01 * math.sqrt(2), 0.02, 0.01 * MOST_SPREAD])
