"""The choices and the plans that are timed are those of several sites."""

from __future__ import annotations

import random
from typing import Any

import pytest

from steppe.control.ticket import PRIORITIES
from steppe.sites.decide import decide
from steppe.sites.prepared import PreparedSites


def test_the_loop_that_is_timed_beside_it_keeps_the_same_masks_and_surplus(bench: Any) -> None:
    timed = bench("sites_decision")
    views = timed.make_sites(40)
    names = [view.site for view in views]
    rtt_s = [0.0, *[0.01] * 39]
    peers, trips = {v.site: v for v in views[1:]}, dict(zip(names, rtt_s, strict=True))
    sites, quotas = PreparedSites(names, views[0], peers, trips), timed.make_quotas(names)
    asked, rng = timed.request("interactive"), random.Random(1)
    left = quotas.left_of("m", "interactive").tolist()
    choice = decide(asked, sites, quotas, pin=None, refused={}, now_s=timed.NOW_S, rng=rng)
    assert choice.site is not None
    for index in (timed.plain_loop(asked, views, rtt_s, left, rng), sites.index[choice.site]):
        assert views[index].region in asked.regions
        assert views[index].surplus_w > 0.0


def test_a_size_has_a_row_for_each_class_and_its_loop(bench: Any) -> None:
    rows = bench("sites_decision").time_size(3, 1)
    names = [f"{what}, {each}" for each in PRIORITIES for what in ("decide", "plain loop")]
    assert [row["name"] for row in rows] == [*names, "prepare"]


def test_a_timed_plan_costs_less_than_local_only(bench: Any) -> None:
    row = bench("sites_plan").time_plans(3, 1)
    assert row["cost_to_alone"] < 0.9
    assert row["cost_to_all_targets"] == pytest.approx(1.0, abs=1e-6)
    assert row["missed"] == pytest.approx(0.0, abs=1.0)


def test_the_figures_of_a_way_leave_out_the_first_event_of_each_stream(bench: Any) -> None:
    timed = bench("sites_forward")
    streamed = [timed.Streamed(0.010, (0.5, 0.001)), timed.Streamed(0.030, (0.5, 0.003))]
    assert timed.figures(streamed) == pytest.approx(
        {"first_p50_ms": 20.0, "first_p95_ms": 30.0, "event_p50_ms": 2.0, "event_p95_ms": 3.0}
    )


def test_a_state_that_is_timed_has_all_of_its_sites(bench: Any) -> None:
    timed = bench("sites_state")
    state = timed.state_of(10)
    assert len(state.usable(0.0)) == 9
    assert timed.read_state(timed.write_state(state, 0.0), 0.0) == state
    assert timed.time_size(3, 1)["bytes"] > 3 * 1500
