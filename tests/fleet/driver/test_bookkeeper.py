from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import ray

from steppe.engine.control_block import request_key
from steppe.fleet.driver.bookkeeper import FORGET_S, Bookkeeper
from steppe.fleet.messages import NodeReport, ReplicaReport
from steppe.gateway.server import FinishedRequest


def report(number: int, energy_j: float) -> NodeReport:
    of_replica = ReplicaReport(
        replica="replica-1",
        clock_mhz=0,
        batch_limit=0,
        draw_w=0.0,
        energy_j=energy_j,
        error_j=0.5,
        quality="emulated",
        running=0,
        waiting=0,
        output_tokens=0,
        requests_uj={},
        tokens={},
        idle_uj=round(energy_j * 1e6),
        transition_uj=0,
    )
    return NodeReport("node-1", number, (of_replica,))


def finished(name: str) -> FinishedRequest:
    return FinishedRequest(
        id=name,
        tenant="default",
        priority="standard",
        arrival_s=1.0,
        arrival_epoch_s=1010.0,
        ttft_s=0.1,
        e2e_s=1.0,
        prompt_tokens=3,
        cached_tokens=0,
        output_tokens=10,
        finish="stop",
        status=200,
        replica="replica-1",
        streamed=True,
    )


@pytest.fixture
def scene(actors: Callable[..., Any]) -> tuple[Bookkeeper, Any, Any]:
    door, node = actors({"drain": []}), actors({"settle": []})
    return Bookkeeper(door, "emulated", 1000.0), door, node


def test_a_window_is_acknowledged_and_counted_once(scene: tuple[Bookkeeper, Any, Any]) -> None:
    books, _, node = scene
    node.answers["settle"] = [report(1, 10.0), report(2, 20.0)]
    books.collect({"node-1": node})
    node.answers["settle"] = [report(2, 20.0), report(3, 5.0)]  # an acknowledgement got lost
    books.collect({"node-1": node})
    books.collect({"node-1": node})
    assert [args for name, args in node.asked if name == "settle"] == [(0,), (2,), (3,)]
    totals, _ = books.close(60.0)
    assert (totals.energy_j, totals.idle_j, totals.duration_s) == (35.0, 35.0, 60.0)
    assert totals.energy_source == "emulated"


def test_what_happened_before_the_run_is_left_out(scene: tuple[Bookkeeper, Any, Any]) -> None:
    books, door, node = scene
    node.answers["report"] = [report(1, 100.0), report(2, 100.0)]
    door.answers["drain"] = [finished("a sweep's")]
    books.skip({"node-1": node})
    door.answers["drain"] = []
    node.answers["settle"] = [report(3, 1.0)]
    books.collect({"node-1": node})
    assert [args for name, args in node.asked if name == "settle"] == [(2,)]
    totals, requests = books.close(1.0)
    assert (totals.energy_j, requests) == (1.0, [])


def test_requests_that_are_handed_over_late_are_not_lost(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, door, node = scene
    door.answers["drain"], door.ready = [finished("slow")], False
    books.collect({"node-1": node})
    door.answers["drain"], door.ready = [finished("quick")], True
    door.calls[0].ready = True
    books.collect({"node-1": node})
    _, requests = books.close(2.0)
    assert {request.id for request in requests} == {"slow", "quick"}


def test_energy_that_nobody_claims_within_hours_is_idle(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, door, node = scene
    (of_replica,) = report(1, 10.0).replicas
    stray = replace(of_replica, idle_uj=0, requests_uj={request_key("late"): 10_000_000})
    node.answers["settle"] = [NodeReport("node-1", 1, (stray,))]
    books.collect({"node-1": node})
    for now_s in (1.0, FORGET_S, 2 * FORGET_S):
        books.close_tick(now_s)
    door.answers["drain"] = [finished("late")]
    books.collect({"node-1": node})
    totals, (late,) = books.close(2 * FORGET_S)
    assert (totals.energy_j, totals.idle_j, late.energy_j) == (10.0, 10.0, 0.0)


def test_windows_that_come_with_a_request_may_have_closed_before_its_end(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, door, node = scene
    node.answers["settle"] = [report(number, 1.0) for number in range(1, 9)]
    door.answers["drain"] = [finished("a")]
    books.collect({"node-1": node})
    assert books.close_tick(1.0) == []
    door.answers["drain"] = []
    node.answers["settle"] = [report(number, 1.0) for number in range(9, 17)]
    books.collect({"node-1": node})
    assert [record.id for record in books.close_tick(2.0)] == ["a"]


def test_an_actor_that_died_costs_only_its_answer(scene: tuple[Bookkeeper, Any, Any]) -> None:
    books, door, node = scene
    node.answers["settle"] = door.answers["drain"] = ray.exceptions.RayActorError()
    books.collect({"node-1": node})
    node.answers["settle"], door.answers["drain"] = [report(1, 7.0)], [finished("a")]
    books.collect({"node-1": node})
    totals, requests = books.close(2.0)
    assert totals.energy_j == 7.0
    assert [request.id for request in requests] == ["a"]


def test_the_requests_tell_how_often_the_gateway_started_again(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, door, _ = scene
    first = [replace(finished("a"), arrival_s=s, arrival_epoch_s=1000 + s) for s in (0.1, 0.7)]
    again = [replace(finished("b"), arrival_s=s, arrival_epoch_s=1009 + s) for s in (0.1, 0.7)]
    for handed_over in (first, [], first, again, again):
        door.answers["drain"] = handed_over
        books.collect({})
    totals, _ = books.close(60.0)
    assert totals.gateway_restarts == 1


def test_only_the_last_call_asks_for_requests_without_an_end(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, door, node = scene
    books.collect({"node-1": node})
    books.collect({"node-1": node}, closing=True)
    assert [args for name, args in door.asked if name == "drain"] == [(False,), (True,)]


def test_closing_takes_the_windows_that_are_still_open_up_to_the_step_under_way(
    scene: tuple[Bookkeeper, Any, Any],
) -> None:
    books, _, node = scene
    books.collect({"node-1": node}, closing=True)
    assert node.asked == [("report", (0, True)), ("settle", (0,))]
