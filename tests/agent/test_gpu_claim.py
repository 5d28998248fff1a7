from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent import gpu_claim
from steppe.agent.gpu_claim import GpuClaim
from steppe.agent.host_limits import HostLimits, undo_lease
from steppe.agent.lease_file import owned_lease_file
from steppe.device.nvml import open_gpus
from steppe.emulator.environment import STATE_VARIABLE
from steppe.errors import NotSupportedError, TransientDeviceError


class Agents:
    """Two agents of one node, each with a lease file of its own; the first of them may die."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.file = folder / "first.json"
        self._life = ExitStack()
        self.first = self._keeper(self.file, self._life)
        self.second = self._keeper(folder / "second.json", stack)
        stack.enter_context(self._life)

    def kill_first(self) -> None:
        self._life.close()

    def _keeper(self, file: Path, stack: ExitStack) -> HostLimits:
        return HostLimits(open_gpus(), stack.enter_context(owned_lease_file(file)))


@pytest.fixture
def agents(node: EmulatedNode, tmp_path: Path) -> Iterator[Agents]:
    with ExitStack() as stack:
        yield Agents(tmp_path, stack)


def test_a_gpu_has_the_limits_of_one_agent_at_a_time(node: EmulatedNode, agents: Agents) -> None:
    first, second = agents.first.gpus[node.h100], agents.second.gpus[node.h100]
    first.request_clock_limit(600, node.now_s)
    first.set_power_limit(300.0)
    with pytest.raises(TransientDeviceError, match=r"^GPU-.*: another agent limits it$"):
        second.request_clock_limit(1500, node.now_s)
    with pytest.raises(TransientDeviceError, match="another agent"):
        second.set_power_limit(400.0)
    assert agents.second.held == ()
    agents.second.undo(node.now_s)
    agents.second.gpus[node.spare].request_clock_limit(1500, node.now_s)
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 600)
    assert node.truth(node.spare).clock_lock_mhz == (210, 1500)


def test_a_gpu_without_limits_is_there_for_the_next_agent(
    node: EmulatedNode, agents: Agents
) -> None:
    first, second = agents.first.gpus[node.h100], agents.second.gpus[node.h100]
    first.set_power_limit(300.0)
    agents.first.undo(node.now_s)
    second.set_power_limit(400.0)
    agents.second.undo(node.now_s)
    assert node.truth().power_limit_w == 700


def test_a_limit_that_was_refused_keeps_no_other_agent_away(
    node: EmulatedNode, agents: Agents
) -> None:
    unsupported = pynvml.NVML_ERROR_NOT_SUPPORTED
    node.emulator.inject("nvmlDeviceSetGpuLockedClocks", error=unsupported, index=node.h100)
    with pytest.raises(NotSupportedError):
        agents.first.gpus[node.h100].request_clock_limit(600, node.now_s)
    node.emulator.clear_faults()
    assert agents.second.gpus[node.h100].request_clock_limit(900, node.now_s) == 900


def test_what_a_dead_agent_left_is_not_undone_while_another_limits_the_gpu(
    node: EmulatedNode, agents: Agents
) -> None:
    agents.first.gpus[node.h100].request_clock_limit(600, node.now_s)
    agents.kill_first()
    agents.second.gpus[node.h100].request_clock_limit(900, node.now_s)
    assert [limits.clock_mhz for limits in undo_lease(agents.file)] == [600]
    node.wait(0.1)
    assert node.truth().clock_lock_mhz == (210, 900)
    agents.second.undo(node.now_s)
    assert undo_lease(agents.file) == ()


def test_each_emulation_has_gpus_of_its_own(
    node: EmulatedNode, agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = agents.first.gpus[node.h100]
    gpu.request_clock_limit(600, node.now_s)
    claim = GpuClaim(gpu.held.uuid)
    with pytest.raises(TransientDeviceError):
        claim.take()
    (tmp_path / "others").touch()
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "others"))
    claim.take()
    claim.release()


@pytest.mark.parametrize("can_be_written", [True, False])
def test_real_gpus_are_claimed_in_one_file_of_the_host_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_be_written: bool
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    folder = tmp_path / "run"
    if not can_be_written:
        folder.touch()
    monkeypatch.setattr(gpu_claim, "HOST_FILE", folder / "gpus.lock")
    first, second, other = (GpuClaim(uuid) for uuid in ("GPU-a", "GPU-a", "GPU-b"))
    first.take()
    first.take()
    other.take()
    if can_be_written:
        with pytest.raises(TransientDeviceError, match="GPU-a: another agent limits it"):
            second.take()
        first.release()
    second.take()
    for claim in (second, other):
        claim.release()
