from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.request import ClientHeaders
from steppe.gateway.request_tracker import ID_REUSE_S, RequestTracker
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.status import GatewayStatus, ModelStatus
from steppe.gateway.stream import StreamScanner, Usage

HEADERS = ClientHeaders("default", "standard", "")


def _tracker() -> RequestTracker:
    return RequestTracker(100.0, 5000.0, [GatewayModel("m", 2.0, 0.2)])


def test_times_count_from_arrival() -> None:
    tracker = _tracker()
    context = tracker.open(HEADERS, 103.0, "m")
    context.scanner = StreamScanner()
    context.scanner.feed(b'data: {"choices":[{"text":"a"}]}\n\n', 105.0)
    context.usage, context.finish = Usage(7, 4, 5), "stop"
    ended = tracker.close(context, 113.0)
    assert (ended.arrival_s, ended.arrival_epoch_s) == (3.0, 5003.0)
    assert (ended.ttft_s, ended.e2e_s) == (2.0, 10.0)
    assert (ended.prompt_tokens, ended.cached_tokens, ended.output_tokens) == (7, 4, 5)
    assert ended.streamed


def test_an_id_is_kept_if_it_is_valid_and_not_in_use() -> None:
    tracker = _tracker()
    first = tracker.open(ClientHeaders("default", "standard", "mine.1"), 101.0, "m")
    second = tracker.open(ClientHeaders("default", "standard", "mine.1"), 101.0, "m")
    invalid = tracker.open(ClientHeaders("default", "standard", "a b\x00"), 101.0, "m")
    assert first.id == "mine.1"
    assert len({first.id, second.id, invalid.id}) == 3
    assert len(invalid.id) == 32
    tracker.close(first, 102.0)
    assert tracker.open(ClientHeaders("default", "standard", "mine.1"), 103.0, "m").id == "mine.1"


def test_an_id_that_a_replica_had_is_not_reused_until_its_energy_is_settled() -> None:
    tracker, headers = _tracker(), ClientHeaders("default", "standard", "mine.1")
    first = tracker.open(headers, 101.0, "m")
    first.replica = "r0"
    tracker.close(first, 102.0)
    assert tracker.open(headers, 103.0, "m").id != "mine.1"
    assert tracker.open(headers, 102.0 + ID_REUSE_S, "m").id == "mine.1"


def test_finished_requests_are_returned_once() -> None:
    tracker = _tracker()
    context = tracker.open(HEADERS, 101.0, "m")
    assert tracker.drain() == []
    ended = tracker.close(context, 102.0)
    assert tracker.drain() == [ended]
    assert tracker.drain() == []


def test_open_requests_can_be_recorded_as_cancelled_and_go_on() -> None:
    tracker = _tracker()
    context = tracker.open(ClientHeaders("mine", "standard", "long"), 101.0, "m")
    (cut,) = tracker.unfinished(104.0)
    assert (cut.id, cut.tenant, cut.finish, cut.e2e_s) == ("long", "mine", "cancelled", 3.0)
    context.finish = "stop"
    assert tracker.close(context, 105.0).finish == "stop"
    assert tracker.unfinished(106.0) == []


def test_a_client_that_disconnects_after_the_end_was_served() -> None:
    context = _tracker().open(HEADERS, 101.0, "m")
    context.status = 200
    context.scanner = StreamScanner()
    context.scanner.feed(b'data: {"finish_reason":"length"}\n\ndata: [DONE]\n\n', 102.0)
    context.disconnect()
    assert (context.finish, context.status) == ("length", 200)


def test_a_client_that_disconnects_earlier_cancels() -> None:
    context = _tracker().open(HEADERS, 101.0, "m")
    context.scanner = StreamScanner()
    context.disconnect()
    assert (context.finish, context.status) == ("cancelled", 499)


