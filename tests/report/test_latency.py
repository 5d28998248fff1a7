from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.report.latency import Service, is_good, percentiles, tpot_s
from steppe.report.records import RequestRecord, Slo

SLO = Slo(ttft_s=2.0, tpot_s=0.2)


def request(
    finish: str = "stop",
    ttft_s: float | None = 1.0,
    tpot: float | None = 0.1,
    output_tokens: int = 11,
) -> RequestRecord:
    return RequestRecord(
        id="r",
        tenant="t",
        priority="standard",
        arrival_s=0.0,
        ttft_s=ttft_s,
        e2e_s=2.0,
        tpot_s=tpot,
        prompt_tokens=5,
        cached_tokens=None,
        output_tokens=output_tokens,
        energy_j=1.0,
        energy_source="counter",
        finish=finish,
        replica=None,
    )


def service(*requests: RequestRecord) -> Service:
    served = Service(SLO)
    for ended in requests:
        served.add(ended)
    return served


def test_tpot_leaves_out_the_first_token() -> None:
    assert tpot_s(ttft_s=1.0, e2e_s=3.0, output_tokens=11) == pytest.approx(0.2)


def test_one_token_has_no_tpot() -> None:
    assert tpot_s(ttft_s=1.0, e2e_s=1.0, output_tokens=1) is None


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_percentiles_rise_and_stay_within_the_values(values: Sequence[float]) -> None:
    found = percentiles(values)
    assert found["p50"] is not None
    assert found["p95"] is not None
    assert found["p99"] is not None
    slack = 1e-9 * max(values)
    assert min(values) - slack <= found["p50"] <= found["p95"] + slack
    assert found["p95"] - slack <= found["p99"] <= max(values) + slack


def test_unknown_times_are_left_out_of_the_percentiles() -> None:
    assert percentiles([None, 3.0])["p99"] == 3.0
    assert percentiles([None])["p50"] is None


@pytest.mark.parametrize(
    ("finish", "outcome"),
    [
        ("stop", "completed"),
        ("length", "completed"),
        ("tool_calls", "completed"),
        ("abort", "cancelled"),
        ("cancelled", "cancelled"),
        ("rejected", "rejected"),
        ("shed", "shed"),
        ("failed", "failed"),
        ("a reason nobody knows", "failed"),
    ],
)
def test_a_finish_has_one_outcome(finish: str, outcome: str) -> None:
    assert request(finish).outcome == outcome


def test_latency_is_that_of_completed_requests() -> None:
    found = service(request(ttft_s=1.0), request("failed", ttft_s=100.0)).latency
    assert found["ttft_s"]["p99"] == 1.0


@pytest.mark.parametrize(
    ("candidate", "good"),
    [
        (request(), True),
        (request(ttft_s=2.1), False),
        (request(tpot=0.21), False),
        (request(tpot=None, output_tokens=1), True),
        (request(tpot=None, output_tokens=5), False),
        (request(ttft_s=None), False),
        (request("failed"), False),
        (request("cancelled"), False),
    ],
)
def test_a_good_request_completes_within_every_slo(candidate: RequestRecord, good: bool) -> None:
    assert is_good(candidate, SLO) is good


@pytest.mark.parametrize(
    ("changed", "good"),
    [({}, True), ({"tpot_s": 0.21}, False), ({"finish": "shed"}, False)],
    ids=str,
)
def test_deferrable_work_may_begin_late_but_must_keep_its_pace_and_end(
    changed: dict[str, Any], good: bool
) -> None:
    deferred = replace(request(ttft_s=250.0), priority="deferrable", **changed)
    assert is_good(deferred, SLO) is good
    assert not is_good(replace(deferred, priority="standard"), SLO)


def test_deferrable_work_that_is_cancelled_counts_nowhere_however_long_it_waited() -> None:
    left = replace(request("cancelled", ttft_s=None), e2e_s=60.0, priority="deferrable")
    assert service(request(), left).slo_attainment == 1.0


def test_attainment_counts_failed_rejected_and_shed_but_not_cancelled() -> None:
    requests = [request(), request("failed"), request("rejected"), request("shed")]
    served = service(*requests, request("cancelled"))
    assert served.slo_attainment == pytest.approx(0.25)


def test_who_leaves_after_waiting_too_long_counts_as_not_served_in_time() -> None:
    left = request("cancelled", ttft_s=None)
    patient, late = replace(left, e2e_s=60.0), request("cancelled", ttft_s=30.0)
    assert service(request(), patient, late).slo_attainment == pytest.approx(1 / 3)
    soon = replace(left, e2e_s=1.0)
    assert service(request(), soon).slo_attainment == 1.0


def test_attainment_of_nothing_is_unknown() -> None:
    assert service(request("cancelled")).slo_attainment is None


def test_goodput_is_good_requests_a_second() -> None:
    served = service(request(), request(), request("shed"))
    assert served.request_goodput(4.0) == pytest.approx(0.5)
    assert served.request_goodput(0.0) == 0
