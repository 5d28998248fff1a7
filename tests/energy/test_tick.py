from __future__ import annotations

from itertools import accumulate

import pytest

from steppe.energy.tick import Tick, learned_period_s


def ticks(*gaps_s: float, after_hole: int | None = None) -> list[Tick]:
    """Return ticks so far apart, the one of index `after_hole` unconnected with those before."""
    return [
        Tick(at_s, at_s - 0.01, at_s + 0.01, 0.0, 0.0, None, index == after_hole)
        for index, at_s in enumerate(accumulate(gaps_s, initial=1.0))
    ]


def test_a_tick_that_went_unseen_does_not_make_the_period_longer() -> None:
    assert learned_period_s(ticks(0.1, 0.2, 0.1, 0.1), 1.0) == pytest.approx(0.1)


def test_a_hole_says_nothing_of_the_period() -> None:
    assert learned_period_s(ticks(0.1, 0.14, 0.1, after_hole=2), 1.0) == pytest.approx(0.1)
    assert learned_period_s(ticks(0.14, after_hole=1), 1.0) == 1.0


def test_a_tick_that_comes_early_is_a_period_too() -> None:
    assert learned_period_s(ticks(0.1, 0.1, 0.04, 0.1), 1.0) == pytest.approx(0.34 / 4)
