from __future__ import annotations

import pickle
import uuid
from dataclasses import replace

import pytest
import ray
from tests.fixtures.fleet_messages import finished_request, node_report, replica_report
from tests.fixtures.ray_actors import FakeActor

from steppe.engine.control_block import request_key
from steppe.fleet.driver.bookkeeper import UNCLAIMED_EVERY_S, Bookkeeper
from steppe.fleet.messages import Drained, EndedRequests, NodeReport
from steppe.gateway.server import FinishedRequest


def report(number: int, energy_j: float) -> NodeReport:
    return node_report(
        number, replica_report(energy_j=energy_j, idle_uj=round(energy_j * 1e6), draw_w=0.0)
    )


def ended_of(*requests: FinishedRequest) -> EndedRequests:
    """Return requests that ended in a process of the gateway that has not answered before."""
    return EndedRequests(Drained(uuid.uuid4().hex), requests)


def ended(*ids: str) -> EndedRequests:
    return ended_of(*map(finished_request, ids))


Scene = tuple[Bookkeeper, FakeActor, FakeActor]
"""The bookkeeper, its gateway and its node."""


@pytest.fixture
def scene(fake_ray: None) -> Scene:
    gateway, node = FakeActor({"drain": ended()}), FakeActor({"settle": []})
    return Bookkeeper({"gateway": gateway}, "emulated", 1000.0), gateway, node


def test_a_window_is_acknowledged_and_counted_once(
    scene: Scene,
) -> None:
    books, _, node = scene
    node.answers["settle"] = [report(1, 10.0), report(2, 20.0)]
    books.collect({"node-1": node})
    node.answers["settle"] = [report(2, 20.0), report(3, 5.0)]  # an acknowledgement got lost
    books.collect({"node-1": node})
    books.collect({"node-1": node})
    assert node.args("settle") == [(0,), (2,), (3,)]
    totals, _ = books.close(60.0)
    assert (totals.energy_j, totals.idle_j, totals.duration_s) == (35.0, 35.0, 60.0)
    assert totals.energy_source == "emulated"


def test_what_happened_before_the_run_is_left_out(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    node.answers["report"] = [report(1, 100.0), report(2, 100.0)]
    gateway.answers["drain"] = ended("a sweep's")
    books.skip({"node-1": node})
    gateway.answers["drain"] = ended()
    node.answers["settle"] = [report(3, 1.0)]
    books.collect({"node-1": node})
    assert node.args("settle") == [(2,)]
    totals, requests = books.close(1.0)
    assert (totals.energy_j, requests) == (1.0, [])


def test_requests_of_a_late_result_are_not_lost(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    gateway.answers["drain"], gateway.ready = ended("slow"), False
    books.collect({"node-1": node})
    gateway.answers["drain"], gateway.ready = ended("slow", "quick"), True
    books.collect({"node-1": node})
    _, requests = books.close(2.0)
    assert {request.id for request in requests} == {"slow", "quick"}


def test_energy_that_no_request_claims_is_shown_and_warned_of(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    books, gateway, node = scene
    (of_replica,) = report(1, 10.0).replicas
    requests_uj = {request_key("stray"): 4_000_000, request_key("open"): 6_000_000}
    stray = replace(of_replica, idle_uj=0, requests_uj=requests_uj)
    node.answers["settle"] = [node_report(1, stray)]
    gateway.answers["open_ids"] = ["open"]
    books.collect({"node-1": node})
    for search in range(1, 5):
        books.close_tick(search * UNCLAIMED_EVERY_S)
    assert gateway.args("set_unclaimed")[-1] == (4.0,)
    gateway.answers["drain"] = ended("open", "stray")
    books.collect({"node-1": node})
    totals, records = books.close(5 * UNCLAIMED_EVERY_S)
    assert (totals.energy_j, totals.unclaimed_j, totals.idle_j) == (10.0, 4.0, 0.0)
    assert {record.id: record.energy_j for record in records} == {"open": 6.0, "stray": 0.0}
    assert len([line for line in caplog.messages if "claimed by no request" in line]) == 1


def test_windows_of_the_same_poll_do_not_settle_a_request(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    node.answers["settle"] = [report(number, 1.0) for number in range(1, 9)]
    gateway.answers["drain"] = ended("a")
    books.collect({"node-1": node})
    assert books.close_tick(1.0) == []
    gateway.answers["drain"] = ended()
    node.answers["settle"] = [report(number, 1.0) for number in range(9, 17)]
    books.collect({"node-1": node})
    assert [record.id for record in books.close_tick(2.0)] == ["a"]


def test_an_actor_that_died_does_not_affect_later_calls(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    node.answers["settle"] = gateway.answers["drain"] = ray.exceptions.RayActorError()
    books.collect({"node-1": node})
    node.answers["settle"], gateway.answers["drain"] = [report(1, 7.0)], ended("a")
    books.collect({"node-1": node})
    totals, requests = books.close(2.0)
    assert totals.energy_j == 7.0
    assert [request.id for request in requests] == ["a"]


def test_restarts_of_the_gateway_are_counted_from_its_requests(
    scene: Scene,
) -> None:
    books, gateway, _ = scene
    first = [
        replace(finished_request("a"), arrival_s=s, arrival_epoch_s=1000 + s) for s in (0.1, 0.7)
    ]
    again = [
        replace(finished_request("b"), arrival_s=s, arrival_epoch_s=1009 + s) for s in (0.1, 0.7)
    ]
    for drained in (first, [], first, again, again):
        gateway.answers["drain"] = ended_of(*drained)
        books.collect({})
    totals, _ = books.close(60.0)
    assert totals.gateway_restarts == 1


def test_only_the_last_call_includes_unfinished_requests(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    books.collect({"node-1": node})
    books.collect({"node-1": node}, closing=True)
    assert [closing for _, closing in gateway.args("drain")] == [False, True]


def test_a_request_is_acknowledged_and_counted_once(scene: Scene) -> None:
    books, gateway, _ = scene
    gateway.answers["drain"] = first = ended("a", "b")
    books.collect({})
    gateway.answers["drain"] = replace(first, requests=ended("a", "b", "c").requests)
    books.collect({})
    gateway.answers["drain"] = EndedRequests(replace(first.before, number=3))
    books.collect({})
    assert [known.number for known, _ in gateway.args("drain")] == [0, 2, 3]
    _, requests = books.close(2.0)
    assert [request.id for request in requests] == ["a", "b", "c"]


def test_another_bookkeeper_goes_on_with_the_books_and_takes_what_was_not_acknowledged(
    scene: Scene,
) -> None:
    books, gateway, node = scene
    node.answers["settle"], gateway.answers["drain"] = [report(1, 10.0)], ended("a")
    books.collect({"node-1": node})
    kept = pickle.dumps(books.books())
    again = gateway.answers["drain"].before
    node.answers["settle"] = [report(2, 20.0)]
    gateway.answers["drain"] = EndedRequests(again, ended("a", "b").requests)
    books.collect({"node-1": node})  # the driver dies with this
    after = Bookkeeper({"gateway": gateway}, "emulated", 1000.0)
    after.go_on(pickle.loads(kept))
    after.collect({"node-1": node})
    assert node.args("settle") == [(0,), (1,), (1,)]
    totals, requests = after.close(3.0)
    assert totals.energy_j == 30.0
    assert [request.id for request in requests] == ["a", "b"]


def test_the_last_call_closes_the_open_windows_including_a_step_in_progress(
    scene: Scene,
) -> None:
    books, _, node = scene
    books.collect({"node-1": node}, closing=True)
    assert node.asked == [("report", (0, True)), ("settle", (0,))]
