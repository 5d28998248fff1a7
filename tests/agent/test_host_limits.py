from __future__ import annotations

import json
from pathlib import Path

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits, undo_lease
from steppe.agent.lease_file import HeldLimits, owned_lease_file, read_lease_file
from steppe.agent.loss_policy import ClockFloor, PowerFloor
from steppe.device.nvml import open_gpus
from steppe.errors import AgentError, TransientDeviceError

SET_CLOCK = "nvmlDeviceSetGpuLockedClocks"
RESET_CLOCK = "nvmlDeviceResetGpuLockedClocks"


def test_a_clock_limit_is_set_and_written_down(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    gpu = host_limits.gpus[node.h100]
    assert gpu.request_clock_limit(907, node.now_s) == 900
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 900)
    left = read_lease_file(tmp_path / "lease.json")
    assert left == (HeldLimits(gpu.held.uuid, clock_mhz=900),)


def test_a_limit_that_is_in_force_is_not_set_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    for _ in range(5):
        gpu.request_clock_limit(900, node.now_s)
        gpu.set_power_limit(300)
        node.wait(1.1)
    assert node.truth().clock_sets == 1
    assert node.truth().power_limit_sets == 1


def test_a_second_change_within_a_second_waits_and_the_latest_wins(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    node.wait(0.3)
    for clock_mhz in (600, 1500, 1200):
        gpu.request_clock_limit(clock_mhz, node.now_s)
    host_limits.apply_due(node.now_s)
    assert node.truth().clock_sets == 1
    node.wait(0.7)
    host_limits.apply_due(node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 1200)
    assert node.truth().clock_sets == 2


def test_gpus_are_paced_apart(node: EmulatedNode, host_limits: HostLimits) -> None:
    for index in (node.h100, node.spare):
        host_limits.gpus[index].request_clock_limit(900, node.now_s)
    node.wait(0.1)
    assert node.truth(node.h100).clock_lock_mhz == node.truth(node.spare).clock_lock_mhz


def test_a_limit_is_confirmed_once_the_clock_obeys(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    node.work(2.0)
    gpu.request_clock_limit(900, node.now_s)
    host_limits.check(node.now_s)
    assert not gpu.is_confirmed
    node.wait(0.2)
    host_limits.check(node.now_s)
    assert gpu.is_confirmed


def test_a_lock_that_somebody_else_lifted_is_set_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    node.work(2.0)
    gpu.request_clock_limit(900, node.now_s)
    node.wait(1.0)
    node.open().reset_clock_limit()
    node.wait(1.0)
    host_limits.check(node.now_s)
    assert "limited to 900 MHz" in (gpu.fault or "")
    node.wait(0.2)
    host_limits.check(node.now_s)
    assert node.truth().clock_lock_mhz == (210, 900)
    assert gpu.fault is None


def test_a_lifted_lock_that_cannot_be_set_again_is_tried_once_a_second_and_logged_once(
    node: EmulatedNode,
    host_limits: HostLimits,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = host_limits.gpus[node.h100]
    node.work(2.0)
    gpu.request_clock_limit(900, node.now_s)
    node.open().reset_clock_limit()
    tried: list[int] = []

    def refuse(clock_mhz: int) -> None:
        tried.append(clock_mhz)
        raise TransientDeviceError("no")

    monkeypatch.setattr(gpu.knobs, "set_clock_limit", refuse)
    for _ in range(45):
        node.wait(0.1)
        host_limits.check(node.now_s)
    assert tried == [900] * 4
    assert [record.message.endswith(": no") for record in caplog.records] == [True]
    assert gpu.fault == "no"


def test_undo_goes_back_to_the_power_limit_that_was_there(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    node.open().set_power_limit(500)
    gpu = host_limits.gpus[node.h100]
    gpu.set_power_limit(300)
    gpu.set_power_limit(250)
    gpu.request_clock_limit(900, node.now_s)
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert node.truth().power_limit_w == 500
    assert node.truth().clock_lock_mhz is None
    assert host_limits.held == ()


def test_undo_is_never_paced_and_forgets_what_waited(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    gpu.request_clock_limit(600, node.now_s)
    host_limits.undo(node.now_s)
    node.wait(2.0)
    host_limits.apply_due(node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz is None


def test_gpus_that_we_did_not_touch_stay_as_they_are(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    node.open(node.spare).set_clock_limit(1200)
    host_limits.gpus[node.h100].request_clock_limit(900, node.now_s)
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert node.truth(node.spare).clock_lock_mhz == (210, 1200)


def test_a_wish_that_failed_can_be_wished_again(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    node.emulator.inject(SET_CLOCK, error=pynvml.NVML_ERROR_TIMEOUT, index=node.h100)
    with pytest.raises(TransientDeviceError):
        gpu.request_clock_limit(900, node.now_s)
    node.emulator.clear_faults()
    gpu.request_clock_limit(900, node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 900)
    assert gpu.fault is None


def test_one_gpu_that_refuses_does_not_keep_the_others_limited(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    for index in (node.h100, node.spare):
        host_limits.gpus[index].request_clock_limit(900, node.now_s)
        host_limits.gpus[index].set_power_limit(300)
    node.emulator.inject(RESET_CLOCK, error=pynvml.NVML_ERROR_UNKNOWN, index=node.h100)
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert node.truth(node.spare).clock_lock_mhz is None
    assert node.truth(node.h100).power_limit_w == 700
    assert host_limits.held == (HeldLimits(host_limits.gpus[0].held.uuid, clock_mhz=900),)
    node.emulator.clear_faults()
    host_limits.undo(node.now_s)
    assert len(host_limits.held) == 0


def test_a_gpu_that_fell_off_the_bus_does_not_stop_the_keeper(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    for index in (node.h100, node.spare):
        host_limits.gpus[index].request_clock_limit(900, node.now_s)
    node.emulator.set_alive(node.h100, False)
    node.wait(1.0)
    host_limits.check(node.now_s)
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert node.truth(node.spare).clock_lock_mhz is None
    assert "lost" in (host_limits.gpus[node.h100].fault or "").lower()


def test_a_floor_lowers_only_what_somebody_wanted_limited(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    host_limits.gpus[node.h100].request_clock_limit(1500, node.now_s)
    host_limits.lower(ClockFloor(300), node.now_s)
    node.wait(0.1)
    assert node.truth(node.h100).clock_lock_mhz == (210, 300)
    assert node.truth(node.spare).clock_lock_mhz is None


def test_a_floor_never_raises_a_limit(node: EmulatedNode, host_limits: HostLimits) -> None:
    host_limits.gpus[node.h100].request_clock_limit(300, node.now_s)
    host_limits.gpus[node.spare].set_power_limit(250)
    host_limits.lower(ClockFloor(900), node.now_s)
    host_limits.lower(PowerFloor(400.0), node.now_s)
    node.wait(0.1)
    assert node.truth(node.h100).clock_lock_mhz == (210, 300)
    assert node.truth(node.spare).power_limit_w == 250


def test_a_floor_passes_over_a_gpu_without_that_knob(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    host_limits.gpus[node.p40].set_power_limit(200)
    host_limits.gpus[node.h100].request_clock_limit(1500, node.now_s)
    host_limits.lower(ClockFloor(300), node.now_s)
    node.wait(0.1)
    assert node.truth(node.h100).clock_lock_mhz == (210, 300)
    assert "no clock limit" in (host_limits.gpus[node.p40].fault or "")


def test_a_new_keeper_undoes_what_its_predecessor_left(node: EmulatedNode, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        before = HostLimits(open_gpus(), file)
        before.gpus[node.h100].request_clock_limit(900, node.now_s)
        before.gpus[node.spare].set_power_limit(300)
    with owned_lease_file(path) as file:
        HostLimits(open_gpus(), file).undo(node.now_s)
    node.wait(0.1)
    assert node.truth(node.h100).clock_lock_mhz is None
    assert node.truth(node.spare).power_limit_w == 700
    assert read_lease_file(path) == ()


def test_one_command_undoes_the_lease_file_of_a_dead_agent(
    node: EmulatedNode, tmp_path: Path
) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        HostLimits(open_gpus(), file).gpus[node.h100].request_clock_limit(900, node.now_s)
        with pytest.raises(AgentError, match="a running agent owns it"):
            undo_lease(path)
    assert undo_lease(path) == ()
    node.wait(0.1)
    assert node.truth().clock_lock_mhz is None


def test_a_gpu_that_cannot_be_opened_keeps_no_other_from_being_undone(
    node: EmulatedNode, tmp_path: Path
) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        host_limits = HostLimits(open_gpus(), file)
        for index in (node.h100, node.spare):
            host_limits.gpus[index].request_clock_limit(900, node.now_s)
    unknown = pynvml.NVML_ERROR_UNKNOWN
    node.emulator.inject("nvmlDeviceGetHandleByIndex", error=unknown, index=node.h100)
    assert [limits.uuid for limits in undo_lease(path)] == [host_limits.gpus[node.h100].held.uuid]
    node.wait(0.1)
    assert node.truth(node.spare).clock_lock_mhz is None
    assert [limits.clock_mhz for limits in read_lease_file(path)] == [900]


def test_limits_of_a_gpu_that_is_not_there_stay_in_the_file(
    node: EmulatedNode, tmp_path: Path
) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        file.write((HeldLimits("GPU-elsewhere", clock_mhz=900),))
    assert undo_lease(path) == (HeldLimits("GPU-elsewhere", clock_mhz=900),)
    assert json.loads(path.read_text())["gpus"][0]["uuid"] == "GPU-elsewhere"


def test_an_unknown_gpu_is_named_with_those_there_are(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    with pytest.raises(AgentError, match="asked for GPU GPU-x, found GPU-"):
        host_limits.gpu("GPU-x")
