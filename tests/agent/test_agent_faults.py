"""The fault matrix of the agent: every call that it makes, times every class of error.

- A setter that certainly did nothing takes its record back; one that may have worked keeps it.
- Either way the holder is told the class, keeps its lease, and may go on with other GPUs.
- What could not be undone is tried again until it is; the other GPUs do not wait for it.
- A check that fails changes no limit and shows as the GPU's fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits
from steppe.agent.lease import Peer
from steppe.agent.lease_file import owned_lease_file
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import Restore
from steppe.agent.messages import (
    Accepted,
    AskStatus,
    Done,
    Heartbeat,
    RefusedAnswer,
    Release,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.errors import NoPermissionError

HOLDER, LEASE_S = Peer(1, 101), 1.0
DID_NOTHING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "NotSupportedError",
    pynvml.NVML_ERROR_NO_PERMISSION: "NoPermissionError",
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "OutOfRangeError",
}
MAY_HAVE_WORKED = {
    pynvml.NVML_ERROR_TIMEOUT: "TransientDeviceError",
    pynvml.NVML_ERROR_UNKNOWN: "TransientDeviceError",
    pynvml.NVML_ERROR_GPU_IS_LOST: "DeviceLostError",
    pynvml.NVML_ERROR_RESET_REQUIRED: "DeviceLostError",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "BackendUnavailableError",
}
CLASSES = DID_NOTHING | MAY_HAVE_WORKED
SET_CLOCK, RESET_CLOCK = "nvmlDeviceSetGpuLockedClocks", "nvmlDeviceResetGpuLockedClocks"
SET_POWER = "nvmlDeviceSetPowerManagementLimit"
FREE = (None, 700.0)


class Site:
    """A desk with a holder, on two H100."""

    def __init__(self, node: EmulatedNode, host_limits: HostLimits) -> None:
        self.node, self.host_limits = node, host_limits
        self.desk = LeaseServer(host_limits, Restore(), LEASE_S)
        self.uuid = host_limits.gpus[node.h100].held.uuid
        self.other = host_limits.gpus[node.spare].held.uuid
        self.say(TakeLease(LEASE_S))

    def say(self, request: Any) -> Any:
        return self.desk.answer(request, HOLDER, self.node.now_s)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.node.wait(0.5)
            assert self.say(Heartbeat()) == Done(), "the holder keeps its lease"
            self.desk.pass_time(self.node.now_s)

    def fail(self, function: str, code: int) -> None:
        self.node.emulator.inject(function, error=code, index=self.node.h100)

    def limits(self, index: int) -> tuple[int | None, float]:
        self.node.wait(0.1)
        truth = self.node.truth(index)
        return truth.clock_lock_mhz and truth.clock_lock_mhz[1], truth.power_limit_w

    def fault(self) -> str | None:
        fault: str | None = self.say(AskStatus()).gpus[self.node.h100].fault
        return fault

    def in_force(self) -> tuple[int | None, bool]:
        gpu = self.say(AskStatus()).gpus[self.node.h100]
        return gpu.in_force_mhz, gpu.is_confirmed


@pytest.fixture
def site(node: EmulatedNode, host_limits: HostLimits) -> Site:
    return Site(node, host_limits)


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("function", [SET_CLOCK, SET_POWER])
def test_a_setter_that_fails_is_told_recorded_and_undone(
    site: Site, function: str, code: int
) -> None:
    site.fail(function, code)
    uuid = site.uuid
    request = SetClockLimit(uuid, 900) if function == SET_CLOCK else SetPowerLimit(uuid, 300.0)
    answer = site.say(request)
    assert isinstance(answer, RefusedAnswer)
    assert answer.error == CLASSES[code]
    assert [held.uuid for held in site.host_limits.held] == (
        [uuid] if code in MAY_HAVE_WORKED else []
    )
    assert site.say(SetClockLimit(site.other, 900)) == Accepted(900)
    site.node.emulator.clear_faults()
    assert site.say(ResetLimits(None)) == Done()
    assert site.host_limits.held == ()
    assert (site.limits(site.node.h100), site.limits(site.node.spare)) == (FREE, FREE)


@pytest.mark.parametrize("code", CLASSES)
def test_a_power_limit_that_cannot_be_read_back_is_still_recorded(site: Site, code: int) -> None:
    site.fail("nvmlDeviceGetEnforcedPowerLimit", code)
    assert isinstance(site.say(SetPowerLimit(site.uuid, 300.0)), RefusedAnswer)
    assert [held.power_limit_w for held in site.host_limits.held] == [300.0]
    site.node.emulator.clear_faults()
    site.say(ResetLimits(None))
    assert site.limits(site.node.h100) == FREE


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("function", [RESET_CLOCK, SET_POWER])
def test_what_could_not_be_undone_is_tried_again_and_the_others_do_not_wait(
    site: Site, function: str, code: int
) -> None:
    for uuid in (site.uuid, site.other):
        site.say(SetClockLimit(uuid, 900))
        site.say(SetPowerLimit(uuid, 300.0))
    site.fail(function, code)
    site.desk.disconnect(HOLDER, site.node.now_s)
    assert site.limits(site.node.spare) == FREE
    assert [held.uuid for held in site.host_limits.held] == [site.uuid]
    site.node.emulator.clear_faults()
    site.node.wait(1.1)
    site.desk.pass_time(site.node.now_s)
    assert site.limits(site.node.h100) == FREE
    assert site.host_limits.held == ()


@pytest.mark.parametrize("code", CLASSES)
def test_a_check_that_fails_changes_no_limit_and_shows_as_a_fault(site: Site, code: int) -> None:
    site.say(SetClockLimit(site.uuid, 900))
    site.fail("nvmlDeviceGetClockInfo", code)
    site.wait(3.0)
    assert "GetClockInfo" in (site.fault() or "")
    assert site.limits(site.node.h100) == (900, 700.0)
    site.node.emulator.clear_faults()
    site.wait(2.0)
    assert site.fault() is None


def test_no_lease_is_given_where_limits_may_not_be_changed(site: Site) -> None:
    for index in range(len(site.host_limits.gpus)):
        site.node.emulator.inject(SET_POWER, error=pynvml.NVML_ERROR_NO_PERMISSION, index=index)
    site.say(Release())
    answer = site.say(TakeLease(LEASE_S))
    assert isinstance(answer, RefusedAnswer)
    assert answer.error == "NoPermissionError"


@pytest.mark.parametrize("code", sorted(CLASSES.keys() - {pynvml.NVML_ERROR_NO_PERMISSION}))
def test_one_gpu_that_fails_its_probe_costs_no_other_its_limits(site: Site, code: int) -> None:
    site.fail(SET_POWER, code)
    site.say(Release())
    assert site.say(TakeLease(LEASE_S)) == Accepted(LEASE_S)
    assert SET_POWER in (site.fault() or "")
    assert site.say(SetClockLimit(site.other, 900)) == Accepted(900)


def test_one_gpu_without_permission_costs_no_other_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    emulator = Emulator.attach(build_library(), tmp_path / "two", "h100x2")
    emulator.set_fault(1, "no_permission", 1)
    with owned_lease_file(tmp_path / "lease.json") as file:
        limits = HostLimits(open_gpus(), file)
        limits.probe_control(limits.gpus)
        assert "nvmlDeviceSetPowerManagementLimit" in (limits.gpus[1].refusal or "")
        emulator.set_fault(0, "no_permission", 1)
        with pytest.raises(NoPermissionError):
            limits.probe_control(limits.gpus)


def test_permission_lost_in_mid_run_refuses_and_keeps_what_is_set(site: Site) -> None:
    site.say(SetClockLimit(site.uuid, 900))
    site.node.set_privilege(False)
    site.wait(1.5)
    answer = site.say(SetClockLimit(site.uuid, 600))
    assert isinstance(answer, RefusedAnswer)
    assert answer.error == "NoPermissionError"
    assert site.limits(site.node.h100) == (900, 700.0)
    assert [held.clock_mhz for held in site.host_limits.held] == [900]


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("waits", [True, False])
def test_a_clock_limit_that_was_refused_is_never_called_in_force(
    site: Site, code: int, waits: bool
) -> None:
    site.node.work(1.0)
    assert site.in_force() == (None, True)
    site.say(SetClockLimit(site.uuid, 900))
    site.wait(0.5 if waits else 1.5)
    assert site.in_force() == (900, True)
    site.fail(SET_CLOCK, code)
    assert isinstance(site.say(SetClockLimit(site.uuid, 600)), Accepted if waits else RefusedAnswer)
    site.wait(1.5)
    assert site.in_force() == (900, True)
    site.node.emulator.clear_faults()
    site.say(SetClockLimit(site.uuid, 600))
    assert site.in_force() == (600, False)
    site.wait(1.0)
    assert site.in_force() == (600, True)


def test_a_gpu_lost_and_back_is_limited_again_within_a_second(site: Site) -> None:
    site.node.work(1.0)
    site.say(SetClockLimit(site.uuid, 900))
    site.node.emulator.set_alive(site.node.h100, False)
    site.wait(2.0)
    assert "lost" in (site.fault() or "").lower()
    site.node.emulator.set_alive(site.node.h100, True)
    site.node.open().reset_clock_limit()
    site.wait(2.5)
    assert site.limits(site.node.h100) == (900, 700.0)
