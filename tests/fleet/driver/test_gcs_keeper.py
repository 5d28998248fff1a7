from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steppe.errors import ClusterLostError
from steppe.fleet.driver.cluster_watch import ClusterWatch
from steppe.fleet.driver.gcs_keeper import HUNG_S, MOST_STARTS, GcsKeeper, ServerCommand
from steppe.fleet.orphan_processes import Process, kill_processes, process_of


class Servers:
    """Processes that wait for ever, and a clock that a test sets."""

    def __init__(self) -> None:
        self.started: list[Process] = []
        self.now_s = 0.0

    def start(self) -> Process:
        command = (sys.executable, "-c", "import time; time.sleep(600)", "--gcs_server_port=0")
        self.started.append(ServerCommand(command, {}, ("/dev/null", "/dev/null")).start())
        return self.started[-1]

    def keeper(self) -> GcsKeeper:
        return GcsKeeper(self.start(), self.start, clock=lambda: self.now_s)


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    kill_processes(frozenset(made.started))


def wait_for(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_gcs_that_is_alive_is_left_alone(servers: Servers) -> None:
    keeper = servers.keeper()
    keeper.look()
    assert (keeper.restarts, len(servers.started)) == (0, 1)


def test_a_gcs_that_has_died_is_started_again(servers: Servers) -> None:
    keeper = servers.keeper()
    kill_processes(frozenset({keeper.process}))
    keeper.look()
    assert (keeper.restarts, keeper.process) == (1, servers.started[1])
    assert keeper.process.is_alive


def test_a_gcs_that_dies_again_and_again_is_given_up_and_the_cluster_is_lost(
    servers: Servers,
) -> None:
    keeper = servers.keeper()
    watch = ClusterWatch("ours", {}, gcs=keeper, nodes=list)
    for _ in range(MOST_STARTS + 1):
        watch.check()
        kill_processes(frozenset({keeper.process}))
        keeper.look()
    assert keeper.restarts == MOST_STARTS
    with pytest.raises(ClusterLostError, match="GCS on this host has died, and does not come back"):
        watch.check()


def test_a_gcs_that_is_stopped_for_long_is_ended_and_started_again(servers: Servers) -> None:
    keeper = servers.keeper()
    os.kill(keeper.process.number, signal.SIGSTOP)
    wait_for(lambda: keeper.process.is_stopped)
    keeper.look()
    servers.now_s = HUNG_S - 0.1
    keeper.look()
    assert servers.started[0].is_alive
    servers.now_s = HUNG_S
    keeper.look()
    wait_for(lambda: not servers.started[0].is_alive)
    keeper.look()
    assert keeper.restarts == 1


def test_a_thread_starts_it_again_until_the_watch_ends(servers: Servers) -> None:
    keeper = servers.keeper()
    watch = ClusterWatch("ours", {}, gcs=keeper, nodes=list)
    watch.start()
    assert watch.restarted == frozenset()
    kill_processes(frozenset({keeper.process}))
    wait_for(lambda: keeper.restarts == 1)
    watch.stop()
    assert watch.restarted == {servers.started[1]}
    kill_processes(watch.restarted)
    assert keeper.restarts == 1


def test_another_gcs_listens_on_the_port_of_the_one_before_with_its_outputs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)", "--gcs_server_port=0"]
    with (tmp_path / "out").open("wb") as output:
        before = subprocess.Popen(command, stdout=output, stderr=output, env={"RAY_mark": "a=b"})
    wait_for(lambda: b"RAY_mark" in Path(f"/proc/{before.pid}/environ").read_bytes())
    found = ServerCommand.of_gcs(process_of(before.pid), "192.0.2.1:6379")
    before.kill()
    before.wait()
    assert found.command == (*command[:3], "--gcs_server_port=6379")
    assert found.environment["RAY_mark"] == "a=b"
    assert found.outputs == (str(tmp_path / "out"), str(tmp_path / "out"))
