"""Board power limits that the agent follows by itself, whatever becomes of its client."""

from __future__ import annotations

import math
import os
from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.gpu_limits import EMPTY_S
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
    Done,
    FollowPowerLimits,
    Heartbeat,
    RefusedAnswer,
    Release,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.agent.power_schedule import LONGEST_KEEP_S, GpuPowerSchedule
from steppe.errors import AgentError

ALICE, BOB, LEASE_S, KEEP_S = Peer(1, 101), Peer(2, 102), 1.0, 8.0
SET_POWER = "nvmlDeviceSetPowerManagementLimit"


class Site:
    """A client that limits the clock of an H100, and its power by a schedule of three steps."""

    def __init__(self, node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy) -> None:
        self.node, self.gpu = node, host_limits.gpus[node.h100]
        self.server = LeaseServer(host_limits, loss, LEASE_S)
        self.uuid, self.begun_s = self.gpu.held.uuid, node.now_s
        self.say(TakeLease(LEASE_S, "alice"))
        self.say(SetClockLimit(self.uuid, 900))
        assert self.say(self.schedule()) == Done()

    def schedule(self) -> FollowPowerLimits:
        return FollowPowerLimits((0.0, 1.0, 3.0), {self.uuid: (500.0, 400.0, 200.0)}, KEEP_S)

    def say(self, request: Any, peer: Peer = ALICE) -> Any:
        return self.server.answer(request, peer, self.node.now_s)

    def lose(self) -> None:
        self.server.disconnect(ALICE, self.node.now_s)

    def wait(self, seconds: float, *, beats: bool = False) -> None:
        end_s = self.node.now_s + seconds
        while self.node.now_s < end_s - 1e-9:
            self.node.wait(min(0.25, end_s - self.node.now_s))
            if beats:
                assert self.say(Heartbeat()) == Done()
            self.server.pass_time(self.node.now_s)

    def limit_w(self) -> float:
        return self.node.truth().power_limit_w

    def clock_mhz(self) -> int | None:
        self.node.wait(0.1)
        lock = self.node.truth().clock_lock_mhz
        return lock and lock[1]


