"""The Ray cluster: start or join one, place replicas on its nodes, call its actors, leave it."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from steppe.errors import ConfigError, ReplicaError, StartError, UsageError
from steppe.fleet.head import allow_own_head, start_head
from steppe.fleet.orphan_processes import (
    Process,
    end_orphan_processes,
    has_title,
    kill_processes,
    processes_of,
    program_of,
)

_log = logging.getLogger(__name__)

LOCAL = "local"
NAMESPACE = "steppe"
"""Namespace of the names of all actors."""
LOOPBACK = "127.0.0.1"
# A dashboard would cost 150 MB and a tenth of a core. Ray's workers have niceness 15 by default,
# and an engine would wait behind whatever else runs on the machine, its clients included.
# A driver that has lost its GCS ends its run itself, see `ClusterWatch`; Ray would end it before.
SYSTEM_CONFIG = {"worker_niceness": 0, "gcs_rpc_server_reconnect_timeout_s": 600}
SHUTDOWN_S = 5.0
"""How long the processes of our own cluster may take to end once it is shut down, s."""
LAST_EVENTS_S = 1.0
"""How long the gateway of a lost cluster may send the last events of its streams, s."""
_GATEWAY = "ray::GatewayActor"
LONGEST_SHUTDOWN_S = 10.0
"""How long Ray may take to shut a cluster of our own down, s; then its processes are killed."""
PROBE_S = 5.0
"""Longest wait for a TCP connection to a cluster, s: Ray itself would retry for ten minutes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One node of the cluster as Ray reports it.

    Attributes:
        id: Ray's id of the node.
        address: Address at which other nodes reach it.
        gpus: GPUs that Ray counts there: those of `--num-gpus`, in use or not.
    """

    id: str
    address: str
    gpus: int


def connect(
    address: str, gcs_storage: Mapping[str, Any] | None = None, *, outlives_driver: bool = False
) -> None:
    """Start a cluster for this run, or join a running one; a failed attempt is repeated once.

    Args:
        address: `local`, or where a running one is.
        gcs_storage: Where the GCS of a cluster for this run keeps its tables, as settings of Ray;
            None for its own memory.
        outlives_driver: Whether a cluster for this run goes on when this process dies.

    Raises:
        UsageError: `address` is malformed, or the cluster requires another token.
        StartError: Ray did not start, or no cluster answers at `address`.
    """
    sigterm = signal.getsignal(signal.SIGTERM)
    own = {**SYSTEM_CONFIG, **(gcs_storage or {})}
    try:
        _init(address, own, outlives_driver)
    except StartError as error:
        _log.warning("%s; trying once more", error)
        _init(address, own, outlives_driver)
    finally:
        signal.signal(signal.SIGTERM, sigterm)  # Ray's own handler ends the process on the spot
    logging.getLogger("ray").setLevel(logging.ERROR)


def connect_again(address: str, *, own: bool) -> None:
    """Connect to the cluster of a run whose driver has died.

    Args:
        address: Where its GCS listens, `host:port`.
        own: Whether the cluster was started for the run.

    Raises:
        StartError: It does not answer.
    """
    if own:
        allow_own_head()
    connect(address)


def _init(address: str, system_config: Mapping[str, Any], outlives_driver: bool) -> None:
    own: dict[str, Any] = {}
    if address != LOCAL:
        _probe(address)
    elif not outlives_driver:
        own = {"include_dashboard": False, "_system_config": dict(system_config)}
    try:
        if address == LOCAL and outlives_driver:
            address = start_head(system_config)
        # At ERROR, Ray would log the traceback of what it raises as well.
        ray.init(
            address=address,
            namespace=NAMESPACE,
            logging_level="CRITICAL",
            log_to_driver=False,
            **own,
        )
    except ray.exceptions.AuthenticationError as error:
        raise UsageError(f"ray.address: {address!r} requires another token: {error}") from error
    except Exception as error:
        folder = _end_failed_session()
        logs = f"; see {folder / 'logs'}" if folder is not None else ""
        if address == LOCAL:
            raise StartError(f"Ray did not start: {error_line(error)}{logs}") from error
        asked = f"ray.address: asked for the cluster {address!r} with a node on this host"
        raise StartError(f"{asked}, found {error_line(error)}{logs}") from error


def _probe(address: str) -> None:
    """Check that a server listens at `host:port`; other forms of an address are left to Ray."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartError(
            f"ray.address: asked for the cluster {address!r}, found none: {why}"
        ) from error


def _end_failed_session() -> Path | None:
    """End what a failed start left running; return its session folder, None if it made none."""
    ray.shutdown()
    root = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    # Ray ends the name of a session with the process id of the driver that started it.
    sessions = sorted(root.glob(f"session_*_{os.getpid()}"))
    if not sessions:
        return None
    end_orphan_processes(sessions[-1].name, frozenset(), wait_s=0.0)
    return sessions[-1]


def leave_lost(processes: frozenset[Process], wait_s: float = SHUTDOWN_S) -> None:
    """Leave a cluster that is lost; what is left of one that was started for this run is killed.

    The gateway goes last: with its replicas gone, it ends every open stream with an error event. So
    does the raylet, with which all actors would end. Ray's own shutdown may wait for servers that
    are dead, so it gets limited time.

    Args:
        processes: The processes that this run has started.
        wait_s: Longest time of Ray's shutdown, s.
    """
    gateways = frozenset(process for process in processes if has_title(process, _GATEWAY))
    raylets = frozenset(process for process in processes if program_of(process) == "raylet")
    kill_processes(processes - gateways - raylets)
    if gateways:
        time.sleep(LAST_EVENTS_S)
    kill_processes(gateways | raylets)
    leaving = threading.Thread(target=ray.shutdown, daemon=True, name="ray-shutdown")
    leaving.start()
    leaving.join(wait_s)


