"""What a fleet makes of a budget that stays, whole runs of the scoreboard's fleet."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from steppe.power.trace import SupplyTrace

DURATION_S = 240.0


@pytest.mark.parametrize("share", [0.465, 0.48])
def test_on_a_budget_that_stays_replicas_do_not_take_turns_for_ever(
    bench: Any, share: float
) -> None:
    policies = bench("policies")
    fleet = policies.make_bench(policies.Size("70b", None, DURATION_S))
    level_w = share * fleet.full_w
    supply = SupplyTrace((0.0, DURATION_S), (level_w, level_w), None)
    happening = policies.scenarios.Happening("flat", supply, 0.2 * fleet.full_w)
    _, ticks = policies.run(fleet, "follow_budget", happening)
    second_half = ticks[len(ticks) // 2 :]
    frozen = sum(
        before.state == "awake" and after.state == "asleep"
        for tick, following in pairwise(second_half)
        for before, after in zip(tick.replicas, following.replicas, strict=True)
    )
    assert frozen <= 2
