"""A run with a standby: its drivers are killed, and the service goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from tests.fixtures.serving import (
    FULL_W,
    START_S,
    EnergyWitness,
    Load,
    PowerSignal,
    Serving,
    assert_books_balance,
    wait_until,
)

from steppe.report.record_folder import BOOKS_FILE, read_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

TAKEN_OVER = "another driver has taken over"
LOW_W = 45.0
"""Less than one replica that steps takes beside one that sleeps, W."""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def fleet(
    serve: Callable[..., Serving], power_signal: PowerSignal, synthetic: dict[str, Any]
) -> Serving:
    """A fleet of two synthetic replicas with an active driver and a standby."""
    power_signal.set(FULL_W)
    supply = [{"kind": "signal", "path": str(power_signal.path)}]
    power = {"supply": supply, "stale_s": 60.0, "fallback_w": 0.0}
    fleet = serve("--standby", power=power, **synthetic)
    fleet.wait_for_words("serving on")
    wait_until(lambda: len(fleet.drivers()) == 2, "a standby", START_S)
    fleet.next_tick()
    return fleet


def test_no_stream_ends_with_a_driver_that_is_killed_and_the_books_go_on(fleet: Serving) -> None:
    with Load(fleet, 3) as load:
        load.wait_for(6)
        for _ in range(2):  # the second kill ends a driver that has taken over itself
            taken = fleet.log.read_text().count(TAKEN_OVER)
            active, _ = fleet.drivers()
            kill(active)
            wait_until(
                lambda: fleet.log.read_text().count(TAKEN_OVER) > taken,  # noqa: B023
                "another driver",
                START_S,
            )
            fleet.next_tick()
            load.wait_for(6)
            wait_until(lambda: len(fleet.drivers()) == 2, "another standby", START_S)
        (controller,) = fleet.pids("ray::Controller")
        kill(controller)  # its next driver can begin it again
        fleet.wait_for_another("ray::Controller", {controller})
        fleet.next_tick()
    assert not load.failed
    fleet.wait_for_requests({answer.id for answer in load.completed})
    os.kill(fleet.pid, signal.SIGTERM)
    assert fleet.process.wait(START_S) == 0
    wait_until(lambda: not fleet.alive(), "no process is left")
    assert fleet.files() == []
    ids = [request.id for request in read_requests(fleet.record)]
    assert len(ids) == len(set(ids)), "no request is there twice"
    assert set(ids) == {answer.id for answer in load.answers}
    assert all(a.t_s < b.t_s for a, b in pairwise(fleet.ticks()))
    summary = assert_books_balance(fleet, rel=1e-6)
    assert summary["unclaimed_energy_j"] < 1e-3 * summary["energy_j"]
    assert (fleet.record / "figure.png").is_file()


def test_the_budget_is_obeyed_while_there_is_no_active_driver(
    fleet: Serving, power_signal: PowerSignal
) -> None:
    with Load(fleet, 3) as load, EnergyWitness(fleet.pid) as witness:
        load.wait_for(6)
        active, standby = fleet.drivers()
        os.kill(standby, signal.SIGSTOP)
        kill(active)
        power_signal.set(LOW_W)
        wait_until(lambda: witness.mean_w(2.0) <= 1.05 * LOW_W, "a draw within the low budget")
        os.kill(standby, signal.SIGCONT)
        fleet.wait_for_words(TAKEN_OVER)
        fleet.next_tick()
        assert witness.mean_w(2.0) <= 1.05 * LOW_W
        power_signal.set(FULL_W)
        load.wait_for(6)
    assert not load.failed
    assert fleet.end() == 0
    assert_books_balance(fleet)


def test_nothing_is_left_when_all_drivers_and_the_process_that_keeps_them_are_killed(
    fleet: Serving,
) -> None:
    with EnergyWitness(fleet.pid) as witness, Load(fleet, 2) as load:
        load.wait_for(2)
        wait_until((fleet.record / BOOKS_FILE).is_file, "a checkpoint of the books")
        wait_until(lambda: any(r.output_tokens for r in fleet.requests().values()), "a request")
        wait_until(lambda: witness.locked() == [0, 1], "locked clocks")
        for pid in (fleet.pid, *fleet.drivers()):
            kill(pid)
        wait_until(lambda: witness.locked() == [], "the agent undoes the limits")
    fleet.process.wait()
    wait_until(lambda: not fleet.alive() and not fleet.files(), "nothing is left")
    summary = assert_books_balance(fleet)
    assert summary["broke_off"]


def test_the_drivers_go_on_without_the_process_that_keeps_them(fleet: Serving) -> None:
    with Load(fleet, 2) as load:
        load.wait_for(2)
        active, standby = fleet.drivers()
        kill(fleet.pid)
        fleet.process.wait()
        kill(active)
        wait_until(lambda: TAKEN_OVER in fleet.log.read_text(), "another driver", START_S)
        fleet.next_tick()
        load.wait_for(4)
    assert not load.failed
    os.kill(standby, signal.SIGTERM)
    wait_until(lambda: not fleet.alive() and not fleet.files(), "nothing is left", START_S)
    assert_books_balance(fleet)
