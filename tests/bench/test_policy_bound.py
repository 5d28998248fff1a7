"""What perfect plans would serve: the bound that the scoreboard stands beside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

rates_tps = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=40)


@given(most_tps=rates_tps, data=st.data())
def test_no_plan_serves_more_than_it_can_or_than_was_asked_for(
    bench: Any, most_tps: list[float], data: st.DataObject
) -> None:
    some = st.lists(st.floats(0.0, 1e4), min_size=len(most_tps), max_size=len(most_tps))
    asked_tps = data.draw(some)
    served = bench("policy_bound").served_tokens(most_tps, asked_tps)
    assert served <= min(sum(most_tps), sum(asked_tps)) * (1 + 1e-9)
    at_once = sum(map(min, most_tps, asked_tps))
    assert served >= at_once * (1 - 1e-9)


def test_work_that_waits_is_served_later_but_none_before_it_comes(bench: Any) -> None:
    served = bench("policy_bound").served_tokens
    assert served([1.0, 1.0, 1.0], [3.0, 0.0, 0.0]) == pytest.approx(3.0)
    assert served([1.0, 1.0, 1.0], [0.0, 0.0, 3.0]) == pytest.approx(1.0)


def test_where_there_is_more_wind_than_work_the_best_plan_gains_little(bench: Any) -> None:
    policies, bound = bench("policies"), bench("policy_bound")
    gains = []
    for utilisation in (0.1, 2.0):
        fleet = policies.make_bench(policies.Size("70b", 4, 60.0, utilisation))
        happening = policies.scenarios.windy_day(fleet.full_w, 60.0)
        gains.append(bound._most_gain(fleet, happening, 60.0))
    assert gains[0] < gains[1]
    assert gains[0] >= 1.0


def test_there_is_no_gain_over_replicas_that_never_fit(bench: Any) -> None:
    policies, bound = bench("policies"), bench("policy_bound")
    fleet = policies.make_bench(policies.Size("70b", 1, 20.0))
    day = policies.scenarios.cloudy_solar_day(0.1 * fleet.full_w, 20.0)
    assert bound._most_gain(fleet, day, 20.0) is None
