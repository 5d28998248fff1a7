"""What a fleet makes of a budget that stays, whole runs of the scoreboard's fleet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from steppe.power.trace import SupplyTrace

BENCH = Path(__file__).parents[2] / "bench"
DURATION_S = 240.0


@pytest.fixture(scope="module")
def policies() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    import policies

    yield policies
    sys.path.remove(str(BENCH))


@pytest.mark.parametrize("share", [0.465, 0.48])
def test_on_a_budget_that_stays_replicas_do_not_take_turns_for_ever(
    policies: ModuleType, share: float
) -> None:
    bench = policies.make_bench("70b", None, DURATION_S, 0.8)
    level_w = share * bench.full_w
    supply = SupplyTrace((0.0, DURATION_S), (level_w, level_w), None)
    happening = policies.scenarios.Happening("flat", supply, 0.2 * bench.full_w)
    _, ticks = policies.run(bench, "follow_budget", happening)
    second_half = ticks[len(ticks) // 2 :]
    frozen = sum(
        before.state == "awake" and after.state == "asleep"
        for tick, following in pairwise(second_half)
        for before, after in zip(tick.replicas, following.replicas, strict=True)
    )
    assert frozen <= 2
