"""Notices that the Ray cluster of a run is lost.

Ray ends a driver that has lost its GCS for a minute, without a word, and a driver whose own raylet
is dead can call no actor any more, while the actors live on. In both cases the run cannot be
controlled and has to end, with its books closed, while that is still possible.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from steppe.errors import ClusterLostError
from steppe.fleet.cluster import local_node_id
from steppe.fleet.driver.gcs_keeper import GcsKeeper, ServerCommand
from steppe.fleet.orphan_processes import Process, processes_of, program_of

LOOK_S = 1.0
"""Time between two looks at the cluster, s."""
SILENT_S = 30.0
"""A cluster that does not list its nodes for so long, or one of whose servers is stopped for so
long, is lost, s. Ray itself gives up on its GCS after 60 s, and on a raylet that is stopped after
more than a minute."""
GCS = "GCS"
SERVERS = {"raylet": "raylet", "gcs_server": GCS}
"""Ray's own servers, by the name of their program."""

_log = logging.getLogger(__name__)


class ClusterWatch:
    """Looks at the cluster from a thread of its own, because Ray's calls may block."""

    def __init__(
        self,
        node_id: str,
        servers: Mapping[str, Process],
        session: str = "",
        *,
        gcs: GcsKeeper | None = None,
        nodes: Callable[[], Sequence[Mapping[str, Any]]] = ray.nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` starts the thread.

        Args:
            node_id: Ray's id of the node of this process.
            servers: Ray's servers that this run has started, by name; none in a cluster that it
                has joined.
            session: Ray's name of the session that this run has started; empty for a joined one.
            gcs: Starts the GCS again; None if the run ends with it.
            nodes: Lists the nodes of the cluster.
            clock: Returns monotonic time, s.
        """
        self._node_id, self._servers, self._gcs = node_id, servers, gcs
        self._begun = processes_of(session) if session else frozenset[Process]()
        self._session, self._nodes, self._clock = session, nodes, clock
        self._listed_s = clock()
        self._stopped_s: dict[str, float] = {}  # since when servers are stopped
        self._is_dead = False
        self._stop = threading.Event()

    @classmethod
    def of_session(cls, *, own: bool, restart_gcs: bool = False) -> ClusterWatch:
        """Return the watch of the cluster that this process is connected to.

        Args:
            own: Whether the cluster was started for this run.
            restart_gcs: Whether its GCS keeps its tables, and is started again when it dies.
        """
        session: str = ray.get_runtime_context().get_session_name()
        found = processes_of(session) if own else frozenset[Process]()
        programs = {process: program_of(process) for process in found}
        servers = {SERVERS[name]: p for p, name in programs.items() if name in SERVERS}
        gcs = _keeper(servers.pop(GCS)) if restart_gcs and GCS in servers else None
        return cls(local_node_id(), servers, session if own else "", gcs=gcs)

    def processes(self) -> frozenset[Process]:
        """Return the processes of the cluster that this run has started; some may have ended.

        Ray's own agents are known by their parent only, while that is alive.
        """
        return self._begun | processes_of(self._session) if self._session else frozenset()

    def start(self) -> None:
        """Look from now on."""
        if self._gcs is not None:
            self._gcs.start()
        self._listed_s = self._clock()
        threading.Thread(target=self._look_on, daemon=True, name="cluster-watch").start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._gcs is not None:
            self._gcs.stop()

    @property
    def restarted(self) -> frozenset[Process]:
        """The GCS if it was started again: Ray does not know to end it."""
        if self._gcs is None or not self._gcs.restarts:
            return frozenset()
        return frozenset({self._gcs.process})

    def check(self) -> None:
        """Return if the cluster is there, as far as is known.

        Raises:
            ClusterLostError: It is not.
        """
        for name, process in self._servers.items():
            if not process.is_alive:
                raise ClusterLostError(f"Ray's {name} on this host has died")
            if (stopped_s := self._stopped_for_s(name, process)) > SILENT_S:
                raise ClusterLostError(
                    f"Ray's {name} on this host is stopped for {stopped_s:.0f} s"
                )
        if self._gcs is not None and self._gcs.has_given_up:
            raise ClusterLostError("Ray's GCS on this host has died, and does not come back")
        if self._is_dead:
            raise ClusterLostError("Ray counts the node of this host as dead")
        silent_s = self._clock() - self._listed_s
        if silent_s > SILENT_S:
            raise ClusterLostError(f"Ray's GCS has not answered for {silent_s:.0f} s")

    def look(self) -> None:
        """List the nodes once."""
        try:
            nodes = self._nodes()
        except Exception as error:  # noqa: BLE001 - Ray raises what its C++ part happens to raise
            _log.info("the nodes of the cluster cannot be listed: %s", error)
            return
        self._listed_s = self._clock()
        own = [node for node in nodes if node["NodeID"] == self._node_id]
        self._is_dead = bool(own) and not any(node["Alive"] for node in own)

    def _stopped_for_s(self, name: str, process: Process) -> float:
        """Return for how long a server has been stopped, as far as `check` has seen, s."""
        if not process.is_stopped:
            self._stopped_s.pop(name, None)
            return 0.0
        now_s = self._clock()
        return now_s - self._stopped_s.setdefault(name, now_s)

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()


def _keeper(process: Process) -> GcsKeeper:
    address: str = ray.get_runtime_context().gcs_address
    return GcsKeeper(process, ServerCommand.of_gcs(process, address).start)