@given(st.lists(st.floats(0, 60), max_size=60), st.floats(0, 30))
def test_the_rate_of_ends_is_that_of_the_last_ten_seconds(
    offsets_s: list[float], later_s: float
) -> None:
    tracker = _tracker()
    for offset_s in sorted(offsets_s):
        context = tracker.open(HEADERS, 100.0, "m")
        context.replica = "r0"
        tracker.close(context, 100.0 + offset_s)
    now_s = 100.0 + max(offsets_s, default=0.0) + later_s
    recent = sum(100.0 + offset_s >= now_s - 10.0 for offset_s in offsets_s)
    window_s = min(10.0, max(1.0, now_s - 100.0))
    assert tracker.counts["m"].ends.per_s(now_s) == pytest.approx(recent / window_s)


@pytest.mark.parametrize(
    ("finish", "failed", "refused"),
    [("stop", 0, 0), ("cancelled", 0, 0), ("abort", 1, 0), ("error", 1, 0), ("shed", 0, 1)],
)
def test_the_status_counts_how_requests_ended(finish: str, failed: int, refused: int) -> None:
    tracker = _tracker()
    tracker.open(HEADERS, 101.0, "m")
    context = tracker.open(HEADERS, 101.0, "m")
    context.finish, context.replica = finish, None if refused else "r0"
    tracker.close(context, 102.0)
    status = tracker.status(102.0, {"m": (1, 0)}, {"r0": 0})
    assert (status.arrived, status.finished) == (2, 1)
    assert (status.failed, status.refused) == (failed, refused)
    assert status.answered == 1 - refused
    assert status.arrived - status.finished == status.waiting + sum(status.outstanding.values())


def test_metrics_are_counters_in_base_units() -> None:
    tracker, metrics = _tracker(), GatewayMetrics()
    context = tracker.open(HEADERS, 101.0, "m")
    context.usage, context.finish, context.status = Usage(7, 4, 5), "stop", 200
    metrics.count(tracker.close(context, 103.0))
    metrics.reject("queue_full")
    status = tracker.status(103.0, {"m": (3, 0)}, {"r0": 2})
    lines = metrics.exposition(ready=True, status=status).decode().splitlines()
    for line in (
        'steppe_requests_total{finish="stop",model="m"} 1.0',
        'steppe_rejections_total{reason="queue_full"} 1.0',
        'steppe_prompt_tokens_total{model="m"} 7.0',
        'steppe_cached_tokens_total{model="m"} 4.0',
        'steppe_requests_waiting{model="m"} 3.0',
        'steppe_requests_outstanding{replica="r0"} 2.0',
        'steppe_request_duration_seconds_sum{model="m"} 2.0',
        'steppe_requests_arrived_total{model="m"} 1.0',
        'steppe_prompt_tokens_arrived_total{model="m"} 7.0',
        'steppe_slo_judged_total{model="m",objective="ttft"} 1.0',
        'steppe_slo_missed_total{model="m",objective="tpot"} 0.0',
        'steppe_requests_overdue{model="m"} 0.0',
    ):
        assert line in lines


def test_a_replica_that_left_has_no_outstanding_series() -> None:
    tracker, metrics = _tracker(), GatewayMetrics()
    metrics.exposition(ready=True, status=tracker.status(101.0, {"m": (0, 0)}, {"r0": 2}))
    status = tracker.status(102.0, {"m": (0, 0)}, {"r1": 1})
    assert b'replica="r0"' not in metrics.exposition(ready=True, status=status)


def test_a_counter_stays_while_an_estimate_in_its_total_is_corrected() -> None:
    metrics = GatewayMetrics()
    found = []
    for tokens in (1000, 700, 1200):
        models = {"m": ModelStatus(prompt_tokens=tokens)}
        status = GatewayStatus.of(models, {})
        lines = metrics.exposition(ready=True, status=status).decode().splitlines()
        found += [line for line in lines if line.startswith("steppe_prompt_tokens_arrived_total")]
    assert [float(line.split()[1]) for line in found] == [1000.0, 1000.0, 1200.0]


def test_failed_requests_are_not_in_the_duration_histogram() -> None:
    tracker, metrics = _tracker(), GatewayMetrics()
    context = tracker.open(HEADERS, 101.0, "m")
    context.status = 502
    metrics.count(tracker.close(context, 103.0))
    assert b'steppe_request_duration_seconds_count{model="m"} 0.0\n' in metrics.exposition(
        ready=True, status=tracker.status(103.0, {"m": (0, 0)}, {})
    )
