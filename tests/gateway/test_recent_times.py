from __future__ import annotations

from typing import Any

import pytest

from steppe.gateway.recent_times import MOST_KEPT, WINDOW_S, RecentTimes
from steppe.gateway.request import FinishedRequest


def ended(**changes: Any) -> FinishedRequest:
    values: dict[str, Any] = {
        "id": "r", "engine_id": "e", "tenant": "a", "priority": "standard", "arrival_s": 0.0,
        "arrival_epoch_s": 0.0, "ttft_s": 0.5, "e2e_s": 2.5, "prompt_tokens": 10,
        "cached_tokens": 0, "output_tokens": 101, "finish": "stop", "status": 200, "replica": "m-1",
        "streamed": True,
    }  # fmt: skip
    return FinishedRequest(**values | changes)


def test_a_model_without_requests_has_no_times() -> None:
    recent = RecentTimes(0.0)
    assert recent.ttft_p95_s(5.0) is recent.tpot_mean_s(5.0) is None
    assert recent.demand_tps(5.0, 3, 3) == {}


def test_the_times_are_those_of_the_last_minute() -> None:
    recent = RecentTimes(0.0)
    recent.add(ended(ttft_s=9.0, e2e_s=99.0), is_deferrable=False, now_s=1.0)
    for n in range(20):
        recent.add(ended(ttft_s=0.1 * n, e2e_s=0.1 * n + 2.0), is_deferrable=False, now_s=62.0)
    assert recent.ttft_p95_s(62.0) == pytest.approx(1.9)
    assert recent.tpot_mean_s(62.0) == pytest.approx(0.02)
    assert recent.ttft_p95_s(62.0 + WINDOW_S + 1.0) is None


def test_a_deferrable_request_has_no_time_to_the_first_token() -> None:
    recent = RecentTimes(0.0)
    recent.add(ended(), is_deferrable=True, now_s=1.0)
    assert recent.ttft_p95_s(1.0) is None
    assert recent.tpot_mean_s(1.0) == pytest.approx(0.02)


def test_the_demand_is_by_tenant_and_class() -> None:
    recent = RecentTimes(0.0)
    for tenant, priority in (("a", "standard"), ("a", "standard"), ("b", "interactive")):
        recent.add(ended(tenant=tenant, priority=priority), is_deferrable=False, now_s=9.0)
    assert recent.demand_tps(10.0, 0, 0) == {
        ("a", "standard"): pytest.approx(20.2),
        ("b", "interactive"): pytest.approx(10.1),
    }


def test_requests_that_wait_or_were_refused_are_demand_too() -> None:
    recent = RecentTimes(0.0)
    recent.add(ended(output_tokens=100), is_deferrable=False, now_s=9.0)
    refused = ended(output_tokens=None, ttft_s=None, finish="rejected", status=503, replica=None)
    recent.add(refused, is_deferrable=False, now_s=9.0)
    assert recent.demand_tps(10.0, 0, 9) == {("a", "standard"): pytest.approx(20.0)}
    assert recent.demand_tps(10.0, 2, 9) == {("a", "standard"): pytest.approx(40.0)}


def test_the_fault_of_a_client_is_no_demand() -> None:
    recent = RecentTimes(0.0)
    for finish in ("invalid", "cancelled"):
        recent.add(ended(finish=finish), is_deferrable=False, now_s=1.0)
    assert recent.demand_tps(1.0, 0, 0) == {}


def test_with_many_requests_the_rate_is_that_of_those_that_are_kept() -> None:
    recent = RecentTimes(0.0)
    for n in range(2 * MOST_KEPT):
        recent.add(ended(output_tokens=1), is_deferrable=False, now_s=60.0 + n / 100)
    (output_tps,) = recent.demand_tps(60.0 + 2 * MOST_KEPT / 100, 0, 0).values()
    assert output_tps == pytest.approx(100.0, rel=0.01)


def test_a_request_that_another_site_served_is_demand_here_and_has_no_times() -> None:
    recent = RecentTimes(0.0)
    moved = ended(site="hohhot", replica=None, output_tokens=100)
    recent.add(moved, is_deferrable=False, now_s=9.0, was_here=False)
    assert recent.demand_tps(10.0, 0, 0) == {("a", "standard"): pytest.approx(10.0)}
    assert recent.ttft_p95_s(10.0) is recent.tpot_mean_s(10.0) is None


def test_the_window_may_be_shorter_than_a_minute() -> None:
    recent = RecentTimes(0.0, window_s=10.0)
    recent.add(ended(output_tokens=100), is_deferrable=False, now_s=20.0)
    assert recent.demand_tps(29.0, 0, 0) == {("a", "standard"): pytest.approx(10.0)}
    assert recent.demand_tps(31.0, 0, 0) == {}
