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
