"""When an agent that leaves with its holder leaves, and what it has undone by then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent import connection
from steppe.agent.child_process import AgentProcess, start_agent
from steppe.agent.client import AgentClient
from steppe.agent.lease_file import read_lease_file
from steppe.agent.loss_policy import Restore
from steppe.device.nvml import ATTEMPTS, open_gpus
from steppe.errors import AgentError

LEASE_S = 2.0
LEAVE_S = 10.0
SET_CLOCK, RESET_CLOCK = "nvmlDeviceSetGpuLockedClocks", "nvmlDeviceResetGpuLockedClocks"


@pytest.fixture
def agent(node: EmulatedNode, tmp_path: Path) -> Iterator[AgentProcess]:
    node.emulator.use_virtual_clock(False)
    lease_file = tmp_path / "lease.json"
    with start_agent(
        tmp_path / "agent.sock", lease_file=lease_file, loss=Restore(), lease_s=LEASE_S
    ) as started:
        yield started
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGKILL)


def refuse_to_undo(node: EmulatedNode, client: AgentClient, count: int | None = None) -> None:
    """Limit a clock, and have the GPU refuse to give it back."""
    client.set_clock_limit(open_gpus()[node.h100].uuid, 900)
    timeout = pynvml.NVML_ERROR_TIMEOUT
    node.emulator.inject(RESET_CLOCK, error=timeout, index=node.h100, count=count)


def test_an_agent_stays_until_what_a_gpu_refused_in_passing_is_undone(
    node: EmulatedNode, agent: AgentProcess, tmp_path: Path
) -> None:
    client = AgentClient(agent.socket, LEASE_S)
    refuse_to_undo(node, client, ATTEMPTS)
    with pytest.raises(AgentError, match=f"not undone yet: GPU GPU-.*: {RESET_CLOCK}"):
        client.release()
    assert agent.process.wait(LEAVE_S) == 0
    assert node.truth().clock_lock_mhz is None
    assert read_lease_file(tmp_path / "lease.json") == ()


@pytest.mark.slow
def test_an_agent_told_to_stop_says_which_limit_stays(
    node: EmulatedNode, agent: AgentProcess, tmp_path: Path
) -> None:
    client = AgentClient(agent.socket, LEASE_S)
    refuse_to_undo(node, client)
    agent.stop()
    assert agent.process.returncode == 1
    assert "limits could not be undone: GPU GPU-" in (tmp_path / "lease.json.log").read_text()
    assert [left.clock_mhz for left in read_lease_file(tmp_path / "lease.json")] == [900]
    with pytest.raises(AgentError, match="the agent is gone"):
        client.release()


def test_an_agent_that_a_slow_gpu_held_up_stays_for_its_holder_that_calls_again(
    node: EmulatedNode, agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = open_gpus()[node.h100].uuid
    with monkeypatch.context() as impatient:
        impatient.setattr(connection, "ANSWER_S", 0.5)
        client = AgentClient(agent.socket, LEASE_S)
    with client:
        node.emulator.inject(SET_CLOCK, index=node.h100, count=1, delay_s=1.0)
        assert client.set_clock_limit(uuid, 900) == 900
        assert client.leases_taken >= 2, "the agent took longer than the client waits"
    assert agent.process.wait(LEAVE_S) == 0
    assert node.truth().clock_lock_mhz is None
