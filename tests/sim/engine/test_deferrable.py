"""Deferrable requests fill the places of a batch that others leave, and are held first."""

from __future__ import annotations

import pytest
from tests.fixtures.curved_model import CurvedModel

from steppe.control.admission import DEFERRABLE
from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue
from steppe.sim.request import Request

LIMIT = 8


class Engine:
    """One replica of eight places, and what it was asked."""

    def __init__(self, kv_tokens: int = 1 << 60) -> None:
        self.queue = EventQueue()
        limits = BatchLimits(tokens_per_step=512, kv_tokens=kv_tokens)
        times = Transitions(0.0, 0.0, 0.0, 0.0)
        kind = ReplicaKind(CurvedModel(), limits, 600, 1200, times)
        self.replica = SimulatedReplica(kind, self.queue, 1200, lambda _, __: None)
        self.replica.limit_batch(LIMIT)
        self.sent: list[Request] = []

    def ask(self, count: int, rank: int, prompt: int = 100, output: int = 200) -> list[Request]:
        asked = [
            Request(len(self.sent) + n + 1, Arrival(self.queue.now_s, prompt, output, rank))
            for n in range(count)
        ]
        self.sent += asked
        for request in asked:
            self.replica.offer(request)
        return asked

    def ttft_s(self, request: Request) -> float:
        assert request.first_s is not None
        return request.first_s - request.arrival.at_s


def test_a_firm_request_does_not_wait_for_a_place_that_a_row_has() -> None:
    ttfts_s = {}
    for rows in (0, LIMIT + 4):
        engine = Engine()
        engine.ask(rows, DEFERRABLE)
        engine.queue.run_until(1.0)
        (firm,) = engine.ask(1, 1)
        engine.queue.run_until(60.0)
        ttfts_s[rows] = engine.ttft_s(firm)
    assert ttfts_s[LIMIT + 4] < 3 * ttfts_s[0]


def test_no_more_than_the_batch_limit_decodes_at_once() -> None:
    engine = Engine()
    engine.ask(LIMIT, DEFERRABLE)
    engine.queue.run_until(1.0)
    engine.ask(3, 1)
    for tick in range(100):
        engine.queue.run_until(1.0 + 0.05 * tick)
        assert engine.replica.batch.decodes <= LIMIT
        assert [s.later for s in engine.replica.batch.running] == sorted(
            s.later for s in engine.replica.batch.running
        )


def test_firm_requests_may_fill_the_whole_batch() -> None:
    engine = Engine()
    rows = engine.ask(LIMIT, DEFERRABLE)
    engine.queue.run_until(1.0)
    firm = engine.ask(LIMIT, 0)
    engine.queue.run_until(3.0)
    batch = engine.replica.batch
    assert batch.decodes == LIMIT
    assert sum(not s.later for s in batch.running if s.active) == LIMIT
    engine.queue.run_until(100.0)
    assert max(request.end_s for request in firm) < min(request.end_s for request in rows)


def test_held_rows_take_turns_and_lose_no_token() -> None:
    engine = Engine()
    engine.ask(LIMIT, DEFERRABLE)
    engine.queue.run_until(1.0)
    engine.ask(2, 1, output=2000)
    engine.queue.run_until(200.0)
    assert {request.finish for request in engine.sent} == {"length"}
    assert engine.replica.output_tokens == sum(r.arrival.output_tokens for r in engine.sent)
    ends_s = [request.end_s for request in engine.sent[:LIMIT]]
    assert max(ends_s) - min(ends_s) < 0.5 * max(ends_s)


def test_a_row_is_preempted_before_a_firm_request() -> None:
    engine = Engine(kv_tokens=1500)
    engine.ask(4, 1)
    engine.queue.run_until(0.1)
    rows = engine.ask(4, DEFERRABLE, output=400)
    engine.queue.run_until(100.0)
    assert {request.finish for request in engine.sent} == {"length"}
    firm_s = max(request.end_s for request in engine.sent[:4])
    assert firm_s < min(request.end_s for request in rows)


@pytest.mark.parametrize("holds", [True, False])
def test_joules_of_rows_and_others_sum_to_those_of_the_replica(holds: bool) -> None:
    engine = Engine()
    engine.replica.limit_batch(LIMIT, holds=holds)
    energy_j = 0.0
    engine.ask(LIMIT + 4, DEFERRABLE)
    for tick in range(1, 600):
        engine.queue.run_until(0.1 * tick)
        if tick % 7 == 0 and tick < 100:
            engine.ask(1, 1, output=30)
        if tick == 50:
            engine.replica.limit_batch(LIMIT // 2, holds=holds)
        reading = engine.replica.read_meter()
        energy_j += reading.energy_j - reading.idle_j - reading.transition_j
    assert {request.finish for request in engine.sent} == {"length"}
    assert sum(request.energy_j for request in engine.sent) == pytest.approx(energy_j, rel=1e-6)
