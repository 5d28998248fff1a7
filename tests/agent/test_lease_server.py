from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits
from steppe.agent.lease import Peer
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import (
    ClockFloor,
    Floor,
    HoldThenFloor,
    LossPolicy,
    PowerFloor,
    Restore,
)
from steppe.agent.messages import (
    Accepted,
    AgentStatus,
    AskStatus,
    Done,
    Heartbeat,
    NotHolder,
    RefusedAnswer,
    Release,
    Request,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.errors import TransientDeviceError

ALICE, BOB = Peer(1, 101), Peer(2, 102)
LEASE_S = 1.0
RESET_CLOCK = "nvmlDeviceResetGpuLockedClocks"


class Desk:
    """A desk, and a controller that has the lease and an H100 at 900 MHz and 300 W."""

    def __init__(self, node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy) -> None:
        self.node = node
        self.desk = LeaseServer(host_limits, loss, LEASE_S)
        self.uuid = host_limits.gpus[node.h100].held.uuid
        self.say(TakeLease(LEASE_S, "alice"))
        self.say(SetClockLimit(self.uuid, 900))
        self.say(SetPowerLimit(self.uuid, 300.0))

    def say(self, request: Any, peer: Peer = ALICE) -> Any:
        return self.desk.answer(request, peer, self.node.now_s)

    def leave(self, peer: Peer = ALICE) -> None:
        self.desk.disconnect(peer, self.node.now_s)

    def wait(self, seconds: float) -> None:
        self.node.wait(seconds)
        self.desk.pass_time(self.node.now_s)

    def limits(self) -> tuple[int | None, float]:
        """Return the highest clock and the power limit that the H100 really has."""
        self.node.wait(0.1)
        truth = self.node.truth()
        lock = truth.clock_lock_mhz
        return None if lock is None else lock[1], truth.power_limit_w


FREE = (None, 700.0)
LIMITED = (900, 300.0)


def test_the_holder_may_set_limits(node: EmulatedNode, host_limits: HostLimits) -> None:
    assert Desk(node, host_limits, Restore()).limits() == LIMITED


def test_a_client_without_a_lease_may_not(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    assert desk.say(SetClockLimit(desk.uuid, 300), BOB) == NotHolder()
    assert desk.say(ResetLimits(None), BOB) == NotHolder()
    assert desk.limits() == LIMITED


@pytest.mark.parametrize(
    "request_of",
    [
        lambda uuid: SetClockLimit(uuid, 300),
        lambda uuid: SetPowerLimit(uuid, 500.0),
        ResetLimits,
        lambda uuid: TakeLease(LEASE_S, "bob", (uuid,)),
    ],
)
@pytest.mark.parametrize("has_lease", [True, False])
def test_a_gpu_that_another_lease_holds_is_refused_with_the_name_of_the_holder(
    node: EmulatedNode,
    host_limits: HostLimits,
    request_of: Callable[[str], Request],
    has_lease: bool,
) -> None:
    desk = Desk(node, host_limits, Restore())
    request = request_of(desk.uuid)
    if has_lease or not isinstance(request, TakeLease):
        desk.say(TakeLease(LEASE_S, "bob"), BOB)
    answer = desk.say(request, BOB)
    assert isinstance(answer, RefusedAnswer)
    assert answer.message == f"{desk.uuid}: alice (process 101) holds its lease"
    assert desk.limits() == LIMITED


def test_two_clients_each_hold_some_gpus_and_only_those_of_the_lost_one_are_undone(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    spare = host_limits.gpus[node.spare].held.uuid
    assert desk.say(TakeLease(LEASE_S, "bob", (spare,)), BOB) == Accepted(LEASE_S)
    assert desk.say(SetClockLimit(spare, 600), BOB) == Accepted(600)
    status = desk.say(AskStatus())
    assert [(lease.holder, lease.holder_pid) for lease in status.leases] == [
        ("alice", ALICE.pid),
        ("bob", BOB.pid),
    ]
    assert [gpu.holder for gpu in status.gpus[:2]] == ["alice", "bob"]
    desk.leave()
    assert desk.limits() == FREE
    assert node.truth(node.spare).clock_lock_mhz == (210, 600)
    assert desk.say(Heartbeat(), BOB) == Done()
    assert not desk.desk.is_settled(node.now_s, 60.0)


def test_a_gpu_that_was_reset_may_be_taken_by_another_client(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    desk.say(TakeLease(LEASE_S, "bob"), BOB)
    desk.say(ResetLimits(desk.uuid))
    assert desk.say(SetClockLimit(desk.uuid, 600), BOB) == Accepted(600)


def test_a_silent_client_does_not_cost_another_its_lease(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    spare = host_limits.gpus[node.spare].held.uuid
    desk.say(TakeLease(LEASE_S, "bob", (spare,)), BOB)
    desk.say(SetClockLimit(spare, 600), BOB)
    for _ in range(4):
        desk.wait(0.5 * LEASE_S)
        assert desk.say(Heartbeat()) == Done()
    assert desk.limits() == LIMITED
    assert node.truth(node.spare).clock_lock_mhz is None
    assert desk.say(Heartbeat(), BOB) == NotHolder()


def test_anyone_may_ask_for_the_status(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    status = desk.say(AskStatus(), BOB)
    assert isinstance(status, AgentStatus)
    (lease,) = status.leases
    assert (lease.holder, lease.holder_pid) == ("alice", ALICE.pid)
    assert 0.5 * LEASE_S < lease.left_s < LEASE_S
    assert (status.gpus[0].clock_mhz, status.gpus[0].power_limit_w) == LIMITED
    assert status.loss == "restore"


def test_a_holder_that_speaks_keeps_the_lease(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    for _ in range(5):
        desk.wait(0.8 * LEASE_S)
        assert desk.say(Heartbeat()) == Done()
    assert desk.limits() == LIMITED


def test_a_silent_holder_loses_the_lease_and_its_limits(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    desk.wait(LEASE_S)
    assert desk.limits() == FREE
    assert desk.say(Heartbeat()) == NotHolder()


def test_nobody_can_take_a_longer_lease_than_the_site_allows(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = LeaseServer(host_limits, Restore(), LEASE_S)
    assert desk.answer(TakeLease(3600.0), ALICE, 0.0) == Accepted(LEASE_S)


def test_a_holder_that_takes_the_lease_again_is_told_how_long_it_has(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    assert Desk(node, host_limits, Restore()).say(TakeLease(3600.0)) == Accepted(LEASE_S)


def test_a_closed_connection_is_death_at_once(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    desk.leave()
    assert desk.limits() == FREE


def test_the_end_of_another_connection_changes_nothing(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    desk.leave(BOB)
    assert desk.limits() == LIMITED


def test_a_release_undoes_everything_and_frees_the_lease(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Floor(ClockFloor(300)))
    desk.say(Release())
    desk.leave()
    assert desk.limits() == FREE
    assert desk.say(TakeLease(LEASE_S), BOB) == Accepted(LEASE_S)


def test_a_reset_undoes_one_gpu_and_keeps_the_lease(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    other = host_limits.gpus[node.spare].held.uuid
    desk.say(SetClockLimit(other, 600))
    desk.say(ResetLimits(desk.uuid))
    assert desk.limits() == FREE
    assert node.truth(node.spare).clock_lock_mhz == (210, 600)
    assert desk.say(Heartbeat()) == Done()


def test_a_floor_holds_until_a_new_holder_releases(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Floor(ClockFloor(300)))
    desk.leave()
    assert desk.limits() == (300, 300.0)
    desk.wait(60.0)
    assert desk.limits() == (300, 300.0)
    desk.say(TakeLease(LEASE_S, gpus=(desk.uuid,)), BOB)
    assert desk.limits() == (300, 300.0)
    desk.say(Release(), BOB)
    assert desk.limits() == FREE


def test_hold_keeps_the_limits_and_then_goes_down(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, HoldThenFloor(30.0, PowerFloor(200.0)))
    desk.leave()
    desk.wait(29.0)
    assert not desk.desk.is_settled(node.now_s, 60.0)
    assert desk.limits() == LIMITED
    desk.wait(1.0)
    assert desk.limits() == (900, 200.0)
    assert desk.desk.is_settled(node.now_s, 60.0)


def test_a_controller_that_comes_back_in_time_finds_its_limits(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, HoldThenFloor(30.0, PowerFloor(200.0)))
    desk.leave()
    desk.wait(10.0)
    desk.say(TakeLease(LEASE_S, gpus=(desk.uuid,)), BOB)
    for _ in range(60):
        desk.wait(0.5)
        desk.say(Heartbeat(), BOB)
    assert desk.limits() == LIMITED


def test_a_limit_that_waits_is_set_when_due(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    assert desk.say(SetClockLimit(desk.uuid, 600)) == Accepted(600)
    assert desk.desk.wake_s <= node.now_s + LEASE_S
    desk.wait(0.5)
    desk.say(Heartbeat())
    desk.wait(0.5)
    assert desk.limits()[0] == 600


def test_a_limit_that_waits_dies_with_its_holder(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, HoldThenFloor(30.0, ClockFloor(210)))
    desk.say(SetClockLimit(desk.uuid, 1980))
    desk.leave()
    desk.wait(2.0)
    assert desk.limits()[0] == 900


def test_an_undo_that_failed_is_tried_again(node: EmulatedNode, host_limits: HostLimits) -> None:
    desk = Desk(node, host_limits, Restore())
    node.emulator.inject(RESET_CLOCK, error=999, index=node.h100, count=3)
    desk.leave()
    assert desk.limits() == (900, 700.0)
    desk.wait(1.0)
    assert desk.limits() == FREE


def test_what_a_gpu_refuses_to_undo_is_told_and_waited_for_but_not_for_ever(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    node.emulator.inject(RESET_CLOCK, error=pynvml.NVML_ERROR_UNKNOWN, index=node.h100)
    for request in (ResetLimits(desk.uuid), ResetLimits(None), Release()):
        answer = desk.say(request)
        assert isinstance(answer, RefusedAnswer)
        assert f"not undone yet: GPU {desk.uuid}: {RESET_CLOCK}" in answer.message
    assert not desk.desk.is_settled(node.now_s + 9.0, retry_s=10.0)
    assert desk.desk.is_settled(node.now_s + 10.0, retry_s=10.0)
    node.emulator.clear_faults()
    desk.wait(1.0)
    assert desk.desk.is_settled(node.now_s, retry_s=10.0)
    assert desk.limits() == FREE


def test_a_limit_that_is_to_be_undone_is_not_set_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    node.work(1.0)
    node.emulator.inject(RESET_CLOCK, error=pynvml.NVML_ERROR_UNKNOWN, index=node.h100)
    desk.leave()
    sets = node.truth().clock_sets
    node.emulator.set_load(node.h100, core=1.0, mem=0.3, valid_s=60.0)
    node.open(node.h100).set_clock_limit(1980)
    desk.wait(2.0)
    desk.wait(2.0)
    assert node.truth().clock_sets == sets + 1


@pytest.mark.parametrize("loss", [Restore(), Floor(ClockFloor(210))])
def test_told_to_stop_everything_is_undone(
    node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy
) -> None:
    desk = Desk(node, host_limits, loss)
    desk.desk.free(node.now_s)
    assert desk.limits() == FREE


def test_without_privilege_the_lease_is_refused_with_the_reason(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    node.set_privilege(False)
    answer = LeaseServer(host_limits, Restore(), LEASE_S).answer(TakeLease(LEASE_S), ALICE, 0.0)
    assert isinstance(answer, RefusedAnswer)
    assert answer.error == "NoPermissionError"


def test_a_refused_request_keeps_the_lease_and_the_limits(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    answer = desk.say(SetClockLimit("GPU-x", 600))
    assert isinstance(answer, RefusedAnswer)
    assert answer.error == "AgentError"
    assert desk.say(Heartbeat()) == Done()
    assert desk.limits() == LIMITED


def test_an_undo_that_failed_is_tried_again_although_the_next_client_holds_the_lease(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    desk = Desk(node, host_limits, Restore())
    node.emulator.inject(RESET_CLOCK, error=pynvml.NVML_ERROR_UNKNOWN, index=node.h100)
    desk.say(Release())
    desk.say(TakeLease(LEASE_S), BOB)
    desk.say(SetClockLimit(host_limits.gpus[node.spare].held.uuid, 600), BOB)
    node.emulator.clear_faults()
    desk.wait(0.5)
    assert desk.limits() == FREE
    assert node.truth(node.spare).clock_lock_mhz == (210, 600)
    assert host_limits.gpus[node.h100].fault is None


def test_what_a_gpu_does_not_let_go_is_tried_once_a_second_under_the_next_client(
    node: EmulatedNode, host_limits: HostLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(node, host_limits, Restore())
    tried: list[float] = []

    def refuse() -> None:
        tried.append(node.now_s)
        raise TransientDeviceError("no")

    monkeypatch.setattr(host_limits.gpus[node.h100].knobs, "reset_clock_limit", refuse)
    desk.say(Release())
    desk.say(TakeLease(LEASE_S), BOB)
    for _ in range(30):
        desk.say(SetClockLimit(host_limits.gpus[node.spare].held.uuid, 600), BOB)
        desk.wait(0.1)
    assert len(tried) in (4, 5)
