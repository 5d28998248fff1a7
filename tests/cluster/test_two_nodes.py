"""One fleet on a Ray cluster of two nodes, one of which is lost and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serving import (
    START_S,
    Load,
    Serving,
    assert_books_balance,
    free_port,
    wait_until,
)

from steppe.fleet.stale_runs import state_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

# Ray reports a lost node after 5 missed checks, 3 s apart; this test need not wait so long. Nor
# need its replicas wait behind other processes.
RAY = {
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
    "worker_niceness": 0,
}

REPLICA = "ray::Replica"


@dataclass
class RayCluster:
    """Ray nodes on this machine, each with a loopback address and one GPU of its own."""

    folder: str
    address: str
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self) -> subprocess.Popen[bytes]:
        """Start a node in a session of its own; the first is the head."""
        port = self.address.rpartition(":")[2]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += ["--num-cpus=2", "--num-gpus=1", "--disable-usage-stats"]
        command += [f"--node-ip-address=127.0.0.{len(self.nodes) + 1}"]
        if self.nodes:
            command += [f"--address={self.address}"]
        else:
            command += ["--head", f"--port={port}", "--include-dashboard=false"]
            command += [f"--temp-dir={self.folder}", f"--system-config={json.dumps(RAY)}"]
        with self.log(len(self.nodes)).open("wb") as log:
            node = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.nodes.append(node)
        return node

    def log(self, number: int) -> Path:
        return Path(self.folder) / f"node-{number}.log"

    def has_joined(self, number: int) -> bool:
        text = self.log(number).read_text()
        assert self.nodes[number].poll() is None, text
        return "Ray runtime started" in text

    def pids(self, node: subprocess.Popen[bytes], *words: str) -> list[int]:
        """Return the processes of a node with any of these words in their command line."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                session = (process / "stat").read_text().rpartition(")")[2].split()[3]
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if int(session) == node.pid and any(some in command for some in words):
                    found.append(int(process.name))
        return found

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.terminate()
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(START_S)
            for pid in self.pids(node, ""):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait(START_S)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    # Not below pytest's folder: Ray's sockets need a short path.
    made = RayCluster(tempfile.mkdtemp(prefix="ray-"), f"127.0.0.1:{free_port()}")
    try:
        for number in range(2):
            made.add()
            wait_until(partial(made.has_joined, number), f"node {number}", START_S)
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


def node_files() -> set[str]:
    """Return the state files of the emulated GPUs of nodes."""
    return {path.name for path in state_folder().glob("steppe-gpus-node-*")}


def test_a_fleet_on_two_nodes_survives_the_loss_of_one_and_uses_a_new_one(
    cluster: RayCluster,
    serve: Callable[..., Serving],
    one_gpu: dict[str, Any],
    synthetic: dict[str, Any],
) -> None:
    files_before = node_files()
    fleet = serve(device=one_gpu["device"], ray={"address": cluster.address}, **synthetic)
    fleet.wait_for_words("opening the GPUs of 2 nodes")
    fleet.wait_for_words("running")
    wait_until(fleet.has_ticks, "a tick")
    assert len(node_files() - files_before) == 2, "each node has GPUs of its own"
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for(24)
        assert load.replicas(last=12) == {"replica-1", "replica-2"}
        (raylet,) = cluster.pids(cluster.nodes[1], "raylet/raylet")
        assert len(cluster.pids(cluster.nodes[1], REPLICA)) == 1
        os.kill(raylet, signal.SIGKILL)
        wait_until(lambda: not cluster.pids(cluster.nodes[1], REPLICA), "its replica ends")
        lost_epoch_s = time.time()
        load.wait_for(12)
        fleet.wait_for_states("awake")
        cluster.add()
        wait_until(lambda: cluster.has_joined(2), "the third node", START_S)
        fleet.wait_for_states("awake", "awake")
        load.wait_for(24)
        assert load.replicas(last=24) == {"replica-1", "replica-2"}
    assert all(a.tokens > 0 for a in load.failed), load.failed
    assert all(a.sent_epoch_s < lost_epoch_s for a in load.failed), (lost_epoch_s, load.failed)

    assert fleet.end(signal.SIGINT) == 0
    wait_until(lambda: not fleet.alive(), "no process of the run is left")
    wait_until(
        lambda: not any(cluster.pids(node, REPLICA) for node in cluster.nodes), "no replica is left"
    )
    assert fleet.files() == []
    assert node_files() <= files_before
    assert_books_balance(fleet)
