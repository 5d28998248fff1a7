"""Requests of a simulated fleet against the SLO, and the work of its steps."""

from __future__ import annotations

import pytest

from steppe.control.admission import DEFERRABLE
from steppe.control.measurements import LatencyCounts
from steppe.load.arrivals import Arrival
from steppe.sim.latency import SimulatedLatency
from steppe.sim.request import Request

TTFT_S, TPOT_S = 2.0, 0.1


def sent(
    latency: SimulatedLatency, number: int, at_s: float, tokens: int = 11, rank: int = 0
) -> Request:
    """Return a request that has just arrived."""
    request = Request(number, Arrival(at_s, 100, tokens, rank=rank))
    latency.arrive(number, at_s, rank)
    return request


def begun(latency: SimulatedLatency, request: Request, at_s: float) -> None:
    request.first_s = at_s
    latency.begin([request])


@pytest.fixture
def latency() -> SimulatedLatency:
    return SimulatedLatency(TTFT_S, TPOT_S)


@pytest.mark.parametrize(("first_s", "late"), [(2.9, 0), (3.1, 1)])
def test_a_first_token_after_the_slo_is_late(
    latency: SimulatedLatency, first_s: float, late: int
) -> None:
    begun(latency, sent(latency, 1, 1.0), first_s)
    assert latency.counts(9.0) == LatencyCounts(first_tokens=1, late=late)


@pytest.mark.parametrize(("end_s", "slow"), [(2.9, 0), (3.1, 1)])
def test_ten_tokens_in_more_than_a_second_are_slow(
    latency: SimulatedLatency, end_s: float, slow: int
) -> None:
    request = sent(latency, 1, 1.0)
    begun(latency, request, 2.0)
    latency.end(end_s, [request])
    assert latency.counts(9.0) == LatencyCounts(1, 0, 1, slow)


def test_requests_of_one_token_have_no_speed(latency: SimulatedLatency) -> None:
    request = sent(latency, 1, 1.0, tokens=1)
    begun(latency, request, 2.0)
    latency.end(50.0, [request])
    assert latency.counts(60.0) == LatencyCounts(first_tokens=1)


def test_requests_without_a_first_token_become_overdue_until_they_get_it_or_leave(
    latency: SimulatedLatency,
) -> None:
    requests = [sent(latency, number, float(number)) for number in range(4)]
    overdue = [latency.counts(now_s).overdue for now_s in (1.5, 2.5, 4.5, 9.0)]
    assert overdue == [0, 1, 3, 4]
    begun(latency, requests[0], 9.0)
    latency.leave(requests[1])
    assert latency.counts(9.0) == LatencyCounts(first_tokens=1, late=1, overdue=2)


def test_deferrable_requests_do_not_count(latency: SimulatedLatency) -> None:
    request = sent(latency, 1, 1.0, rank=DEFERRABLE)
    assert latency.counts(99.0) == LatencyCounts()
    begun(latency, request, 99.0)
    latency.end(999.0, [request])
    assert latency.counts(999.0) == LatencyCounts()
