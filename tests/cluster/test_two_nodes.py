"""One fleet on a Ray cluster of two nodes, one of which is lost and replaced."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.ray_cluster import RayCluster, ray_cluster
from tests.fixtures.serving import (
    START_S,
    Load,
    Serving,
    assert_books_balance,
    wait_until,
)

from steppe.fleet.stale_runs import state_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

REPLICA = "ray::Replica"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    with ray_cluster(2) as made:
        yield made


def gpu_files(cluster: RayCluster) -> set[Path]:
    """Return the state files of emulated GPUs that the processes of a cluster use."""
    every = state_folder().glob("steppe-gpus-node-*")  # other clusters on this machine have some
    pids = [pid for node in cluster.nodes for pid in cluster.pids(node, "")]
    return {file for file in every if any(maps(pid, file) for pid in pids)}


def maps(pid: int, file: Path) -> bool:
    """Return whether a process has a file in its memory; one that has ended has none."""
    try:
        return str(file) in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def test_a_fleet_on_two_nodes_survives_the_loss_of_one_and_uses_a_new_one(
    cluster: RayCluster,
    serve: Callable[..., Serving],
    one_gpu: dict[str, Any],
    synthetic: dict[str, Any],
) -> None:
    fleet = serve(device=one_gpu["device"], ray={"address": cluster.address}, **synthetic)
    fleet.wait_for_words("opening the GPUs of 2 nodes")
    fleet.wait_for_words("running")
    fleet.last_tick()
    files = gpu_files(cluster)
    assert len(files) == 2, "each node has GPUs of its own"
    with Load(fleet, 12) as load:
        fleet.wait_for_states("awake", "awake")
        load.wait_for_replicas("replica-1", "replica-2")
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
        load.wait_for_replicas("replica-1", "replica-2")
        files |= gpu_files(cluster)
    assert all(a.tokens > 0 for a in load.failed), load.failed
    assert all(a.sent_epoch_s < lost_epoch_s for a in load.failed), (lost_epoch_s, load.failed)

    assert fleet.end(signal.SIGINT) == 0
    wait_until(lambda: not fleet.alive(), "no process of the run is left")
    wait_until(
        lambda: not any(cluster.pids(node, REPLICA) for node in cluster.nodes), "no replica is left"
    )
    assert fleet.files() == []
    assert [file for file in files if file.exists()] == []
    assert_books_balance(fleet)
