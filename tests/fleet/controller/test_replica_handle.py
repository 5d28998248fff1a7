from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import ray
from tests.fixtures.fleet_messages import replica_report
from tests.fixtures.ray_actors import FakeActor, FakeCall

from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import ReplicaState
from steppe.errors import EngineError, GpuFaultError, NotSupportedError
from steppe.fleet.controller.deep_sleep import DepthTime
from steppe.fleet.controller.replica_handle import ReplicaHandle, StartRule
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
    assert seated[-2].answer == STEPPING


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


@pytest.mark.parametrize("is_first", [True, False])
def test_a_replica_that_was_lost_starts_at_once_and_after_a_pause_if_that_repeats(
    scene: Scene, is_first: bool
) -> None:
    handle, actor = scene.handle, scene.actor
    handle.failures = 0 if is_first else 3
    actor.answers["status"] = ReplicaStatus("", False)
    for now_s in (1.0, 2.0):
        handle.update(now_s)
    handle.start(2.0)
    assert handle.state == (ReplicaState.STARTING if is_first else GONE)
    handle.start(2.0 + 8.0)
    assert handle.state == ReplicaState.STARTING


def test_the_pause_between_starts_that_fail_doubles_up_to_five_minutes(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.rule = StartRule(restarts=20)
    handle.enter(GONE, 0.0)
    actor.answers["start"] = task_error("no weights")
    now_s, pauses_s = 0.0, []
    for _ in range(11):
        handle.start(now_s)
        assert handle.state == ReplicaState.STARTING
        handle.update(now_s)
        failed_s = now_s
        while handle.state == GONE:
            now_s += 1.0
            handle.start(now_s)
        pauses_s.append(now_s - failed_s)
        handle.enter(GONE, now_s)
    assert pauses_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]


def fail_starts(scene: Scene, error: Exception, times: int) -> None:
    scene.handle.enter(GONE, 0.0)
    scene.actor.answers["start"] = error
    for number in range(1, times + 1):
        scene.handle.start(300.0 * number)
        scene.handle.update(300.0 * number)


def test_a_replica_is_quarantined_after_so_many_restarts_that_failed(scene: Scene) -> None:
    handle = scene.handle
    handle.rule = StartRule(restarts=2)
    fail_starts(scene, task_error("no weights"), times=9)
    assert scene.actor.names().count("start") == 3
    seen = handle.observation(0)
    assert seen.state == ReplicaState.QUARANTINED
    assert seen.fault == "3 failures in a row, the last: no weights"
    assert handle.is_fenced, "plans leave it out"