def leave(
    address: str, wait_s: float = SHUTDOWN_S, servers: frozenset[Process] = frozenset()
) -> None:
    """Leave the cluster; one that was started for this run ends, with all its processes here.

    Args:
        address: The address that `connect` got.
        servers: Servers of the cluster that Ray does not know to end.
        wait_s: How long these processes may take, s; later they are killed.
    """
    if address != LOCAL:
        ray.shutdown()
        return
    session: str = ray.get_runtime_context().get_session_name()
    known = processes_of(session)
    # A raylet that is stopped would let the shutdown wait for ever.
    timer = threading.Timer(LONGEST_SHUTDOWN_S, kill_processes, (known,))
    timer.start()
    ray.shutdown()
    timer.cancel()
    kill_processes(servers)
    killed = end_orphan_processes(session, known, wait_s)
    if killed:
        _log.warning("killed %d processes that outlived the Ray cluster of this run", killed)


def gpu_machines(local: bool, labels: Mapping[str, str] | None = None) -> list[Machine]:
    """Return the nodes that are alive, have GPUs and all these labels, in a fixed order."""
    wanted = (labels or {}).items()
    found = [
        Machine(node["NodeID"], _address(node, local), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"] and wanted <= node.get("Labels", {}).items()
    ]
    return sorted((m for m in found if m.gpus), key=lambda machine: machine.id)


def _address(node: Mapping[str, Any], local: bool) -> str:
    return LOOPBACK if local else str(node["NodeManagerAddress"])


def gateway_machines(labels: Mapping[str, str]) -> list[Machine]:
    """Return the nodes of a run that may have a gateway: this one, and those with GPUs."""
    own = local_node_id()
    here = [
        Machine(node["NodeID"], str(node["NodeManagerAddress"]), 0)
        for node in ray.nodes()
        if node["NodeID"] == own
    ]
    return here + [m for m in gpu_machines(local=False, labels=labels) if m.id != own]


def refuse_unmatched_labels(labels: Mapping[str, str]) -> None:
    """Refuse a cluster none of whose GPU nodes has all these labels.

    Raises:
        ConfigError: There is none; the message lists the nodes with their labels.
    """
    if not labels or gpu_machines(local=False, labels=labels):
        return
    found = [
        f"{node['NodeManagerAddress']} ({_pairs(node.get('Labels', {}))})"
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU", 0) >= 1
    ]
    asked = f"fleet.node_labels: asked for GPU nodes with {_pairs(labels)}"
    raise ConfigError(f"{asked}, found {', '.join(sorted(found)) or 'no GPU node'}")


def _pairs(labels: Mapping[str, str]) -> str:
    """Return labels as text; those that Ray gives every node are left out."""
    own = {name: value for name, value in labels.items() if not name.startswith("ray.io/")}
    return ", ".join(f"{name}={value}" for name, value in sorted(own.items())) or "no labels"


def free_gpus() -> dict[str, int]:
    """Return how many whole GPUs no actor or task of the cluster holds, by Ray's id of the node."""
    available: dict[str, dict[str, float]] = available_resources_per_node()
    return {node_id: int(resources.get("GPU", 0)) for node_id, resources in available.items()}


def share_of_cores(cores: tuple[int, ...], place: int, places: int) -> tuple[int, ...]:
    """Return the cores of one of several engines on a machine; at least one."""
    each = max(1, len(cores) // places)
    first = (place * each) % len(cores)
    return cores[first : first + each]


def on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Return the strategy that keeps an actor on a node."""
    return NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)


def local_node_id() -> str:
    """Return Ray's id of the node that this process runs on."""
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id


def session_logs() -> Path | None:
    """Return where Ray writes the logs of this cluster's actors; None without a cluster here."""
    if not ray.is_initialized():
        return None
    root = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    logs = root / ray.get_runtime_context().get_session_name() / "logs"
    return logs if logs.is_dir() else None


def error_line(error: BaseException) -> str:
    """Return in one line why Ray or a call to an actor failed, without Ray's text around it."""
    match error:
        case ray.exceptions.RayTaskError():
            return error_line(error.cause)
        case ray.exceptions.RayActorError(actor_init_failed=True):
            # The text of an actor that failed in its constructor ends with the cause.
            line = str(error).strip().splitlines()[-1]
            return re.sub(r"^steppe\.errors\.\w+: ", "", line)
        case _:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return lines[0]


def call_result(call: Any, name: str, timeout_s: float) -> Any:
    """Wait for the result of a call to an actor.

    Args:
        call: What `remote` returned.
        name: The actor, for the message.
        timeout_s: Longest wait, s.

    Raises:
        UsageError: The call failed with this error.
        ReplicaError: The call failed otherwise, the actor died, or there was no result in time.
    """
    try:
        return ray.get(call, timeout=timeout_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise type(error.cause)(str(error.cause)) from error
        cause = str(error.cause) or type(error.cause).__name__
        raise ReplicaError(f"{name}: {cause}") from error
    except ray.exceptions.RayError as error:  # GetTimeoutError is one
        raise ReplicaError(f"{name}: {error_line(error)}") from error
