"""Several Ray nodes on this machine, each with a loopback address and emulated GPUs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scale_processes import session

RAY = {"worker_niceness": 0, "health_check_timeout_ms": 60_000}
PATIENT = {"RAY_raylet_start_wait_time_s": "300"}
START_S, STOP_S, POLL_S = 240.0, 60.0, 0.2


def use_token() -> None:
    """Let the processes that this one starts know a token, which the cluster then asks for."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=uuid.uuid4().hex)


class NodeError(Exception):
    """A Ray node did not start."""


@contextmanager
def ray_nodes(nodes: int, gpus: int) -> Iterator[tuple[str, list[int]]]:
    """Start nodes one after the other, and stop them at the end.

    Args:
        nodes: How many.
        gpus: GPUs of each.

    Yields:
        The address of the cluster, and the process of each node.

    Raises:
        NodeError: One did not start.
    """
    folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets need a short path
    address, started = f"127.0.0.1:{free_port()}", list[subprocess.Popen[bytes]]()
    try:
        for number in range(nodes):
            log = Path(folder) / f"node-{number}.log"
            started.append(_start(number, gpus, address, folder, log))
            _wait(started[-1], log)
        yield address, [node.pid for node in started]
    finally:
        for node in reversed(started):
            _stop(node)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port below those of outgoing connections on which nothing listens."""
    for port in range(21_000, 32_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise NodeError("asked for a free port from 21000 to 31999, found none")


def _start(number: int, gpus: int, address: str, folder: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"]
    command += [f"--num-gpus={gpus}", "--disable-usage-stats"]
    command += [f"--node-ip-address=127.0.0.{number + 1}"]
    if number:
        command += [f"--address={address}"]
    else:
        command += ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
        command += [f"--temp-dir={folder}", f"--system-config={json.dumps(RAY)}"]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=os.environ | PATIENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait(node: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_S
    while "Ray runtime started" not in log.read_text():
        if node.poll() is not None or time.monotonic() > until_s:
            raise NodeError(f"a Ray node did not start: {log.read_text()[-500:]}")
        time.sleep(POLL_S)


def _stop(node: subprocess.Popen[bytes]) -> None:
    node.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.wait(STOP_S)
    for pid in session(node.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.wait(STOP_S)
