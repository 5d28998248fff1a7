from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.report.latency import Service, percentiles, tpot_s, within_slo
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
        ("invalid", "invalid"),
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


STREAMED = request()
WHOLE = replace(request(ttft_s=None, tpot=None), streamed=False)
DEFERRABLE = replace(request(ttft_s=250.0), priority="deferrable")


@pytest.mark.parametrize(
    ("candidate", "within"),
    [
        (STREAMED, True),
        (replace(STREAMED, ttft_s=2.1), False),
        (replace(STREAMED, tpot_s=0.21), False),
        (replace(STREAMED, tpot_s=None, output_tokens=1), True),
        (replace(STREAMED, tpot_s=None, output_tokens=5), False),
        # 2 s for the first token and 11 times 0.2 s for all of them
        (replace(WHOLE, e2e_s=4.2), True),
        (replace(WHOLE, e2e_s=4.21), False),
        (replace(WHOLE, e2e_s=None), False),
        (request("failed"), False),
        (replace(request("failed"), streamed=False), False),
        (request("rejected"), False),
        (request("shed"), False),
        (request("invalid", ttft_s=None), None),
        (request("cancelled"), None),
        (DEFERRABLE, None),
        (replace(DEFERRABLE, finish="shed"), None),
    ],
)
def test_a_request_keeps_its_slo_misses_it_or_is_not_judged(
    candidate: RequestRecord, within: bool | None
) -> None:
    assert within_slo(candidate, SLO) is within


@pytest.mark.parametrize(
    ("candidate", "within"),
    [
        (replace(STREAMED, ttft_s=None, output_tokens=0, e2e_s=1.9), None),
        (replace(STREAMED, ttft_s=None, output_tokens=0, e2e_s=2.1), False),
        (replace(STREAMED, ttft_s=30.0), False),
        (replace(WHOLE, e2e_s=4.2), None),
        (replace(WHOLE, e2e_s=4.21), False),
    ],
)
def test_a_cancelled_request_is_a_miss_only_if_it_was_late_already(
    candidate: RequestRecord, within: bool | None
) -> None:
    assert within_slo(replace(candidate, finish="cancelled"), SLO) is within


def test_attainment_and_goodput_count_the_same_requests() -> None:
    misses = [request("failed"), request("rejected"), request("shed")]
    not_judged = [request("invalid"), request("cancelled"), DEFERRABLE]
    served = service(STREAMED, replace(WHOLE, e2e_s=4.0), *misses, *not_judged)
    assert served.slo_attainment == pytest.approx(2 / 5)
    assert served.request_goodput(4.0) == pytest.approx(2 / 4)
    assert served.request_goodput(0.0) == 0


def test_deferrable_requests_have_a_line_of_their_own() -> None:
    late = replace(DEFERRABLE, e2e_s=300.0)
    ended = [late, replace(late, finish="shed"), replace(late, finish="cancelled")]
    assert service(STREAMED, *ended).deferrable == {
        "requests": 3,
        "completed": 1,
        "output_tokens": 33,
        "e2e_s": {"p50": 300.0, "p95": 300.0, "p99": 300.0},
    }


def test_attainment_of_nothing_is_unknown() -> None:
    assert service(request("cancelled")).slo_attainment is None
