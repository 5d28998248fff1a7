from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from steppe.load.arrivals import Arrival
from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Cancelled, Completed, Failed, Outcome, RequestRefused
from steppe.report.records import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.1)


def request(index: int, outcome: Outcome, due_s: float = 0.0, retries: int = 0) -> RequestResult:
    return RequestResult(index, Arrival(due_s, 10, 5), due_s, due_s + 0.001, retries, outcome)


def answer(first_s: float, last_s: float, output_tokens: int = 5) -> Completed:
    gap_s = (last_s - first_s) / 4
    return Completed(first_s, last_s, array("f", [gap_s] * 4), 40, output_tokens, "length")


def result(*outcomes: Outcome) -> LoadResult:
    requests = tuple(request(index, outcome) for index, outcome in enumerate(outcomes))
    return LoadResult("small", 0.0, 10.0, 3, requests)


def test_latency_counts_from_when_the_request_was_due() -> None:
    late = request(0, answer(first_s=3.0, last_s=3.8), due_s=2.5)
    assert late.ttft_s == pytest.approx(0.5)
    assert late.e2e_s == pytest.approx(1.3)
    assert late.tpot_s == pytest.approx(0.2)


def test_a_single_token_has_no_tpot_and_can_be_good() -> None:
    single = request(0, answer(0.5, 0.5, output_tokens=1))
    assert single.tpot_s is None
    assert single.is_good(SLO)


def test_goodput_and_attainment_count_failures_but_not_cancelled_requests() -> None:
    good, slow_start, slow_tokens = answer(0.5, 0.8), answer(1.5, 1.6), answer(0.5, 2.5)
    summary = result(
        good, slow_start, slow_tokens, Failed("x"), RequestRefused(503, None), Cancelled(0.9, None)
    ).summary(SLO)
    assert summary["request_goodput"] == pytest.approx(0.1)
    assert summary["slo_attainment"] == pytest.approx(1 / 5)
    assert summary["request_throughput"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("cancelled", "attainment"),
    [
        (Cancelled(end_s=2.9, first_s=None), 1.0),
        (Cancelled(end_s=3.1, first_s=None), 0.5),
        (Cancelled(end_s=9.0, first_s=2.9), 1.0),
        (Cancelled(end_s=9.0, first_s=3.1), 0.5),
    ],
)
def test_a_cancelled_request_misses_the_slo_if_its_first_token_was_late_by_then(
    cancelled: Cancelled, attainment: float
) -> None:
    requests = (request(0, answer(0.5, 0.8)), request(1, cancelled, due_s=2.0))
    summary = LoadResult("small", 0.0, 10.0, 2, requests).summary(SLO)
    assert summary["slo_attainment"] == pytest.approx(attainment)
    assert summary["cancelled"] == 1


def test_client_errors_have_failed_but_do_not_count_for_attainment() -> None:
    summary = result(answer(0.5, 0.8), Failed("status 400: no", is_client_error=True)).summary(SLO)
    assert (summary["failed"], summary["slo_attainment"]) == (1, 1.0)


def test_unsent_requests_count_once_they_were_due() -> None:
    found = replace(result(answer(0.5, 0.8)), not_sent=9, overdue=3)
    assert not found.all_completed
    summary = found.summary(SLO)
    assert summary["not_sent"] == 9
    assert summary["slo_attainment"] == pytest.approx(1 / 4)


def test_each_outcome_is_counted_under_its_name() -> None:
    outcomes = (
        answer(0.5, 0.8),
        Failed("broke"),
        Failed("broke"),
        RequestRefused(429, 1.0),
        RequestRefused(503, 2.0),
        Cancelled(0.9, None),
    )
    found = result(*outcomes)
    summary = found.summary(SLO)
    counts = {name: summary[name] for name in ("completed", "failed", "rejected", "shed")}
    assert counts == {"completed": 1, "failed": 2, "rejected": 1, "shed": 1}
    assert summary["cancelled"] == 1
    assert summary["errors"] == {"broke": 2}
    assert not found.all_completed


def test_rates_and_milliseconds_have_the_names_of_vllm_bench() -> None:
    summary = result(answer(0.2, 0.6), answer(0.4, 0.8)).summary(SLO)
    assert summary["output_throughput"] == pytest.approx(1.0)
    assert summary["total_token_throughput"] == pytest.approx(9.0)
    assert summary["mean_ttft_ms"] == pytest.approx(300.0)
    assert summary["median_tpot_ms"] == pytest.approx(100.0)
    assert summary["p99_itl_ms"] == pytest.approx(100.0)
    assert summary["p95_e2el_ms"] == pytest.approx(790.0)
    assert summary["p99_send_lag_ms"] == pytest.approx(1.0)


def test_a_load_without_answers_has_no_latency() -> None:
    summary = result(Failed("x")).summary(SLO)
    assert summary["mean_ttft_ms"] is None
    assert summary["p99_itl_ms"] is None
    assert summary["slo_attainment"] == 0.0
    assert result().summary(SLO)["slo_attainment"] is None


def test_a_row_has_the_requested_and_the_received_tokens() -> None:
    rows = [request.row() for request in result(answer(0.5, 0.9), Failed("broke")).requests]
    assert rows[0]["output_tokens"] == 5
    assert rows[0]["finish"] == "length"
    assert rows[1]["output_tokens"] is None
    assert (rows[1]["finish"], rows[1]["error"]) == ("failed", "broke")
