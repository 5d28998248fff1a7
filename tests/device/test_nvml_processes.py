from __future__ import annotations

import os

import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device.nvml_processes import compute_processes
from steppe.errors import DeviceLostError


def test_processes_with_a_context_are_told_by_their_pids(node: EmulatedNode) -> None:
    node.open()
    assert compute_processes(node.h100) == frozenset()
    node.emulator.set_context(node.h100, os.getpid(), 1 << 20)
    assert compute_processes(node.h100) == frozenset({os.getpid()})
    assert compute_processes(node.spare) == frozenset()


def test_a_gpu_that_does_not_tell_is_no_error(node: EmulatedNode) -> None:
    node.open()
    node.emulator.inject("nvmlDeviceGetComputeRunningProcesses", error=3)
    assert compute_processes(node.h100) is None


def test_a_lost_gpu_is(node: EmulatedNode) -> None:
    node.open()
    node.emulator.inject("nvmlDeviceGetComputeRunningProcesses", error=15)
    with pytest.raises(DeviceLostError, match="processes of GPU 0"):
        compute_processes(node.h100)
