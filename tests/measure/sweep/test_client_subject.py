from __future__ import annotations

from array import array

import pytest

from steppe.energy.window import EnergyReading, Quality
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.replay import ReplayOptions, ReplayProgress
from steppe.load.results import RequestResult
from steppe.load.stream import Completed, Failed
from steppe.measure.sweep.client_subject import ClientSubject, TokenCounts


class FakeMeter:
    def read(self) -> EnergyReading:
        return EnergyReading(7.0, 100.0, 0.5, Quality.COUNTER)


def ended(chunks: int, tokens: int) -> RequestResult:
    gaps = array("f", [0.1] * (chunks - 1))
    done = Completed(0.0, 1.0, gaps, 30, tokens, "length")
    return RequestResult(0, Arrival(0.0, 30, tokens), 0.0, 0.0, 0, done)


def test_chunks_are_scaled_to_tokens_by_the_requests_that_ended() -> None:
    counts = TokenCounts()
    for _ in range(10):
        counts.on_chunk()
    counts.on_end(ended(chunks=4, tokens=8))
    prompt, output, _ = counts.take()
    assert (prompt, output) == (30, 8 + 2 * 6)


def test_before_any_request_ended_a_chunk_counts_as_a_token() -> None:
    counts = TokenCounts()
    counts.on_chunk()
    assert counts.take() == (0, 1, 0)


def test_a_failed_request_gives_no_usage() -> None:
    counts = TokenCounts()
    failed = RequestResult(0, Arrival(0.0, 1, 1), 0.0, 0.0, 0, Failed("no"))
    counts.on_end(failed)
    assert counts.take() == (0, 0, 0)


def test_tokens_that_came_stay_counted_when_their_request_fails() -> None:
    counts = TokenCounts()
    for _ in range(6):
        counts.on_chunk()
    counts.on_end(ended(chunks=4, tokens=8))
    before = counts.take()
    counts.on_end(RequestResult(1, Arrival(0.0, 30, 8), 0.0, 0.0, 0, Failed("broke off")))
    assert counts.take()[:2] == before[:2] == (30, 8 + 2 * 2)


def test_the_gap_between_two_requests_does_not_count_as_idle() -> None:
    counts = TokenCounts()
    for running in (8, 7, 8, 7):
        counts.on_progress(ReplayProgress(running=running))
    assert [counts.take()[2], counts.take()[2]] == [8, 7]


def test_a_reading_joins_meter_and_clients_and_clock_0_sets_no_clock() -> None:
    clocks: list[int] = []
    subject = ClientSubject(
        ServerTarget("http://x", "m"), FakeMeter(), clocks.append, ReplayOptions()
    )
    subject.set_point(0, 4)
    subject.set_point(1500, 4)
    assert clocks == [1500]
    reading = subject.reading()
    assert (reading.time_s, reading.energy_j, reading.quality) == (7.0, 100.0, "counter")
    assert (reading.steps, reading.output_tokens, reading.waiting) == (0, 0, 0)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_server_gets_as_many_clients_as_the_batch_limit(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from steppe.measure.sweep import client_subject

    client_counts: list[int] = []

    def saturated(
        targets: object, arrivals: object, clients: int, *_: object, **__: object
    ) -> nullcontext[None]:
        client_counts.append(clients)
        return nullcontext()

    monkeypatch.setattr(client_subject, "saturated", saturated)
    subject = ClientSubject(
        ServerTarget("http://x", "m"), FakeMeter(), lambda _: None, ReplayOptions()
    )
    subject.set_point(0, batch)
    with subject.saturate([Arrival(0.0, 1, 1)], batch + 4, 0):
        pass
    assert client_counts == [batch]
