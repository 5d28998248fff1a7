from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from tests.fixtures.fleet_messages import node_report, tick_record
from tests.fixtures.ray_actors import FakeActor

import steppe.fleet.driver.controller_link as link_module
from steppe.config import FleetSection, RaySection, RunConfig
from steppe.errors import ReplicaError, StartError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver import start_errors
from steppe.fleet.driver.controller_link import STALL_S
from steppe.fleet.driver.driver import FleetDriver
from steppe.fleet.driver.engine_starts import EngineStarts
from steppe.fleet.driver.pending_actors import RunningNode
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.messages import (
    ControllerStatus,
    ControllerUpdate,
    Drained,
    EndedRequests,
    GpuInfo,
    NodeInfo,
    Placement,
)
from steppe.fleet.stale_runs import run_folder
from steppe.frontier.pareto import Frontier
from steppe.power.battery import Charge
from steppe.power.budget import Budget
from steppe.report.records import ReplicaTick, TickRecord
from steppe.roofline.point import OperatingPoint

CONFIG = RunConfig.model_validate(
    {
        "model": {"name": "none"},
        "device": {"kind": "emulated"},
        "power": {"supply": [{"kind": "constant", "watts": 100.0}]},
        "frontier": {"file": "none"},
    }
)
BUDGET = Budget(100.0, 0.0, 100.0, 100.0, "constant", stale=False)
POINTS = (OperatingPoint(600, 4, 40.0, 30.0),)
FRONTIER = Frontier.of(POINTS, asleep_w=10.0, idle_w=15.0, source="modelled")


def tick(t_s: float) -> TickRecord:
    return tick_record(t_s, battery=Charge(share=1.0 / t_s, power_w=0.0))


def test_two_runs_of_one_process_have_different_folders() -> None:
    folders = {run_folder(FleetDriver(CONFIG, print).run_id, "n") for _ in range(2)}
    assert len(folders) == 2
    assert {folder.name.split("-")[2] for folder in folders} == {str(os.getpid())}


def test_a_restarted_controller_gets_the_status_of_the_one_before(
    fake_ray: None,
) -> None:
    driver: Any = FleetDriver(CONFIG, print)
    driver._control.frontiers = {"": FRONTIER}
    driver._control.actor = FakeActor()
    driver._began_s = 17.0
    came = ControllerStatus(tick(3.0), BUDGET, {"node-1": 3})
    for begun, ticks in ((True, [tick(2.0), tick(3.0)]), (True, []), (False, [])):
        driver._control.actor.answers["poll"] = ControllerUpdate(
            begun, ticks, came if begun else None, 0
        )
        assert driver._ticks() == ticks
    *_, (method, briefing) = driver._control.actor.asked
    assert (method, briefing[-2:]) == ("begin", (17.0, came))


def test_a_replica_that_is_quarantined_is_logged_once(
    fake_ray: None, caplog: pytest.LogCaptureFixture
) -> None:
    driver: Any = FleetDriver(CONFIG, print)
    driver._control.actor = FakeActor()
    sought: list[str] = []
    driver.actors = SimpleNamespace(
        last_log_lines=lambda _: "CUDA error", seek_other_gpus=sought.append, has_unplaced=False
    )
    lost = ReplicaTick("replica-2", "quarantined", 0, 1, 0.0, 0.0, fault="GPU 1: it is lost")
    for t_s in (1.0, 2.0):
        found = [tick_record(t_s, replicas=(lost,))]
        driver._control.actor.answers["poll"] = ControllerUpdate(True, found, None, 0)
        driver._ticks()
    assert caplog.messages == [
        "replica-2 is quarantined: GPU 1: it is lost",
        "last lines of the log of replica-2:\nCUDA error",
    ]
    assert sought == ["replica-2"]
    with pytest.raises(ReplicaError, match=r"^every replica is quarantined; GPU 1: it is lost$"):
        driver.poll()


