"""A node beside the agent of its host, as real processes on emulated GPUs in real time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.agent.client import ask_status
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.environment import emulated_environment
from steppe.emulator.library import Emulator
from steppe.errors import AgentError
from steppe.fleet.node.clock_limits import ClockLimits

LEASE_S = 5.0


class Host:
    """A host with one GPU and an agent that goes down to 300 MHz when its lease ends."""

    def __init__(self, folder: Path) -> None:
        self.emulator = Emulator.attach(build_library(), folder / "gpus", "h100x1")
        (self.gpu,) = open_gpus()
        self.socket, self.run = folder / "agent.sock", folder / "run"
        self.run.mkdir()
        command = [sys.executable, "-m", "steppe.agent.server", "--socket", str(self.socket)]
        command += ["--lease-file", str(folder / "lease.json"), "--loss", "floor=300MHz"]
        self.agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def wait(self, is_true: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 10.0
        while not is_true():
            assert time.monotonic() < end_s, "it never came true"
            time.sleep(0.005)

    def answers(self) -> bool:
        with contextlib.suppress(AgentError):
            return ask_status(self.socket).loss == "floor=300MHz"
        return False

    def limit_mhz(self) -> int | None:
        lock = self.emulator.snapshot(0).clock_lock_mhz
        return None if lock is None else lock[1]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name, value in emulated_environment("h100", 1, tmp_path / "gpus").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    made = Host(tmp_path)
    try:
        made.wait(made.answers)
        monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "0")
        yield made
    finally:
        made.agent.terminate()
        made.agent.wait()
        with contextlib.suppress(pynvml.NVMLError):
            while True:
                pynvml.nvmlShutdown()


def test_a_node_without_privilege_limits_clocks_through_the_agent_of_its_host(host: Host) -> None:
    limits = ClockLimits(host.run, LEASE_S, host.socket)
    assert limits.set(host.gpu.uuid, 907) == 900
    host.wait(lambda: host.limit_mhz() == 900)
    limits.close()
    host.wait(lambda: host.limit_mhz() is None)
    assert (list(host.run.iterdir()), host.agent.poll()) == ([], None)


def test_the_loss_policy_applies_to_the_gpus_of_a_dead_node(host: Host) -> None:
    limits = ClockLimits(host.run, LEASE_S, host.socket)
    limits.set(host.gpu.uuid, 907)
    assert limits._client is not None
    limits._client._is_closed.set()
    limits._client._line.close()  # as the kernel does with a dead process
    host.wait(lambda: host.limit_mhz() == 300)


def test_a_node_without_an_agent_on_its_host_starts_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    limits = ClockLimits(host.run, LEASE_S, host.run / "missing.sock")
    assert limits.set(host.gpu.uuid, 907) == 900
    assert (host.run / "lease.json").exists()
    limits.close()
    host.wait(lambda: host.limit_mhz() is None)