def test_limits_go_down_the_schedule_of_a_client_that_does_not_renew_it(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    assert site.limit_w() == 500.0
    assert site.server.wake_s <= node.now_s + 1.0
    site.wait(1.0, beats=True)
    assert site.limit_w() == 400.0
    site.wait(2.0, beats=True)
    assert site.limit_w() == 200.0
    site.wait(60.0, beats=True)
    assert site.limit_w() == 200.0, "as long as the lease is held"


def test_a_schedule_that_is_renewed_begins_anew(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    site.wait(2.0, beats=True)
    assert site.limit_w() == 400.0
    site.say(site.schedule())
    assert site.limit_w() == 500.0
    site.wait(0.5, beats=True)
    assert site.limit_w() == 500.0


def test_a_lost_client_frees_the_clock_at_once_and_the_power_after_the_schedule(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    site.wait(0.5)
    site.lose()
    assert (site.clock_mhz(), site.limit_w()) == (None, 500.0)
    site.wait(1.0)
    assert site.limit_w() == 400.0
    site.wait(2.0)
    assert site.limit_w() == 200.0
    assert not site.server.is_settled(node.now_s, 60.0)
    site.wait(KEEP_S)
    assert site.limit_w() == 700.0
    assert site.server.is_settled(node.now_s, 60.0)
    assert host_limits.held == ()


def test_a_lost_client_frees_the_power_as_soon_as_its_engine_has_left_the_gpu(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    node.emulator.set_context(node.h100, os.getpid(), 0)
    site.lose()
    site.wait(1.5)
    assert site.limit_w() == 400.0
    node.emulator.clear_context(node.h100, os.getpid())
    site.wait(1.0)
    assert site.limit_w() == 400.0
    site.wait(EMPTY_S + 1.0)
    assert site.limit_w() == 700.0
    assert node.now_s < site.begun_s + KEEP_S
    assert site.server.is_settled(node.now_s, 60.0)


def test_the_next_client_renews_the_schedule_of_a_lost_one(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    site.lose()
    site.wait(1.5)
    site.say(TakeLease(LEASE_S, "bob"), BOB)
    site.say(FollowPowerLimits((0.0,), {site.uuid: (300.0,)}, KEEP_S), BOB)
    for _ in range(40):
        site.wait(0.5)
        site.say(Heartbeat(), BOB)
    assert site.limit_w() == 300.0
    site.say(Release(), BOB)
    assert site.limit_w() == 700.0, "what was found before both"


def test_a_release_restores_the_power_at_once(node: EmulatedNode, host_limits: HostLimits) -> None:
    site = Site(node, host_limits, Restore())
    site.say(Release())
    assert (site.clock_mhz(), site.limit_w()) == (None, 700.0)
    assert site.server.is_settled(node.now_s, 60.0)


@pytest.mark.parametrize(
    ("loss", "after_w"), [(Floor(ClockFloor(300)), 700.0), (Floor(PowerFloor(250.0)), 250.0)]
)
def test_a_floor_takes_the_place_of_the_schedule(
    node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy, after_w: float
) -> None:
    site = Site(node, host_limits, loss)
    site.lose()
    site.wait(3.5)
    assert site.limit_w() == (250.0 if after_w == 250.0 else 200.0)
    site.wait(KEEP_S)
    assert site.limit_w() == after_w
    assert site.server.is_settled(node.now_s, 60.0)


def test_a_power_floor_after_a_schedule_ends_with_the_limit_that_was_found_first(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Floor(PowerFloor(250.0)))
    site.lose()
    site.say(TakeLease(LEASE_S, "bob"), BOB)
    site.say(SetClockLimit(site.uuid, 600), BOB)
    for _ in range(3):
        site.wait(0.5)
        site.say(Heartbeat(), BOB)
    assert (site.clock_mhz(), site.limit_w()) == (600, 700.0)


def test_a_hold_keeps_the_last_step_until_the_floor(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, HoldThenFloor(20.0, ClockFloor(300)))
    site.lose()
    site.wait(19.0)
    assert (site.clock_mhz(), site.limit_w()) == (900, 200.0)
    site.wait(2.0)
    assert (site.clock_mhz(), site.limit_w()) == (300, 700.0)


def test_a_limit_set_by_hand_takes_the_place_of_the_schedule(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    site.say(SetPowerLimit(site.uuid, 600.0))
    site.wait(5.0, beats=True)
    assert site.limit_w() == 600.0
    site.lose()
    assert site.limit_w() == 700.0


def test_a_gpu_that_refuses_is_tried_again_and_the_others_follow(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    spare = host_limits.gpus[node.spare].held.uuid
    node.emulator.inject(SET_POWER, error=pynvml.NVML_ERROR_TIMEOUT, index=node.h100)
    limits_w = {site.uuid: (300.0,), spare: (300.0,)}
    assert site.say(FollowPowerLimits((0.0,), limits_w, KEEP_S)) == Done()
    assert (site.limit_w(), node.truth(node.spare).power_limit_w) == (500.0, 300.0)
    assert SET_POWER in (site.gpu.fault or "")
    node.emulator.clear_faults()
    site.wait(1.5, beats=True)
    assert site.limit_w() == 300.0
    assert site.gpu.fault is None


def test_a_schedule_for_the_gpu_of_another_client_is_refused(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, Restore())
    site.say(TakeLease(LEASE_S, "bob"), BOB)
    answer = site.say(FollowPowerLimits((0.0,), {site.uuid: (700.0,)}, KEEP_S), BOB)
    assert isinstance(answer, RefusedAnswer)
    assert "alice" in answer.message
    assert site.limit_w() == 500.0


@pytest.mark.parametrize(
    ("after_s", "limits_w", "found"),
    [
        ((), (), "found"),
        ((0.0, 1.0), (500.0,), "found 1"),
        ((1.0,), (500.0,), "found"),
        ((0.0, 2.0, 1.0), (3.0, 2.0, 1.0), "ascend"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(
    after_s: tuple[float, ...], limits_w: tuple[float, ...], found: str
) -> None:
    with pytest.raises(AgentError, match=found):
        GpuPowerSchedule.of(after_s, limits_w, 1.0, 0.0)


def test_a_schedule_has_a_limit_before_and_after_its_steps() -> None:
    schedule = GpuPowerSchedule.of((0.0, 1.0), (500.0, 400.0), 1e9, 10.0)
    assert [schedule.limit_w(at_s) for at_s in (9.0, 10.9, 11.0, 99.0)] == [500, 500, 400, 400]
    assert (schedule.next_s(10.0), schedule.next_s(11.0)) == (11.0, math.inf)
    assert schedule.until_s == 10.0 + LONGEST_KEEP_S
