"""A loss policy that lowers GPUs: until they are there, and until a new holder limits them."""

from __future__ import annotations

from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits
from steppe.agent.lease import Peer
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import ClockFloor, Floor, HoldThenFloor, LossPolicy, PowerFloor
from steppe.agent.messages import Done, Heartbeat, SetClockLimit, SetPowerLimit, TakeLease

HOLDER, NEXT, LEASE_S = Peer(1, 101), Peer(2, 102), 1.0
SET_CLOCK, SET_POWER = "nvmlDeviceSetGpuLockedClocks", "nvmlDeviceSetPowerManagementLimit"
CLOCK_FLOOR, POWER_FLOOR = Floor(ClockFloor(300)), Floor(PowerFloor(200.0))


class Site:
    """A desk whose holder has an H100 at 900 MHz and 300 W."""

    def __init__(self, node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy) -> None:
        self.node, self.gpu = node, host_limits.gpus[node.h100]
        self.desk = LeaseServer(host_limits, loss, LEASE_S)
        self.say(TakeLease(LEASE_S))
        self.say(SetClockLimit(self.gpu.held.uuid, 900))
        self.say(SetPowerLimit(self.gpu.held.uuid, 300.0))

    def say(self, request: Any, peer: Peer = HOLDER) -> Any:
        return self.desk.answer(request, peer, self.node.now_s)

    def lose(self) -> None:
        self.desk.disconnect(HOLDER, self.node.now_s)

    def wait(self, seconds: float) -> None:
        self.node.wait(seconds)
        self.desk.pass_time(self.node.now_s)

    def limits(self, index: int = 0) -> tuple[int | None, float]:
        """Return the highest clock and the power limit that a GPU really has."""
        self.node.wait(0.1)
        truth = self.node.truth(index)
        return truth.clock_lock_mhz and truth.clock_lock_mhz[1], truth.power_limit_w


@pytest.mark.parametrize(
    ("loss", "setter"),
    [
        (CLOCK_FLOOR, SET_CLOCK),
        (POWER_FLOOR, SET_POWER),
        (HoldThenFloor(5.0, ClockFloor(300)), SET_CLOCK),
    ],
)
def test_a_floor_that_was_refused_is_tried_again_and_meanwhile_shows(
    node: EmulatedNode, host_limits: HostLimits, loss: LossPolicy, setter: str
) -> None:
    site = Site(node, host_limits, loss)
    node.emulator.inject(setter, error=pynvml.NVML_ERROR_TIMEOUT, index=node.h100)
    site.lose()
    site.wait(5.0)
    site.wait(1.0)
    assert setter in (site.gpu.fault or "")
    assert not site.desk.is_settled(node.now_s, retry_s=60.0)
    node.emulator.clear_faults()
    site.wait(1.0)
    assert site.limits() == ((300, 300.0) if setter == SET_CLOCK else (900, 200.0))
    assert site.gpu.fault is None
    assert site.desk.is_settled(node.now_s, retry_s=60.0)


def test_a_gpu_without_the_knob_of_the_floor_is_not_asked_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, CLOCK_FLOOR)
    p40 = host_limits.gpus[node.p40]
    site.say(SetPowerLimit(p40.held.uuid, 200.0))
    site.lose()
    assert site.desk.is_settled(node.now_s, retry_s=60.0)
    assert "no clock limit" in (p40.fault or "")


def test_a_power_floor_ends_when_a_new_holder_limits_the_clock(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, POWER_FLOOR)
    site.lose()
    site.say(TakeLease(LEASE_S), NEXT)
    assert site.limits() == (900, 200.0)
    site.say(SetClockLimit(site.gpu.held.uuid, 900), NEXT)
    assert site.limits() == (900, 300.0)


def test_a_power_floor_ends_only_once_the_clock_limit_is_in_force(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, POWER_FLOOR)
    spare = host_limits.gpus[node.spare].held.uuid
    site.say(SetClockLimit(spare, 900))
    site.lose()
    site.say(TakeLease(LEASE_S), NEXT)
    site.say(SetClockLimit(spare, 600), NEXT)
    site.wait(0.5)
    assert site.limits(node.spare) == (900, 200.0)
    assert site.say(Heartbeat(), NEXT) == Done()
    site.wait(0.5)
    assert site.limits(node.spare) == (600, 700.0)
    assert host_limits.gpus[node.spare].held.power_limit_w is None


def test_a_power_floor_that_could_not_be_lifted_when_due_is_tried_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, POWER_FLOOR)
    spare = host_limits.gpus[node.spare]
    site.say(SetClockLimit(spare.held.uuid, 900))
    site.lose()
    site.say(TakeLease(LEASE_S), NEXT)
    site.say(SetClockLimit(spare.held.uuid, 600), NEXT)
    node.emulator.inject(SET_POWER, error=pynvml.NVML_ERROR_TIMEOUT, index=node.spare)
    for _ in range(2):
        site.wait(0.5)
        site.say(Heartbeat(), NEXT)
    assert site.limits(node.spare) == (600, 200.0)
    assert SET_POWER in (spare.fault or "")
    node.emulator.clear_faults()
    for _ in range(2):
        site.wait(0.5)
        site.say(Heartbeat(), NEXT)
    assert site.limits(node.spare) == (600, 700.0)
    assert spare.fault is None
    assert site.limits() == (900, 200.0), "the new holder has not limited this one yet"


def test_a_power_limit_of_a_new_holder_takes_the_place_of_a_floor(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, POWER_FLOOR)
    site.lose()
    site.say(TakeLease(LEASE_S), NEXT)
    site.say(SetPowerLimit(site.gpu.held.uuid, 250.0), NEXT)
    site.say(SetClockLimit(site.gpu.held.uuid, 900), NEXT)
    assert site.limits() == (900, 250.0)


def test_a_clock_that_a_floor_holds_down_is_not_called_confirmed(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    site = Site(node, host_limits, POWER_FLOOR)
    node.work(0.5)
    site.wait(0.1)
    assert site.gpu.is_confirmed
    site.lose()
    site.say(TakeLease(LEASE_S), NEXT)
    site.wait(0.5)
    assert not site.gpu.is_confirmed
    site.say(SetClockLimit(site.gpu.held.uuid, 900), NEXT)
    site.wait(0.5)
    assert site.gpu.is_confirmed
