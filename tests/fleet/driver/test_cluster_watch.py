from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from steppe.errors import ClusterLostError
from steppe.fleet.driver.cluster_watch import SILENT_S, ClusterWatch
from steppe.fleet.orphan_processes import Process, kill_processes, process_of


class Cluster:
    """A cluster whose list of nodes a test sets, and its clock."""

    def __init__(self) -> None:
        self.nodes: Any = [{"NodeID": "ours", "Alive": True}, {"NodeID": "other", "Alive": False}]
        self.now_s = 0.0

    def watch(self, **servers: Process) -> ClusterWatch:
        return ClusterWatch("ours", servers, nodes=self._list, clock=lambda: self.now_s)

    def _list(self) -> Any:
        if isinstance(self.nodes, Exception):
            raise self.nodes
        return self.nodes


def test_a_cluster_whose_nodes_can_be_listed_is_there() -> None:
    cluster = Cluster()
    watch = cluster.watch()
    cluster.now_s = SILENT_S
    watch.look()
    cluster.now_s += SILENT_S
    watch.check()


def test_a_cluster_whose_gcs_is_silent_is_lost_before_ray_ends_the_driver() -> None:
    cluster = Cluster()
    watch = cluster.watch()
    cluster.nodes = RuntimeError("no connection to the GCS")
    cluster.now_s = SILENT_S + 1
    watch.look()
    with pytest.raises(ClusterLostError, match="GCS has not answered for 31 s"):
        watch.check()
    assert SILENT_S < 60


def test_a_cluster_that_counts_our_node_as_dead_is_lost() -> None:
    cluster = Cluster()
    watch = cluster.watch()
    cluster.nodes = [{"NodeID": "ours", "Alive": False}]
    watch.look()
    with pytest.raises(ClusterLostError, match="node of this host as dead"):
        watch.check()


def test_a_server_of_ray_that_dies_is_noticed_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        process = process_of(server.pid)
        watch = Cluster().watch(raylet=process)
        watch.check()
        kill_processes(frozenset({process}))
        with pytest.raises(ClusterLostError, match="raylet on this host has died"):
            watch.check()


def test_a_server_of_ray_that_is_stopped_for_good_is_a_lost_cluster_and_a_pause_is_not() -> None:
    cluster = Cluster()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        process = process_of(server.pid)
        watch = cluster.watch(raylet=process)
        for is_stopped in (True, False, True):
            os.kill(server.pid, signal.SIGSTOP if is_stopped else signal.SIGCONT)
            while process.is_stopped != is_stopped:
                time.sleep(0.01)
            watch.look()
            watch.check()
            cluster.now_s += SILENT_S - 1
            watch.look()
            watch.check()
        cluster.now_s += 2
        watch.look()
        with pytest.raises(ClusterLostError, match="raylet on this host is stopped for 31 s"):
            watch.check()
        kill_processes(frozenset({process}))
