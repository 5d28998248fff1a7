"""Limits of a running engine that change: which requests they bind, and the tokens of a step."""

from __future__ import annotations

import pytest
from tests.fixtures.curved_model import CurvedModel

from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue
from steppe.sim.request import Request

RUNNING, LOWER = 12, 4


def replica_with(requests: int, limit: int) -> tuple[EventQueue, SimulatedReplica, list[Request]]:
    """Return a replica that runs requests of 200 and more output tokens."""
    queue = EventQueue()
    times = Transitions(0.0, 0.0, 0.0, 0.0)
    kind = ReplicaKind(CurvedModel(), BatchLimits(tokens_per_step=2048), 600, 1200, times)
    replica = SimulatedReplica(kind, queue, 1200, lambda _, __: None)
    replica.limit_batch(limit)
    sent = [
        Request(number, Arrival(0.0, 100, 200 + 10 * number)) for number in range(1, requests + 1)
    ]
    for request in sent:
        replica.offer(request)
    queue.run_until(0.5)
    assert len(replica.batch.running) == min(requests, limit)
    return queue, replica, sent


def test_a_limit_that_falls_leaves_running_requests_alone_unless_the_plan_holds_them() -> None:
    decoding = {}
    for holds in (True, False):
        queue, replica, _ = replica_with(RUNNING, 16)
        replica.limit_batch(LOWER, holds=holds)
        queue.run_until(0.7)
        assert len(replica.batch.running) == RUNNING
        decoding[holds] = replica.batch.decodes
        assert replica.batch.held is holds
    assert decoding == {True: LOWER, False: RUNNING}


def test_it_binds_new_requests_until_enough_have_ended() -> None:
    queue, replica, sent = replica_with(RUNNING, 16)
    replica.limit_batch(LOWER, holds=False)
    late = Request(99, Arrival(0.5, 100, 200))
    replica.offer(late)
    queue.run_until(100.0)
    ends_s = sorted(request.end_s for request in sent)
    # It begins once fewer run than the limit allows.
    assert late.first_s is not None
    assert ends_s[RUNNING - LOWER] < late.first_s < ends_s[RUNNING - LOWER + 1]


def test_a_request_takes_as_long_as_before_where_a_limit_only_binds_new_ones() -> None:
    ends_s = {}
    for name, limit, holds in (("same", 16, True), ("new", LOWER, False), ("held", LOWER, True)):
        queue, replica, sent = replica_with(RUNNING, 16)
        replica.limit_batch(limit, holds=holds)
        queue.run_until(100.0)
        ends_s[name] = max(request.end_s for request in sent)
    assert ends_s["new"] == pytest.approx(ends_s["same"])
    assert ends_s["held"] > 1.5 * ends_s["same"]


def test_requests_that_are_held_go_on_once_a_plan_holds_no_longer() -> None:
    queue, replica, _ = replica_with(RUNNING, 16)
    replica.limit_batch(LOWER, holds=True)
    queue.run_until(0.7)
    replica.limit_batch(LOWER, holds=False)
    queue.run_until(0.9)
    assert (replica.batch.decodes, replica.batch.held) == (RUNNING, False)


def test_a_step_computes_no_more_tokens_than_its_limit() -> None:
    steps = {}
    for tokens in (0, 512):
        queue, replica, _ = replica_with(0, 16)
        replica.limit_tokens(tokens)
        replica.offer(Request(1, Arrival(0.5, 4000, 2)))
        queue.run_until(60.0)
        steps[tokens] = replica.batch.steps
    assert steps == {0: 3, 512: 9}  # 4000 tokens in 2 or 8 steps, and one for the second token
