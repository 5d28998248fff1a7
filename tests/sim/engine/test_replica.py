from __future__ import annotations

import pytest
from tests.fixtures.curved_model import CurvedModel

from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue
from steppe.sim.request import Request


@pytest.mark.parametrize("at_s", [0.005, 0.08, 0.5])
def test_the_energy_of_a_step_that_a_failure_cuts_short_counts_once(at_s: float) -> None:
    queue = EventQueue()
    kind = ReplicaKind(CurvedModel(), BatchLimits(), 600, 1200, Transitions(0.0, 0.0, 0.0, 0.0))
    read, unread = (SimulatedReplica(kind, queue, 1200, lambda _, __: None) for _ in range(2))
    for replica in (read, unread):
        replica.limit_batch(4)
        replica.offer(Request(1, Arrival(0.0, 100, 1000)))
    queue.run_until(at_s)
    alive_j = read.read_meter().energy_j
    assert alive_j > 0
    for replica in (read, unread):
        replica.fail()
    assert read.read_meter().energy_j == pytest.approx(0.0, abs=1e-9)
    assert unread.read_meter().energy_j == pytest.approx(alive_j)


def test_a_request_that_is_cut_off_in_its_prompt_has_the_tokens_that_were_computed() -> None:
    queue = EventQueue()
    limits, times = BatchLimits(chunk_tokens=100), Transitions(0.0, 0.0, 0.0, 0.0)
    kind = ReplicaKind(CurvedModel(), limits, 600, 1200, times)
    replica = SimulatedReplica(kind, queue, 1200, lambda _, __: None)
    request = Request(1, Arrival(0.0, 1000, 10))
    replica.offer(request)
    queue.run_until(0.035)
    ((cut_off, tokens),) = replica.fail()
    cut_off.end(queue.now_s, "cancelled", tokens)
    assert request.record().prompt_tokens == 300


def replica_of(limits: BatchLimits) -> tuple[EventQueue, SimulatedReplica]:
    queue, times = EventQueue(), Transitions(0.0, 0.0, 0.0, 0.0)
    kind = ReplicaKind(CurvedModel(), limits, 600, 1200, times)
    return queue, SimulatedReplica(kind, queue, 1200, lambda _, __: None)


def test_prompt_tokens_in_the_prefix_cache_are_not_computed() -> None:
    firsts_s = []
    for arrival in (Arrival(0.0, 1000, 10, cached_tokens=800), Arrival(0.0, 200, 10)):
        queue, replica = replica_of(BatchLimits())
        request = Request(1, arrival)
        replica.offer(request)
        queue.run_until(60.0)
        firsts_s.append(request.first_s)
    assert firsts_s[0] == firsts_s[1]


def test_the_kv_cache_holds_the_tokens_of_the_prefix_cache() -> None:
    _, replica = replica_of(BatchLimits(kv_tokens=1500))
    replica.limit_batch(8)
    for number in (1, 2):
        replica.offer(Request(number, Arrival(0.0, 1000, 10, cached_tokens=800)))
    assert replica.batch.cached == 800
    assert len(replica.batch.running) == 1
    assert len(replica.batch.waiting) == 1


def test_the_kv_cache_is_empty_once_all_requests_have_ended() -> None:
    queue, replica = replica_of(BatchLimits(tokens_per_step=64, kv_tokens=1500))
    replica.limit_batch(8)
    for number in range(1, 9):
        replica.offer(Request(number, Arrival(0.0, 600, 50, cached_tokens=100 * (number % 5))))
    queue.run_until(600.0)
    assert replica.batch.cached == 0
    assert not replica.batch.running


def test_a_record_names_the_tenant_and_the_tokens_of_the_prefix_cache() -> None:
    queue, replica = replica_of(BatchLimits())
    served, refused = (
        Request(n, Arrival(0.0, 1000, 10, cached_tokens=800, tenant="a")) for n in (1, 2)
    )
    replica.offer(served)
    queue.run_until(60.0)
    refused.end(0.0, "rejected", 0)
    record = served.record()
    assert (record.tenant, record.prompt_tokens, record.cached_tokens) == ("a", 1000, 800)
    assert (refused.record().prompt_tokens, refused.record().cached_tokens) == (0, 0)
