from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.measurements import LatencyCounts
from steppe.gateway.request import ClientHeaders, FinishedRequest, RequestContext
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.status import GatewayStatus
from steppe.gateway.stream import StreamScanner, Usage
from steppe.report.latency import tpot_s, within_slo
from steppe.report.records import RequestRecord, Slo

SLO = Slo(ttft_s=2.0, tpot_s=0.2)
HEADERS = ClientHeaders("default", "standard", "")
DEFERRABLE = ClientHeaders("default", "deferrable", "")
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


def record_of(request: FinishedRequest) -> RequestRecord:
    tokens, ttft_s = request.output_tokens or 0, request.ttft_s
    time_s = None if ttft_s is None else tpot_s(ttft_s, request.e2e_s, tokens)
    return RequestRecord(
        id=request.id,
        tenant=request.tenant,
        priority=request.priority,
        arrival_s=request.arrival_s,
        ttft_s=ttft_s,
        e2e_s=request.e2e_s,
        tpot_s=time_s,
        prompt_tokens=7,
        cached_tokens=None,
        output_tokens=tokens,
        energy_j=None,
        energy_source="emulated",
        finish=request.finish,
        replica=request.replica,
        streamed=request.streamed,
    )


@pytest.fixture
def tracker() -> RequestTracker:
    return RequestTracker(100.0, 5000.0, [GatewayModel("m", SLO.ttft_s, SLO.tpot_s)])


def status(tracker: RequestTracker, now_s: float) -> GatewayStatus:
    return tracker.status(now_s, {}, {})


def stream(
    tracker: RequestTracker, first_s: float | None = None, headers: ClientHeaders = HEADERS
) -> RequestContext:
    """Return a stream that arrived at 100 s, with a replica, and maybe with its first token."""
    context = tracker.open(headers, 100.0, "m", wants_stream=True)
    context.replica, context.is_at_replica = "r0", True
    context.scanner = StreamScanner()
    if first_s is not None:
        context.scanner.feed(EVENT, first_s)
    return context


def end(tracker: RequestTracker, context: RequestContext, now_s: float, **changes: Any) -> None:
    for name, value in {"finish": "stop", "status": 200, **changes}.items():
        setattr(context, name, value)
    tracker.close(context, now_s)


def test_a_first_token_counts_when_it_has_passed_and_once(tracker: RequestTracker) -> None:
    in_time, late = stream(tracker, 101.9), stream(tracker, 102.1)
    for _ in range(2):
        assert status(tracker, 103.0).latency == LatencyCounts(first_tokens=2, late=1)
    for context in (in_time, late):
        end(tracker, context, 103.0, usage=Usage(7, None, 1))
    assert status(tracker, 104.0).latency == LatencyCounts(first_tokens=2, late=1)


def test_the_time_per_token_counts_when_a_stream_has_ended(tracker: RequestTracker) -> None:
    for seconds in (1.9, 2.1):  # for ten tokens after the first
        end(tracker, stream(tracker, 101.0), 101.0 + seconds, usage=Usage(7, None, 11))
    latency = status(tracker, 105.0).latency
    assert latency == LatencyCounts(first_tokens=2, late=0, ended=2, slow=1)


def test_a_stream_without_usage_has_as_many_tokens_as_events(tracker: RequestTracker) -> None:
    for events in (9, 11):
        context = stream(tracker, 101.0)
        assert context.scanner is not None
        for _ in range(events):
            context.scanner.feed(EVENT, 102.0)
        context.scanner.feed(b"data: [DONE]\n\n", 102.0)
        end(tracker, context, 103.0)
    latency = status(tracker, 105.0).latency
    assert (latency.ended, latency.slow) == (2, 1)


def test_a_request_without_a_first_token_becomes_overdue(tracker: RequestTracker) -> None:
    stream(tracker)
    stream(tracker, 101.0)
    tracker.open(HEADERS, 100.0, "m")  # without a stream, and waiting
    at_a_replica = tracker.open(HEADERS, 100.0, "m")
    at_a_replica.is_at_replica = True
    stream(tracker, headers=DEFERRABLE)
    assert status(tracker, 102.0).latency.overdue == 0
    assert status(tracker, 102.1).latency.overdue == 2


def test_an_answer_without_a_stream_is_judged_by_its_whole_time(tracker: RequestTracker) -> None:
    for seconds in (3.9, 4.1):  # two seconds, and ten tokens
        context = tracker.open(HEADERS, 100.0, "m")
        context.replica = "r0"
        end(tracker, context, 100.0 + seconds, usage=Usage(7, None, 10))
    assert status(tracker, 105.0).latency == LatencyCounts(2, 1, 2, 1)


@pytest.mark.parametrize("finish", ["cancelled", "invalid", "error", "abort", "rejected", "shed"])
def test_a_request_that_was_not_served_has_no_time_per_token(
    tracker: RequestTracker, finish: str
) -> None:
    end(tracker, stream(tracker), 109.0, finish=finish)
    end(tracker, tracker.open(HEADERS, 100.0, "m"), 109.0, finish=finish)
    assert status(tracker, 110.0).latency == LatencyCounts()


def test_deferrable_requests_are_not_judged(tracker: RequestTracker) -> None:
    end(tracker, stream(tracker, 109.0, DEFERRABLE), 120.0, usage=Usage(7, None, 5))
    end(tracker, tracker.open(DEFERRABLE, 100.0, "m"), 120.0)
    assert status(tracker, 120.0).latency == LatencyCounts()


@given(
    is_stream=st.booleans(),
    first_s=st.floats(0.0, 4.0),
    rest_s=st.floats(0.0, 5.0),
    tokens=st.integers(1, 20),
)
def test_a_completed_request_counts_as_the_report_judges_it(
    is_stream: bool, first_s: float, rest_s: float, tokens: int
) -> None:
    tracker = RequestTracker(100.0, 5000.0, [GatewayModel("m", SLO.ttft_s, SLO.tpot_s)])
    context = stream(tracker, 100.0 + first_s) if is_stream else tracker.open(HEADERS, 100.0, "m")
    context.replica = "r0"
    end(tracker, context, 100.0 + first_s + rest_s, usage=Usage(7, None, tokens))
    latency, (finished,) = status(tracker, 120.0).latency, tracker.drain()
    assert within_slo(record_of(finished), SLO) == (latency.late + latency.slow == 0)