def test_a_node_that_was_switched_off_is_parked_and_placed_again_when_it_is_on(
    fake_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = FleetSection(node_off_command="true", node_on_command="true")
    config = CONFIG.model_copy(update={"fleet": fleet, "ray": RaySection(address="auto")})
    driver: Any = FleetDriver(config, print)
    driver._control.actor = FakeActor()
    machine, alive = Machine("n1", "10.0.0.1", 1), list[Machine]()
    info = NodeInfo((GpuInfo(0, "NVIDIA L4", (600,)),), (0,), "emulated")
    driver.actors.nodes["n1"] = RunningNode(machine, FakeActor(), info)
    place = Placement("replica-1", FakeActor(), "n1", FakeActor(), [0], ())
    driver.actors.placements["replica-1"] = place
    monkeypatch.setattr(driver, "_machines", lambda: alive)
    monkeypatch.setattr(driver.actors, "place_unplaced", lambda _: [])

    def switch(nodes_off: frozenset[str], *, until_off: bool) -> None:
        driver._nodes_off = nodes_off
        give_up_s = time.monotonic() + 30.0
        while driver._node_commands.is_off("n1") != until_off or driver._node_commands.is_busy:
            assert time.monotonic() < give_up_s
            driver._switch_nodes()

    switch(frozenset({"n1"}), until_off=True)
    driver._watch_cluster()
    assert driver._control.actor.names() == ["node_is_off"]
    assert (driver.actors.unplaced, driver.actors.replicas) == ([], 1)
    switch(frozenset(), until_off=False)
    assert driver.actors.unplaced == ["replica-1"]
    assert "remove_node" not in driver._control.actor.names()


def test_ticks_of_a_late_result_are_requested_again(
    fake_ray: None,
) -> None:
    driver: Any = FleetDriver(CONFIG, print)
    driver._control.actor = FakeActor()
    seen = ControllerStatus(tick(3.0), BUDGET, {})
    answers = (
        ControllerUpdate(True, [tick(3.0)], seen, 9),
        ray.exceptions.GetTimeoutError(),
        ControllerUpdate(True, [], seen, 10),
    )
    for answer in answers:
        driver._control.actor.answers["poll"] = answer
        driver._ticks()
    assert driver._control.actor.asked == [("poll", (0.0,)), ("poll", (3.0,)), ("poll", (3.0,))]


@dataclass
class Begun:
    """A driver whose replicas have started, and the actors that it creates and uses."""

    driver: FleetDriver
    controller: FakeActor
    gateway: FakeActor
    node: FakeActor


POOL = PoolActors("", CONFIG, (GpuInfo(0, "NVIDIA L4", (600,)),), 1, (), lambda _: None)  # type: ignore[arg-type,return-value]


@pytest.fixture
def begun(fake_ray: None, monkeypatch: pytest.MonkeyPatch) -> Begun:
    made = Begun(FleetDriver(CONFIG, print), FakeActor(), FakeActor(), FakeActor())
    remote = SimpleNamespace(remote=lambda *_: made.controller)
    actor_class = SimpleNamespace(options=lambda **_: remote)
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: actor_class)
    for name in ("local_node_id", "on_node"):
        monkeypatch.setattr(link_module, name, lambda *_: "here")
    monkeypatch.setattr(start_errors, "session_logs", lambda: Path("/tmp/ray/session/logs"))
    made.node.answers["report"] = [node_report(1)]
    made.gateway.answers["drain"] = EndedRequests(Drained("gateway"))
    actors = SimpleNamespace(
        rated_w=None,
        pools=lambda: {"": POOL},
        energy_source="emulated",
        node_actors={"node-1": made.node},
        placements={},
        replicas=0,
        starts=EngineStarts(CONFIG.fleet),
    )
    monkeypatch.setattr(made.driver, "actors", actors)
    made.driver._gateways.actors["gateway"] = made.gateway
    return made


def test_another_run_of_a_fleet_begins_without_a_status(begun: Begun) -> None:
    begun.driver._control.status = ControllerStatus(tick(400.0), BUDGET, {"node-1": 400})
    begun.driver.begin({"": FRONTIER})
    begun.controller.answers["poll"] = ControllerUpdate(True, [], None, 1)
    begun.driver._ticks()
    assert begun.controller.args("begin")[-1][-1] is None
    assert begun.controller.asked[-1] == ("poll", (0.0,))


@pytest.mark.parametrize(
    ("actor", "method"),
    [
        ("controller", "poll"),
        ("controller", "add_replicas"),
        ("controller", "begin"),
        ("node", "report"),
        ("gateway", "drain"),
    ],
)
@pytest.mark.parametrize(
    "error", [ray.exceptions.GetTimeoutError("Get timed out"), ray.exceptions.ActorDiedError()]
)
def test_an_actor_that_fails_at_the_begin_of_a_run_is_one_line(
    begun: Begun, actor: str, method: str, error: Exception
) -> None:
    getattr(begun, actor).answers[method] = error
    with pytest.raises(StartError) as caught:
        begun.driver.begin({"": FRONTIER})
    line = str(caught.value)
    assert str(error) in line
    assert line.endswith("; see /tmp/ray/session/logs")


@pytest.fixture
def clock() -> SimpleNamespace:
    """A clock that stands until a test sets it forward."""
    return SimpleNamespace(now_s=100.0)


@pytest.fixture
def followed(fake_ray: None, clock: SimpleNamespace) -> Any:
    """A driver whose controller has begun, and has read the budget once."""
    driver: Any = FleetDriver(CONFIG, print, lambda: clock.now_s)
    driver._control.frontiers = {"": FRONTIER}
    driver._control.actor = FakeActor({"poll": ControllerUpdate(True, [], None, 1)})
    driver._ticks()
    return driver


@pytest.mark.parametrize(
    "answer", [ControllerUpdate(True, [], None, 1), ray.exceptions.GetTimeoutError()]
)
def test_a_stalled_controller_is_restarted_once(
    followed: Any, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    controller = followed._control.actor
    controller.answers["poll"] = answer
    begun_s = clock.now_s
    for after_s in (0.0, STALL_S / 2, STALL_S - 0.1):
        clock.now_s = begun_s + after_s
        followed._ticks()
        assert "kill" not in controller.names()
    clock.now_s = begun_s + STALL_S
    followed._ticks()
    assert controller.names()[-1] == "kill"
    assert "the controller has stalled for 30 s" in caplog.text
    controller.answers["poll"] = ray.exceptions.ActorUnavailableError("it starts", None)
    for _ in range(9):
        clock.now_s += STALL_S
        followed._ticks()
    for reads, begun in ((0, False), (0, True), (0, True), (1, True)):
        controller.answers["poll"] = ControllerUpdate(begun, [], None, reads)
        followed._ticks()
        clock.now_s += STALL_S
    assert controller.names().count("kill") == 1


def test_a_controller_whose_loop_runs_without_ticks_is_not_restarted(
    followed: Any, clock: SimpleNamespace
) -> None:
    for reads in range(2, 9):
        clock.now_s += STALL_S
        followed._control.actor.answers["poll"] = ControllerUpdate(True, [], None, reads)
        followed._ticks()
    assert "kill" not in followed._control.actor.names()
