"""The agent and its clients as real processes, on emulated GPUs in real time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.agent.child_process import AgentProcess, start_agent
from steppe.agent.client import AgentClient, ask_status, holdings
from steppe.agent.host_limits import undo_lease
from steppe.agent.lease_file import read_lease_file
from steppe.agent.loss_policy import ClockFloor, Floor, HoldThenFloor, LossPolicy, Restore
from steppe.device.inventory import gpus_table
from steppe.device.nvml import open_gpus
from steppe.errors import AgentError, NoPermissionError

LEASE_S = 3.0
"""Long enough for a controller that renews it on a busy machine."""

# A controller that limits the first GPU, says so, and then lives on.
CONTROLLER = """
import sys, time
from pathlib import Path
from steppe.agent.client import AgentClient
client = AgentClient(Path(sys.argv[1]), float(sys.argv[2]))
uuid = client.status().gpus[0].uuid
client.set_clock_limit(uuid, 900)
client.set_power_limit(uuid, 300.0)
print("set", flush=True)
time.sleep(60)
"""


def wait_until(is_true: Callable[[], bool], within_s: float = 30.0) -> float:
    """Return how long it took."""
    start_s = time.monotonic()
    while not is_true():
        assert time.monotonic() < start_s + within_s, "it never came true"
        time.sleep(0.005)
    return time.monotonic() - start_s


def kill(agent: AgentProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(agent.pid, signal.SIGKILL)


class Site:
    """A node with an agent, and what happens to its first GPU."""

    def __init__(self, node: EmulatedNode, folder: Path) -> None:
        node.emulator.use_virtual_clock(False)
        self.node = node
        self.socket = folder / "agent.sock"
        self.lease_file = folder / "lease.json"
        self.cleanup = contextlib.ExitStack()

    def start(self, loss: LossPolicy) -> AgentProcess:
        agent = start_agent(self.socket, lease_file=self.lease_file, loss=loss, lease_s=LEASE_S)
        self.cleanup.callback(agent.process.wait)
        self.cleanup.callback(kill, agent)
        return agent

    def control(self) -> subprocess.Popen[str]:
        """Start a controller; return when it has limited the GPU."""
        controller = subprocess.Popen(
            [sys.executable, "-c", CONTROLLER, str(self.socket), str(LEASE_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert controller.stdout is not None
        self.cleanup.callback(controller.stdout.close)
        self.cleanup.callback(controller.wait)
        self.cleanup.callback(controller.kill)
        assert controller.stdout.readline() == "set\n"
        wait_until(lambda: self.limits() == (900, 300.0))
        return controller

    def limits(self) -> tuple[int | None, float]:
        truth = self.node.truth()
        lock = truth.clock_lock_mhz
        return None if lock is None else lock[1], truth.power_limit_w


FREE = (None, 700.0)


@pytest.fixture
def site(node: EmulatedNode, tmp_path: Path) -> Iterator[Site]:
    made = Site(node, tmp_path)
    with made.cleanup:
        yield made


def test_a_killed_controller_leaves_no_limit_and_its_agent_leaves(site: Site) -> None:
    agent, controller = site.start(Restore()), site.control()
    controller.kill()
    assert wait_until(lambda: site.limits() == FREE) < LEASE_S / 2, "long before its lease ends"
    wait_until(lambda: agent.process.poll() is not None)
    assert agent.process.returncode == 0
    assert read_lease_file(site.lease_file) == ()


def test_an_agent_whose_parent_was_killed_with_the_controller_still_undoes(site: Site) -> None:
    agent, controller = site.start(Restore()), site.control()
    agent.process.kill()  # as Ray does with the children of an actor that it ends by force
    controller.kill()
    wait_until(lambda: site.limits() == FREE)
    wait_until(lambda: not site.socket.exists())


@pytest.mark.slow
def test_a_hung_controller_loses_its_limits_within_the_lease(site: Site) -> None:
    site.start(Restore())
    controller = site.control()
    time.sleep(2 * LEASE_S)
    assert site.limits() == (900, 300.0), "a live controller keeps its limits"
    controller.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: site.limits() == FREE) < 1.5 * LEASE_S


@pytest.mark.slow
def test_a_restarted_agent_undoes_what_its_predecessor_left(site: Site) -> None:
    agent, controller = site.start(HoldThenFloor(60.0, ClockFloor(210))), site.control()
    controller.send_signal(signal.SIGSTOP)
    kill(agent)
    agent.process.wait()
    assert site.limits() == (900, 300.0), "locks outlive whoever set them"
    site.start(Restore())
    wait_until(lambda: site.limits() == FREE)


def test_with_both_dead_the_lease_file_says_what_is_left_and_one_call_undoes_it(
    site: Site,
) -> None:
    agent, controller = site.start(Restore()), site.control()
    kill(agent)
    controller.kill()
    agent.process.wait()
    controller.wait()  # it inherited what the kernel gives back only when both are gone
    assert site.limits() == (900, 300.0)
    (left,) = read_lease_file(site.lease_file)
    assert (left.clock_mhz, left.power_limit_w, left.power_limit_before_w) == (900, 300.0, 700.0)
    assert undo_lease(site.lease_file) == ()
    wait_until(lambda: site.limits() == FREE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_agent_told_to_stop_undoes_everything(
    site: Site, hears_hangups: None, number: int
) -> None:
    agent = site.start(Floor(ClockFloor(210)))
    site.control()
    agent.process.send_signal(number)
    agent.process.wait()
    wait_until(lambda: site.limits() == FREE)
    assert agent.process.returncode == 0
    assert not site.socket.exists()


@pytest.mark.slow
def test_a_floor_stays_after_the_agent_has_left_and_the_file_says_so(site: Site) -> None:
    agent, controller = site.start(Floor(ClockFloor(210))), site.control()
    controller.kill()
    wait_until(lambda: agent.process.poll() is not None)
    wait_until(lambda: site.limits() == (210, 300.0))
    assert [limits.clock_mhz for limits in read_lease_file(site.lease_file)] == [210]


def test_a_client_sets_reads_and_releases(site: Site) -> None:
    agent = site.start(Restore())
    uuid = open_gpus()[0].uuid
    with AgentClient(site.socket, LEASE_S) as client:
        assert client.set_clock_limit(uuid, 907) == 900
        assert client.set_power_limit(uuid, 300.0) == 300.0
        limits = client.status().gpus[0]
        assert (limits.clock_mhz, limits.power_limit_w, limits.fault) == (900, 300.0, None)
        assert client.status().leases[0].holder_pid == os.getpid()
        wait_until(lambda: client.status().gpus[0].is_confirmed)
        client.reset(uuid)
        wait_until(lambda: site.limits() == FREE)
        client.set_power_limit(uuid, 300.0)
    wait_until(lambda: site.limits() == FREE)
    wait_until(lambda: agent.process.poll() is not None)


@pytest.mark.slow
def test_the_inventory_shows_who_holds_what(site: Site) -> None:
    site.start(Restore())
    gpus = open_gpus()[:1]
    with AgentClient(site.socket, LEASE_S, "fleet a") as client:
        client.set_clock_limit(gpus[0].uuid, 900)
        client.set_power_limit(gpus[0].uuid, 300.0)
        (row,) = gpus_table(gpus, holdings(site.socket))
    assert row.held_by == f"900 MHz, 300 W (fleet a, process {os.getpid()})"


def test_a_refusal_arrives_as_the_error_that_the_agent_met(site: Site) -> None:
    site.start(Restore())
    uuid = open_gpus()[0].uuid
    with AgentClient(site.socket, LEASE_S, "fleet a", (uuid,)) as client:
        with pytest.raises(AgentError, match="asked for GPU GPU-x"):
            client.set_clock_limit("GPU-x", 900)
        assert client.leases_taken == 1
        holder = rf"fleet a \(process {os.getpid()}\) holds its lease"
        with pytest.raises(AgentError, match=holder):
            AgentClient(site.socket, LEASE_S, gpus=(uuid,))
        with (
            AgentClient(site.socket, LEASE_S, "fleet b") as other,
            pytest.raises(AgentError, match=holder),
        ):
            other.set_clock_limit(uuid, 900)
    with pytest.raises(AgentError, match="released"):
        client.status()


@pytest.mark.slow
def test_an_agent_without_privilege_refuses_the_lease(site: Site) -> None:
    site.node.set_privilege(False)
    site.start(Restore())
    with pytest.raises(NoPermissionError, match="Insufficient Permissions"):
        AgentClient(site.socket, LEASE_S)
    assert ask_status(site.socket).leases == ()


@pytest.mark.slow
def test_a_client_takes_the_lease_again_from_a_restarted_agent(site: Site) -> None:
    agent = site.start(Restore())
    with AgentClient(site.socket, LEASE_S) as client:
        uuid = client.status().gpus[0].uuid
        client.set_clock_limit(uuid, 900)
        kill(agent)
        agent.process.wait()
        site.start(Restore())
        wait_until(lambda: client.leases_taken == 2)
        client.set_clock_limit(uuid, 900)
        wait_until(lambda: site.limits()[0] == 900)


@pytest.mark.slow
def test_garbage_is_answered_and_harms_nobody(site: Site) -> None:
    site.start(Restore())
    with AgentClient(site.socket, LEASE_S) as client:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(site.socket))
            stranger.sendall(b"\xff{{{\n")
            assert b"not a request" in stranger.recv(4096)
            stranger.sendall(b"x" * 200_000)
            with contextlib.suppress(ConnectionError):
                while stranger.recv(65536):
                    pass
        assert client.status().leases[0].holder_pid == os.getpid()


@pytest.mark.parametrize("name", ["agent.sock", "other.sock"])
def test_two_agents_do_not_share_a_lease_file(site: Site, name: str) -> None:
    site.start(Restore())
    socket = site.socket.with_name(name)
    with pytest.raises(AgentError, match="a running agent owns it"):
        start_agent(socket, lease_file=site.lease_file, loss=Restore(), lease_s=LEASE_S)


def test_an_agent_outlives_its_parent(site: Site) -> None:
    agent = site.start(Restore())
    with AgentClient(site.socket, LEASE_S):
        agent.process.kill()
        agent.process.wait()
        assert not agent.has_ended
    wait_until(lambda: agent.has_ended)


def test_without_an_agent_the_client_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"agent\.sock: no agent answers"):
        AgentClient(tmp_path / "agent.sock", LEASE_S)


def test_the_agent_explains_itself() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "steppe.agent.server", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "example:" in result.stdout
