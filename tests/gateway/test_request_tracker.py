from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.request_tracker import ID_RESTS_S, Caller, RequestTracker
from steppe.gateway.stream import StreamScanner, Usage

CALLER = Caller("default", "standard", "")


def _tally() -> RequestTracker:
    return RequestTracker(started_s=100.0, started_epoch_s=5000.0, ttft_s=2.0)


def test_times_count_from_arrival() -> None:
    tally = _tally()
    exchange = tally.open(CALLER, 103.0)
    exchange.scanner = StreamScanner()
    exchange.scanner.feed(b'data: {"choices":[{"text":"a"}]}\n\n', 105.0)
    exchange.usage, exchange.finish = Usage(7, 4, 5), "stop"
    ended = tally.close(exchange, 113.0)
    assert (ended.arrival_s, ended.arrival_epoch_s) == (3.0, 5003.0)
    assert (ended.ttft_s, ended.e2e_s) == (2.0, 10.0)
    assert (ended.prompt_tokens, ended.cached_tokens, ended.output_tokens) == (7, 4, 5)
    assert ended.streamed


def test_an_id_is_kept_if_it_is_sane_and_not_in_use() -> None:
    tally = _tally()
    first = tally.open(Caller("default", "standard", "mine.1"), 101.0)
    second = tally.open(Caller("default", "standard", "mine.1"), 101.0)
    wild = tally.open(Caller("default", "standard", "a b\x00"), 101.0)
    assert first.id == "mine.1"
    assert len({first.id, second.id, wild.id}) == 3
    assert len(wild.id) == 32
    tally.close(first, 102.0)
    assert tally.open(Caller("default", "standard", "mine.1"), 103.0).id == "mine.1"


def test_an_id_that_a_replica_had_rests_until_its_energy_is_settled() -> None:
    tally, caller = _tally(), Caller("default", "standard", "mine.1")
    first = tally.open(caller, 101.0)
    first.replica = "r0"
    tally.close(first, 102.0)
    assert tally.open(caller, 103.0).id != "mine.1"
    assert tally.open(caller, 102.0 + ID_RESTS_S).id == "mine.1"


def test_finished_requests_are_handed_over_once() -> None:
    tally = _tally()
    exchange = tally.open(CALLER, 101.0)
    assert tally.drain() == []
    ended = tally.close(exchange, 102.0)
    assert tally.drain() == [ended]
    assert tally.drain() == []


def test_what_has_no_end_yet_can_be_written_down_as_cancelled_and_goes_on() -> None:
    tally = _tally()
    exchange = tally.open(Caller("mine", "standard", "long"), 101.0)
    (cut,) = tally.cut_short(104.0)
    assert (cut.id, cut.tenant, cut.finish, cut.e2e_s) == ("long", "mine", "cancelled", 3.0)
    exchange.finish = "stop"
    assert tally.close(exchange, 105.0).finish == "stop"
    assert tally.cut_short(106.0) == []


def test_a_client_that_hangs_up_after_the_end_was_served() -> None:
    exchange = _tally().open(CALLER, 101.0)
    exchange.status = 200
    exchange.scanner = StreamScanner()
    exchange.scanner.feed(b'data: {"finish_reason":"length"}\n\ndata: [DONE]\n\n', 102.0)
    exchange.hang_up()
    assert (exchange.finish, exchange.status) == ("length", 200)


def test_a_client_that_hangs_up_earlier_cancels() -> None:
    exchange = _tally().open(CALLER, 101.0)
    exchange.scanner = StreamScanner()
    exchange.hang_up()
    assert (exchange.finish, exchange.status) == ("cancelled", 499)


@given(st.lists(st.floats(0, 60), max_size=60), st.floats(0, 30))
def test_the_rate_of_ends_is_that_of_the_last_ten_seconds(
    offsets_s: list[float], later_s: float
) -> None:
    tally = _tally()
    for offset_s in sorted(offsets_s):
        exchange = tally.open(CALLER, 100.0)
        exchange.replica = "r0"
        tally.close(exchange, 100.0 + offset_s)
    now_s = 100.0 + max(offsets_s, default=0.0) + later_s
    recent = sum(100.0 + offset_s >= now_s - 10.0 for offset_s in offsets_s)
    window_s = min(10.0, max(1.0, now_s - 100.0))
    assert tally.ends.per_s(now_s) == pytest.approx(recent / window_s)


@pytest.mark.parametrize(
    ("finish", "failed", "refused"),
    [("stop", 0, 0), ("cancelled", 0, 0), ("abort", 1, 0), ("error", 1, 0), ("shed", 0, 1)],
)
def test_a_status_says_how_requests_ended(finish: str, failed: int, refused: int) -> None:
    tally = _tally()
    tally.open(CALLER, 101.0)
    exchange = tally.open(CALLER, 101.0)
    exchange.finish, exchange.replica = finish, None if refused else "r0"
    tally.close(exchange, 102.0)
    status = tally.status(1, 0, {"r0": 0})
    assert (status.arrived, status.finished) == (2, 1)
    assert (status.failed, status.refused) == (failed, refused)
    assert status.answered == 1 - refused
    assert status.arrived - status.finished == status.waiting + sum(status.outstanding.values())


def test_metrics_are_counters_in_base_units() -> None:
    tally, metrics = _tally(), GatewayMetrics()
    exchange = tally.open(CALLER, 101.0)
    exchange.usage, exchange.finish, exchange.status = Usage(7, 4, 5), "stop", 200
    metrics.count(tally.close(exchange, 103.0))
    metrics.reject("queue_full")
    lines = metrics.exposition(3, {"r0": 2}).decode().splitlines()
    for line in (
        'steppe_requests_total{finish="stop"} 1.0',
        'steppe_rejections_total{reason="queue_full"} 1.0',
        "steppe_prompt_tokens_total 7.0",
        "steppe_cached_tokens_total 4.0",
        "steppe_requests_waiting 3.0",
        'steppe_requests_outstanding{replica="r0"} 2.0',
        "steppe_request_duration_seconds_sum 2.0",
    ):
        assert line in lines


def test_a_replica_that_has_left_is_outstanding_no_more() -> None:
    metrics = GatewayMetrics()
    metrics.exposition(0, {"r0": 2})
    assert b'replica="r0"' not in metrics.exposition(0, {"r1": 1})


def test_a_request_that_failed_says_nothing_of_how_long_an_answer_takes() -> None:
    tally, metrics = _tally(), GatewayMetrics()
    exchange = tally.open(CALLER, 101.0)
    exchange.status = 502
    metrics.count(tally.close(exchange, 103.0))
    assert b"steppe_request_duration_seconds_count 0.0\n" in metrics.exposition(0, {})
