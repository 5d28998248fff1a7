"""The Ray cluster: start or join one, find places for replicas on its nodes, and leave it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from steppe.errors import ReplicaError, UsageError
from steppe.fleet.orphan_processes import end_orphan_processes, processes_of

_log = logging.getLogger(__name__)

LOCAL = "local"
LOOPBACK = "127.0.0.1"
# A dashboard would cost 150 MB and a tenth of a core. Ray's workers have niceness 15 by default,
# and an engine would wait behind whatever else runs on the machine, its clients included.
OWN_CLUSTER = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
PATIENCE_S = 5.0
"""How long the processes of our own cluster may take to end once it is shut down, s."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node of the cluster as Ray sees it.

    Attributes:
        id: Ray's id of the node.
        address: Address at which other nodes reach it.
        gpus: GPUs that Ray counts there.
    """

    id: str
    address: str
    gpus: int


def connect(address: str) -> None:
    """Start a cluster for this run, or join a running one.

    Raises:
        UsageError: There is no cluster at `address`, or it does not let us in.
    """
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    own: dict[str, Any] = OWN_CLUSTER if address == LOCAL else {}
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **own, **quiet)
    except ConnectionError as error:
        raise UsageError(f"ray.address: asked for the cluster {address!r}, found none") from error
    except ray.exceptions.AuthenticationError as error:
        raise UsageError(f"ray.address: {address!r} asks for another token: {error}") from error
    except RuntimeError as error:
        if address == LOCAL:
            raise
        asked = f"asked for a machine that is a node of the cluster {address!r}"
        raise UsageError(f"ray.address: {asked}, found {error_line(error)}") from error
    signal.signal(signal.SIGTERM, ours)  # Ray's own handler ends the process on the spot


def leave(address: str, patience_s: float = PATIENCE_S) -> None:
    """Leave the cluster; one that was started for this run ends, with all its processes here.

    Args:
        address: What was connected to.
        patience_s: How long these processes may take, s; who stays longer is killed.
    """
    if address != LOCAL:
        ray.shutdown()
        return
    session: str = ray.get_runtime_context().get_session_name()
    known = processes_of(session)
    ray.shutdown()
    killed = end_orphan_processes(session, known, patience_s)
    if killed:
        _log.warning("killed what stayed of our Ray cluster after its end, processes: %d", killed)


def machines(local: bool) -> list[Machine]:
    """Return the nodes that live and have GPUs, in a fixed order."""
    found = [
        Machine(
            node["NodeID"],
            LOOPBACK if local else node["NodeManagerAddress"],
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted((m for m in found if m.gpus), key=lambda machine: machine.id)


def spread(
    wanted: int | str, gpus_per_replica: int, free_gpus: Iterable[tuple[Machine, int]]
) -> list[Machine]:
    """Return the machine of each new replica, in turn over the machines with free GPUs.

    Raises:
        ReplicaError: The machines cannot hold as many replicas as were asked for.
    """
    room = {machine: gpus // gpus_per_replica for machine, gpus in free_gpus}
    total = sum(room.values())
    count = total if wanted == "all" else int(wanted)
    if count > total or not count:
        raise ReplicaError(
            f"fleet.replicas: asked for {wanted} with {gpus_per_replica} GPU each, "
            f"found room for {total}"
        )
    places: list[Machine] = []
    while len(places) < count:
        for machine, left in room.items():
            if left and len(places) < count:
                room[machine] = left - 1
                places.append(machine)
    return places


def share_of_cores(cores: tuple[int, ...], place: int, places: int) -> tuple[int, ...]:
    """Return the cores of one of several engines on a machine; at least one."""
    each = max(1, len(cores) // places)
    first = (place * each) % len(cores)
    return cores[first : first + each]


def on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Return the strategy that keeps an actor on a node."""
    return NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)


def here() -> str:
    """Return Ray's id of the node that this process runs on."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def error_line(error: Exception) -> str:
    """Return in one line why a call to an actor failed, without Ray's frame around it."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    lines = str(cause).splitlines() or [type(cause).__name__]
    return lines[0]


def answer(call: Any, who: str, within_s: float) -> Any:
    """Wait for an actor's answer, so long at most.

    Raises:
        ReplicaError: It failed, died or did not answer in time.
    """
    try:
        return ray.get(call, timeout=within_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise type(error.cause)(str(error.cause)) from error
        raise ReplicaError(f"{who}: {error.cause}") from error
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        raise ReplicaError(f"{who}: {error_line(error)}") from error
