from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.control.plan import Plan
from steppe.control.policy.damping import Ramp
from steppe.control.state import Observation, ReplicaState


@dataclass
class Asleep:
    """Plans nothing; remembers the budgets it was asked with."""

    budgets_w: list[float] = field(default_factory=list)

    def decide(self, observation: Observation) -> Plan:
        self.budgets_w.append(observation.gpu_budget_w)
        return Plan((), 0.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 500)), min_size=1, max_size=30))
def test_a_ramp_falls_at_once_and_rises_by_at_most_its_limit(
    fleets: Any, steps: list[tuple[float, float]]
) -> None:
    inner = Asleep()
    policy = Ramp(inner, rise_w_per_s=20.0, period_s=1.0)
    observation = fleets.of([ReplicaState.AWAKE] * 2, 0.0).observation
    now_s = 0.0
    for after_s, budget_w in steps:
        now_s += after_s
        before = inner.budgets_w[-1:]
        policy.decide(replace(observation, now_s=now_s, gpu_budget_w=budget_w))
        if before:
            expected_w = min(budget_w, before[0] + 20.0 * max(1.0, after_s))
            assert inner.budgets_w[-1] == pytest.approx(expected_w)
        else:
            assert inner.budgets_w == [budget_w]