def test_a_replica_on_a_faulty_gpu_is_quarantined_at_once_and_named(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    cause = GpuFaultError("GPU 3 (NVIDIA H100, GPU-1): 2 uncorrected memory errors")
    fail_starts(scene, ray.exceptions.RayTaskError("assign", "", cause), times=3)
    assert scene.handle.state == ReplicaState.QUARANTINED
    assert scene.actor.names().count("start") == 1
    assert scene.handle.fault == str(cause)
    assert caplog.messages[-1] == f"replica-1 is quarantined: {cause}"


def test_an_actor_that_is_out_of_reach_is_not_quarantined(scene: Scene) -> None:
    scene.handle.rule = StartRule(restarts=2)
    fail_starts(scene, ray.exceptions.ActorUnavailableError("no route", None), times=9)
    assert scene.handle.state == GONE


def test_failures_are_forgotten_once_a_replica_has_run_for_ten_minutes(scene: Scene) -> None:
    handle = scene.handle
    handle.failures = 8
    scene.actor.answers["status"] = ReplicaStatus("", False)
    for now_s in (601.0, 602.0):
        handle.update(now_s)
    assert (handle.state, handle.failures) == (GONE, 1)


def test_a_quarantined_replica_without_a_reading_counts_with_its_idle_draw(scene: Scene) -> None:
    handle = scene.handle
    handle.add_reports([replace(REPORT, draw_w=500.0)])
    handle.add_reports([replace(REPORT, draw_w=None, max_idle_w=100.0)])
    handle.enter(ReplicaState.QUARANTINED, 1.0)
    assert handle.assumed_w == 130.0


def test_a_start_that_was_requested_before_is_waited_for(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.enter(GONE, 0.0)
    call = FakeCall(STEPPING, ready=False)
    handle.adopt_start(call, 0.0)
    for now_s in (5000.0, 5001.0):  # a controller that has restarted late in the run
        handle.update(now_s)
    assert (handle.state, actor.names()) == (ReplicaState.STARTING, [])
    call.ready = True
    handle.update(5002.0)
    assert (handle.state, handle.url) == (AWAKE, "http://there")


def test_a_start_that_takes_longer_than_its_limit_is_ended(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.rule = StartRule(longest_s=60.0)
    handle.enter(GONE, 0.0)
    actor.ready = False
    handle.start(1.0)
    for now_s in (2.0, 63.0, 64.0):
        handle.update(now_s)
    assert (handle.state, actor.names()[-1]) == (GONE, "kill")


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


def paused(scene: Scene) -> ReplicaHandle:
    scene.handle.enter(ASLEEP, 0.0)
    scene.actor.answers["status"] = FROZEN
    return scene.handle


OFFLOADED = ReplicaStatus("http://there", True, is_offloaded=True)


def test_an_offloaded_replica_comes_back_and_its_times_are_measured(scene: Scene) -> None:
    handle, actor = paused(scene), scene.actor
    handle.deepen(SleepDepth.OFFLOADED, 10.0)
    handle.deepen(SleepDepth.OFFLOADED, 11.0)
    actor.answers["status"] = OFFLOADED
    for now_s in (14.0, 15.0, 16.0):
        handle.update(now_s)
    seen = handle.observation(0)
    assert (seen.state, seen.depth, handle.url) == (ASLEEP, SleepDepth.OFFLOADED, "http://there")
    assert actor.names().count("offload") == 1
    actor.answers |= {"reload": STEPPING, "status": STEPPING}
    handle.start(20.0)
    assert handle.observation(0).state == ReplicaState.STARTING
    handle.update(26.0)
    assert (handle.state, handle.depth) == (AWAKE, SleepDepth.PAUSED)
    assert handle.sleep.take_times() == [
        DepthTime(SleepDepth.OFFLOADED, False, 4.0),
        DepthTime(SleepDepth.OFFLOADED, True, 6.0),
    ]


def test_an_engine_that_cannot_offload_stays_paused_and_is_not_asked_again(scene: Scene) -> None:
    handle, actor = paused(scene), scene.actor
    cause = NotSupportedError("weights stay")
    actor.answers["offload"] = ray.exceptions.RayTaskError("offload", "", cause)
    for now_s in (10.0, 12.0, 14.0):
        handle.deepen(SleepDepth.OFFLOADED, now_s)
        handle.update(now_s + 1.0)
    assert (handle.state, handle.depth) == (ASLEEP, SleepDepth.PAUSED)
    assert actor.names().count("offload") == 1
    assert "kill" not in actor.names()


def test_a_stopped_replica_has_no_engine_and_starts_as_a_new_one(scene: Scene) -> None:
    handle, actor = paused(scene), scene.actor
    actor.answers["leave"] = ray.exceptions.ActorDiedError()
    handle.deepen(SleepDepth.STOPPED, 10.0)
    actor.answers["status"] = ReplicaStatus("", False)
    for now_s in (11.0, 12.0, 13.0):
        handle.update(now_s)
    assert (handle.state, handle.depth, handle.url) == (ASLEEP, SleepDepth.STOPPED, "")
    handle.add_reports([replace(REPORT, draw_w=12.0, energy_j=12.0)])
    assert handle.observation(0).deep_w == 12.0
    assert handle.asleep_w is None, "the mean draw of a pause is another"
    actor.answers["start"] = STEPPING
    handle.start(100.0)
    handle.update(140.0)
    assert handle.state == AWAKE
    assert handle.sleep.take_times() == [
        DepthTime(SleepDepth.STOPPED, False, 1.0),
        DepthTime(SleepDepth.STOPPED, True, 40.0),
    ]


def test_a_process_that_does_not_end_by_itself_is_killed_before_it_starts_again(
    scene: Scene,
) -> None:
    handle, actor = paused(scene), scene.actor
    actor.ready = False
    handle.deepen(SleepDepth.STOPPED, 10.0)
    handle.start(20.0)
    assert handle.state == ASLEEP, "it has not ended yet"
    handle.update(39.0)
    assert "kill" not in actor.names()
    handle.update(40.0)
    assert actor.names()[-1] == "kill"
    handle.start(41.0)
    assert handle.state == ReplicaState.STARTING


def test_a_replica_on_a_node_that_is_off_starts_once_the_node_is_on(scene: Scene) -> None:
    handle, actor = paused(scene), scene.actor
    handle.deepen(SleepDepth.OFF, 10.0)
    handle.update(11.0)
    assert handle.observation(0).depth is SleepDepth.OFF
    handle.start(100.0)
    assert (handle.state, actor.names().count("start")) == (ReplicaState.STARTING, 0)
    actor.answers["start"] = STEPPING
    handle.node_is_on(280.0)
    handle.update(300.0)
    assert handle.state == AWAKE
    assert handle.sleep.take_times()[-1] == DepthTime(SleepDepth.OFF, True, 200.0)


def test_replicas_of_a_node_that_came_back_start_only_if_they_are_needed(scene: Scene) -> None:
    def handle_of(name: str) -> ReplicaHandle:
        return ReplicaHandle(Placement(name, FakeActor(), "node-2", FakeActor(), [0], ()))

    first, second = handle_of("replica-1"), handle_of("replica-2")
    for old in (first, second):
        old.enter(ASLEEP, 0.0)
        old.sleep.depth = SleepDepth.OFF
    first.start(10.0)
    new = [handle_of("replica-1"), handle_of("replica-2")]
    for handle, old in zip(new, (first, second), strict=True):
        handle.replaces(old, 200.0)
    assert [handle.state for handle in new] == [GONE, ASLEEP], "the loop starts the first"
    assert new[1].depth is SleepDepth.STOPPED


def test_a_quarantined_replica_with_other_gpus_begins_anew(scene: Scene) -> None:
    cause = GpuFaultError("GPU 3: 2 uncorrectable memory errors")
    fail_starts(scene, ray.exceptions.RayTaskError("assign", "", cause), times=1)
    new = ReplicaHandle(Placement("replica-1", FakeActor(), "node-1", FakeActor(), [2], ()))
    new.replaces(scene.handle, 400.0)
    assert (new.state, new.failures, new.fault) == (GONE, 0, "")
    new.start(400.0)
    assert new.state == ReplicaState.STARTING


def test_the_time_of_a_first_start_counts_as_that_of_a_wake_from_a_stop(scene: Scene) -> None:
    scene.handle.adopt(replace(STEPPING, start_s=33.0), 0.0)
    assert scene.handle.sleep.take_times() == [DepthTime(SleepDepth.STOPPED, True, 33.0)]


def test_a_replica_without_permission_for_a_clock_keeps_that_of_the_plan(scene: Scene) -> None:
    handle = scene.handle
    handle.clock_mhz = 2040
    handle.add_reports([replace(REPORT, clock_mhz=0, clock_is_free=True)])
    seen = handle.observation(0)
    assert (seen.clock_mhz, seen.clock_is_free) == (2040, True)
    handle.add_reports([replace(REPORT, clock_mhz=900)])
    assert not handle.observation(0).clock_is_free


def test_without_clock_limits_a_report_updates_the_batch_limit_only(
    scene: Scene,
) -> None:
    handle = scene.handle
    handle.placement = replace(handle.placement, limits_clocks=False)
    handle.clock_mhz, handle.batch_limit = 2040, 8
    handle.add_reports([replace(REPORT, clock_mhz=0, batch_limit=4)])
    seen = handle.observation(0)
    assert (seen.clock_mhz, seen.batch_limit) == (2040, 4)


def test_a_replica_whose_engine_has_work_and_makes_no_step_is_killed_after_the_stall_time(
    scene: Scene,
) -> None:
    handle, actor = scene.handle, scene.actor
    handle.rule = StartRule(stall_s=20.0)
    for now_s in (1.0, 19.0):
        handle.add_reports([replace(REPORT, silent_s=now_s)])
        handle.update(now_s)
        assert handle.state == AWAKE
    handle.add_reports([replace(REPORT, silent_s=20.0)])
    handle.update(20.0)
    assert handle.state == GONE
    assert "kill" in actor.names()


def test_a_replica_that_is_stopped_has_the_stall_time_to_answer(scene: Scene) -> None:
    handle, actor = scene.handle, scene.actor
    handle.rule = StartRule(stall_s=20.0)
    actor.ready = False
    for now_s in range(1, 15):
        handle.add_reports([replace(REPORT, stopped=True, silent_s=float(now_s))])
        handle.update(float(now_s))
    assert handle.state == AWAKE
    assert "kill" not in actor.names()
    actor.calls[0].ready = True  # it goes on
    handle.add_reports([REPORT])
    handle.update(16.0)
    assert handle.state == AWAKE


def test_a_long_step_and_a_stopped_engine_keep_new_requests_away(scene: Scene) -> None:
    handle = scene.handle
    silent = []
    for changes in ({}, {"silent_s": 1.0}, {"silent_s": 2.0}, {"stopped": True}):
        handle.add_reports([replace(REPORT, **changes)])
        silent.append(handle.is_silent)
    assert silent == [False, False, True, True]
