from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import ray
from tests.fixtures.fleet_messages import replica_report
from tests.fixtures.ray_actors import FakeActor

from steppe.control.state import ReplicaState
from steppe.errors import EngineError
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import Placement, ReplicaStatus

AWAKE, ASLEEP, GONE = ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.GONE
STEPPING, FROZEN = ReplicaStatus("http://there", False), ReplicaStatus("http://there", True)

REPORT = replica_report(batch_limit=8, quality="counter")


@dataclass
class Scene:
    """A replica that is awake; every answer of its actor can be changed."""

    handle: ReplicaHandle
    actor: FakeActor
    node: FakeActor


@pytest.fixture
def scene(fake_ray: None) -> Scene:
    actor, node = FakeActor({"status": STEPPING}), FakeActor()
    handle = ReplicaHandle(Placement("replica-1", actor, "node-1", node, [1], ()))
    handle.adopt(STEPPING, 0.0)
    return Scene(handle, actor, node)


def test_a_replica_that_was_restarted_without_its_engine_is_gone(scene: Scene) -> None:
    scene.actor.answers["status"] = ReplicaStatus("", False)
    for now_s in (1.0, 2.0):
        scene.handle.update(now_s)
    assert (scene.handle.state, scene.handle.url) == (GONE, "")
    assert "kill" not in scene.actor.names()


def test_a_start_that_fails_is_tried_again_after_a_while(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.enter(GONE, 0.0)
    actor.answers["start"] = ray.exceptions.RayActorError()
    handle.start(10.0)
    handle.update(10.5)
    assert handle.state == GONE
    handle.start(10.6)
    assert handle.state == GONE
    handle.start(11.5)
    assert actor.names().count("start") == 2


def test_a_replica_is_assigned_with_the_status_of_its_engine(scene: Scene) -> None:
    scene.handle.enter(GONE, 0.0)
    scene.handle.start(1.0)
    (seated,) = scene.node.args("assign")
    assert seated[-1].answer == STEPPING


def test_a_replica_that_steps_although_asleep_is_frozen_again(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.freeze(1.0)
    for now_s in (2.0, 3.0):
        handle.update(now_s)
    assert actor.names() == ["freeze", "status", "freeze"]
    actor.answers["status"] = FROZEN
    for now_s in (4.0, 5.0, 6.0):
        handle.update(now_s)
    assert actor.names()[3:] == ["status", "status", "status"]
    assert handle.state == ASLEEP


def test_a_replica_that_is_frozen_although_awake_is_thawed_again(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    actor.answers["status"] = FROZEN
    for now_s in (1.0, 2.0):
        handle.update(now_s)
    assert actor.names() == ["status", "thaw"]
    assert handle.state == AWAKE


def test_a_pause_of_the_whole_machine_does_not_kill_a_replica(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    actor.ready = False
    handle.update(1.0)
    handle.update(500.0)
    actor.calls[0].ready = True
    handle.update(500.5)
    assert (handle.state, actor.names()) == (AWAKE, ["status", "status"])


@pytest.mark.parametrize("change", ["freeze", "thaw"])
def test_a_replica_whose_freeze_or_thaw_is_overdue_is_killed(scene: Scene, change: str) -> None:
    handle, actor = scene.handle, scene.actor
    actor.ready = False
    getattr(handle, change)(1.0)
    for now_s in range(2, 32):
        handle.update(float(now_s))
    assert (handle.state, actor.names()) == (ASLEEP if change == "freeze" else AWAKE, [change])
    handle.update(32.0)
    handle.update(33.0)
    assert (handle.state, actor.names()) == (GONE, [change, "kill"])


@pytest.mark.parametrize("state", [AWAKE, ReplicaState.DRAINING])
def test_a_replica_is_waking_until_its_engine_has_thawed(scene: Scene, state: ReplicaState) -> None:
    handle, actor = scene.handle, scene.actor
    actor.answers["status"] = FROZEN
    handle.enter(ASLEEP, 0.0)
    actor.ready = False
    handle.thaw(1.0)
    handle.enter(state, 1.0)
    handle.update(8.0)
    assert handle.observation(outstanding=3).is_waking
    actor.answers["status"] = STEPPING
    actor.ready = True
    for call in actor.calls:
        call.ready = True
    handle.update(9.0)
    ready = handle.observation(outstanding=3)
    assert (ready.is_waking, ready.since_s) == (False, 8.0)
    assert ready.woke_to_drain is (state != AWAKE)


def test_a_replica_that_drains_after_serving_is_not_finishing(scene: Scene) -> None:
    scene.handle.enter(ReplicaState.DRAINING, 1.0)
    assert not scene.handle.observation(outstanding=3).woke_to_drain


def test_a_start_may_take_half_an_hour(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.enter(GONE, 0.0)
    actor.ready = False
    handle.start(1.0)
    for now_s in range(2, 1800):
        handle.update(float(now_s))
    assert handle.state == ReplicaState.STARTING
    assert "kill" not in actor.names()


def task_error(message: str) -> ray.exceptions.RayTaskError:
    return ray.exceptions.RayTaskError("freeze", "", EngineError(message))


def test_the_starting_draw_is_observed_only_while_no_limit_applies(scene: Scene) -> None:
    scene.handle.add_reports([REPORT])
    assert scene.handle.observation(outstanding=0).starting_w == 0.0
    scene.handle.enter(ReplicaState.STARTING, 1.0)
    assert scene.handle.observation(outstanding=0).starting_w == REPORT.draw_w


def test_a_replica_whose_freeze_fails_is_killed(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    actor.answers["freeze"] = task_error("cannot pause")
    handle.freeze(1.0)
    handle.update(2.0)
    assert (handle.state, actor.names()) == (GONE, ["freeze", "kill"])


def test_a_replica_whose_start_fails_is_not_killed(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.enter(GONE, 0.0)
    actor.answers["start"] = task_error("no weights")
    handle.start(1.0)
    handle.update(2.0)
    assert handle.state == GONE
    assert "kill" not in actor.names()


def test_a_status_from_before_a_freeze_is_ignored(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    actor.ready = False
    handle.update(1.0)
    handle.freeze(1.5)
    for call in actor.calls:
        call.ready = True
    handle.update(2.0)
    assert actor.names() == ["status", "freeze", "status"]


def test_a_frozen_replica_is_adopted_as_asleep(scene: Scene) -> None:
    scene.handle.adopt(FROZEN, 5.0)
    assert scene.handle.state == ASLEEP


def test_without_clock_limits_a_report_updates_the_batch_limit_only(
    scene: Scene,
) -> None:
    handle = scene.handle
    handle.placement = replace(handle.placement, limits_clocks=False)
    handle.clock_mhz, handle.batch_limit = 2040, 8
    handle.add_reports([replace(REPORT, clock_mhz=0, batch_limit=4)])
    seen = handle.observation(0)
    assert (seen.clock_mhz, seen.batch_limit) == (2040, 4)
