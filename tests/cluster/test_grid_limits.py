"""A limit and an event of the grid, while the processes that hold and bring them are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.fixtures.serving import (
    FULL_W,
    SOON_S,
    START_S,
    EnergyWitness,
    Load,
    Serving,
    wait_until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

LIMIT_W = 60.0
"""Less than two replicas draw that step, W."""
CONTROLLER, SERVICE = "ray::Controller", "ray::GridActor"


def call(fleet: Serving, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Call the gateway until the grid service answers; return the answer."""

    def answered() -> list[Any]:
        answer = httpx.request(method, fleet.url + path, json=body, timeout=SOON_S)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return []  # it starts again
        assert answer.is_success, answer.text
        return [answer.json()]

    return wait_until(answered, f"an answer to {method} {path}", every_s=0.2)[0]


def kill(fleet: Serving, title: str) -> None:
    """Kill a process, and wait for its successor."""
    (pid,) = before = fleet.pids(title)
    os.kill(pid, signal.SIGKILL)
    fleet.wait_for_another(title, before)


def test_no_tick_is_above_a_limit_or_event_though_its_processes_are_killed(
    serve: Callable[..., Serving], synthetic: dict[str, Any]
) -> None:
    fleet = serve(grid={"site": "here"}, **synthetic)
    fleet.wait_for_words("running")
    with Load(fleet, 6) as load, EnergyWitness(fleet.pid) as witness:
        load.wait_for(6)
        call(fleet, "PUT", "/steppe/v1/budget", {"limit_w": LIMIT_W})
        first = fleet.wait_for_tick(lambda t: t.budget_source == "http/limit", "the limit")
        for title in (CONTROLLER, SERVICE, CONTROLLER):
            kill(fleet, title)
            fleet.next_tick()
            load.wait_for(3)
        assert call(fleet, "GET", "/steppe/v1/budget")["budget_source"] == "http/limit"
        assert witness.mean_w(2.0) <= 1.05 * LIMIT_W
        event = {"limit_w": 0.0, "hold_s": 600.0, "notice_s": 1.0}
        call(fleet, "PUT", "/steppe/v1/grid/events/island", event)
        fleet.wait_for_tick(lambda t: t.budget_source == "http/island", "the event")
        for title in (CONTROLLER, SERVICE):
            kill(fleet, title)
            fleet.next_tick()
        under = [tick for tick in fleet.ticks() if tick.t_s >= first.t_s]
        assert max(tick.budget_w for tick in under) <= LIMIT_W
        assert {tick.budget_source for tick in under} == {"http/limit", "http/island"}
        at_last = under[-1].grid
        assert at_last is not None
        assert (at_last.event, at_last.target_w) == ("http/island", 0.0)
        call(fleet, "DELETE", "/steppe/v1/grid/events/island")
        call(fleet, "DELETE", "/steppe/v1/budget")
        fleet.wait_for_tick(lambda t: t.budget_w == FULL_W, "the supply again")
        load.wait_for(6)
    assert not load.failed
    assert fleet.end() == 0


def test_a_run_that_starts_again_is_held_by_its_limit_from_the_first_tick_on(
    serve: Callable[..., Serving], synthetic: dict[str, Any], one_gpu: dict[str, Any]
) -> None:
    fleet = serve(grid={"site": "here"}, **synthetic, **one_gpu)
    fleet.wait_for_words("running")
    call(fleet, "PUT", "/steppe/v1/budget", {"limit_w": LIMIT_W / 2})
    fleet.wait_for_tick(lambda tick: tick.budget_w == LIMIT_W / 2, "the limit")
    os.killpg(fleet.pid, signal.SIGKILL)
    fleet.process.wait(SOON_S)
    before = len(fleet.ticks())
    again = fleet.again("--resume")
    try:
        gap, *_ = wait_until(lambda: again.ticks()[before:], "the time between", START_S)
        again.wait_for_tick(lambda t: t.t_s > gap.t_s and t.grid is not None, "the limit again")
        ticks = [tick for tick in again.ticks() if tick.t_s > gap.t_s]
        assert {tick.budget_w for tick in ticks} == {LIMIT_W / 2}
        assert {tick.budget_source for tick in ticks} == {"http/limit"}
    finally:
        again.clean()
