"""What the lease file says while limits are set, refused and undone."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.host_limits import HostLimits
from steppe.agent.lease_file import read_lease_file
from steppe.errors import AgentError, NoPermissionError, TransientDeviceError

SET_CLOCK = "nvmlDeviceSetGpuLockedClocks"
DRAFT = "lease.json.draft"
"""A folder of this name keeps the lease file from being written."""


def test_the_record_is_on_disk_before_the_setter_is_called(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = host_limits.gpus[node.h100]
    seen: list[int | None] = []

    def look(clock_mhz: int) -> int:
        seen.extend(limits.clock_mhz for limits in read_lease_file(tmp_path / "lease.json"))
        return clock_mhz

    monkeypatch.setattr(gpu.knobs, "set_clock_limit", look)
    gpu.request_clock_limit(900, node.now_s)
    assert seen == [900]


def test_a_refused_setter_takes_its_record_back(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    gpu = host_limits.gpus[node.h100]
    node.set_privilege(False)
    with pytest.raises(NoPermissionError):
        gpu.request_clock_limit(900, node.now_s)
    assert host_limits.held == ()
    assert "SetGpuLockedClocks" in (gpu.fault or "")


def test_a_setter_that_may_have_worked_keeps_its_record(
    node: EmulatedNode, host_limits: HostLimits
) -> None:
    node.emulator.inject(SET_CLOCK, error=pynvml.NVML_ERROR_TIMEOUT, index=node.h100)
    with pytest.raises(TransientDeviceError):
        host_limits.gpus[node.h100].request_clock_limit(900, node.now_s)
    assert [limits.clock_mhz for limits in host_limits.held] == [900]


def test_a_limit_that_cannot_be_written_down_is_refused_and_not_set(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    (tmp_path / DRAFT).mkdir()
    with pytest.raises(AgentError, match=r"lease\.json: cannot be written: Is a directory"):
        host_limits.gpus[node.h100].request_clock_limit(900, node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz is None
    assert [limits.uuid for limits in host_limits.held] == []
    (tmp_path / DRAFT).rmdir()
    host_limits.gpus[node.h100].request_clock_limit(900, node.now_s)
    assert [limits.clock_mhz for limits in host_limits.held] == [900]


def test_a_waiting_limit_that_cannot_be_written_down_shows_as_a_fault(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    host_limits.undo(node.now_s)
    gpu.request_clock_limit(600, node.now_s)
    (tmp_path / DRAFT).mkdir()
    node.wait(1.1)
    host_limits.apply_due(node.now_s)
    assert "cannot be written" in (gpu.fault or "")
    assert node.truth().clock_lock_mhz is None


def test_a_limit_that_is_on_record_changes_although_it_cannot_be_written_down(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    gpu.set_power_limit(400.0)
    (tmp_path / DRAFT).mkdir()
    node.wait(1.1)
    gpu.request_clock_limit(600, node.now_s)
    gpu.set_power_limit(300.0)
    node.wait(0.1)
    assert (node.truth().clock_lock_mhz, node.truth().power_limit_w) == ((210, 600), 300)
    assert gpu.fault is None
    (left,) = read_lease_file(tmp_path / "lease.json")
    assert (left.clock_mhz, left.power_limit_before_w) == (900, 700), "what an undo needs"
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert (node.truth().clock_lock_mhz, node.truth().power_limit_w) == (None, 700)


def test_a_limit_of_another_kind_than_that_on_record_is_refused(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    (tmp_path / DRAFT).mkdir()
    with pytest.raises(AgentError, match="cannot be written"):
        gpu.set_power_limit(300.0)
    assert (node.truth().power_limit_w, gpu.held.power_limit_w) == (700, None)


def test_undo_goes_on_although_it_cannot_be_written_down(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    host_limits.gpus[node.h100].request_clock_limit(900, node.now_s)
    (tmp_path / DRAFT).mkdir()
    host_limits.undo(node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz is None
    assert [left.clock_mhz for left in read_lease_file(tmp_path / "lease.json")] == [900]


def test_permission_lost_in_mid_run_leaves_exactly_what_the_file_says(
    node: EmulatedNode, host_limits: HostLimits, tmp_path: Path
) -> None:
    gpu = host_limits.gpus[node.h100]
    gpu.request_clock_limit(900, node.now_s)
    node.set_privilege(False)
    node.wait(1.1)
    with pytest.raises(NoPermissionError):
        gpu.request_clock_limit(1500, node.now_s)
    host_limits.undo(node.now_s)
    node.wait(0.1)
    left = read_lease_file(tmp_path / "lease.json")
    assert [limits.clock_mhz for limits in left] == [900]
    assert node.truth().clock_lock_mhz == (210, 900)
