"""A live fleet of synthetic replicas on several Ray nodes of one machine.

`steppe serve` runs with its record; each replica is a process of its own, as in production, with
an engine that computes nothing. The GPUs are emulated. What is measured: how long the controller
works on a tick, when it ticks, how long until every replica has served, and memory by process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from scale_figures import spread
from scale_nodes import free_port, ray_nodes, use_token
from scale_processes import cpu_s, free_bytes, memory_bytes, session
from steppe.config import RunConfig
from steppe.frontier.file import write_frontier
from steppe.report.record_folder import RECORD_FILE, read_ticks
from steppe.report.records import TickRecord
from steppe.run.simulated_fleet import frontier_for, simulated_fleet

MODEL, MOST_GPUS = "scale", 16
SERVED = frozenset({"awake", "asleep", "draining"})
LEAST_FREE_BYTES = 2 << 30
"""The start is given up when the machine has less memory left, bytes."""
PARTS = {
    "ray::Controller": "controller",
    "ray::GatewayActor": "gateway",
    "ray::ReplicaActor": "replica",
    "ray::Node": "node actor",
    "raylet": "raylet",
    "gcs_server": "GCS",
    "steppe": "driver",
    "ray::": "other Ray workers",
    "agent": "Ray agents",
}
"""Part of a title, and what that process is; the first that fits counts."""


def config_of(replicas: int, gpus: int, address: str) -> dict[str, Any]:
    """Return the run, with power for all; the frontier is to be added."""
    return {
        "model": {"name": MODEL},
        "engine": {"kind": "synthetic", "max_batch_limit": 64},
        "fleet": {"replicas": replicas, "wait_s": 1.0},
        "device": {"kind": "emulated", "profile": "h100", "count": gpus},
        "power": {"supply": [{"kind": "constant", "watts": 800 * replicas}]},
        "frontier": {"sweep": {}},
        "gateway": {"port": free_port()},
        "ray": {"address": address},
    }


def write_config(replicas: int, gpus: int, address: str, folder: Path) -> Path:
    """Write the configuration with its modelled frontier, and return its path."""
    made = config_of(replicas, gpus, address)
    config = RunConfig.model_validate(made)
    frontier = folder / "frontier.yaml"
    write_frontier(frontier_for(config, simulated_fleet(config).kind), frontier)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(made | {"frontier": {"file": str(frontier)}}))
    return path


def all_served_s(ticks: Iterable[TickRecord], replicas: int) -> float | None:
    """Return when every replica had served, s since the run began; None if one has not."""
    served: set[str] = set()
    for tick in ticks:
        served |= {replica.id for replica in tick.replicas if replica.state in SERVED}
        if len(served) >= replicas:
            return tick.t_s
    return None


def part_of(title: str) -> str | None:
    """Return what a process with this title is; None for others."""
    return next((name for mark, name in PARTS.items() if mark in title), None)


def memory_by_part(titles: dict[int, str]) -> dict[str, dict[str, float]]:
    """Return number and memory of the processes of each part, bytes."""
    found: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"processes": 0, "bytes": 0})
    for pid, title in titles.items():
        part = part_of(title)
        if part is not None:
            try:
                found[part]["bytes"] += memory_bytes(pid)
            except OSError:  # it has ended
                continue
            found[part]["processes"] += 1
    return dict(found)


def measure(replicas: int, start_s: float, seconds: float) -> dict[str, Any]:
    """Return the row of one size.

    Args:
        replicas: How many.
        start_s: Longest time for all replicas to start, s.
        seconds: How long to measure afterwards, s.
    """
    use_token()
    nodes = max(2, -(-replicas // MOST_GPUS))
    gpus = -(-replicas // nodes)
    with tempfile.TemporaryDirectory() as name, ray_nodes(nodes, gpus) as (address, pids):
        folder = Path(name)
        config = write_config(replicas, gpus, address, folder)
        free_before, began_s = free_bytes(), time.monotonic()
        serving = _serve(config, folder)
        try:
            ended = _until_all_served(serving, folder / "record", replicas, start_s)
            took_s, started = time.monotonic() - began_s, _ticks(folder / "record")
            titles = {p: t for leader in (*pids, serving.pid) for p, t in session(leader).items()}
            cpu = _cores(titles, seconds)
            ticks = _ticks(folder / "record")
            memory, free = memory_by_part(titles), free_bytes()
        finally:
            _end(serving)
    later = [tick for tick in ticks if not started or tick.t_s > started[-1].t_s]
    return {
        "replicas": replicas,
        "nodes": nodes,
        "ended": ended,
        "served": _served(ticks),
        "start_to_all_served_s": took_s,
        "run_to_all_served_s": all_served_s(ticks, replicas),
        "tick_s": _spread(tick.took_s for tick in later if tick.took_s is not None),
        "between_ticks_s": _spread(b.t_s - a.t_s for a, b in pairwise(later)),
        "cores": cpu,
        "memory": memory,
        "memory_taken_bytes": free_before - free,
    }


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    found = list(values)
    return spread(found) if found else None


def _served(ticks: Iterable[TickRecord]) -> int:
    return len({r.id for tick in ticks for r in tick.replicas if r.state in SERVED})


def _serve(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "steppe.cli", "serve", str(config)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--record", str(folder / "record")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _ticks(record: Path) -> tuple[TickRecord, ...]:
    return read_ticks(record) if (record / RECORD_FILE).is_file() else ()


def _until_all_served(
    serving: subprocess.Popen[bytes], record: Path, replicas: int, longest_s: float
) -> str:
    """Wait until every replica has served; return why that came to an end."""
    until_s = time.monotonic() + longest_s
    while time.monotonic() < until_s:
        if serving.poll() is not None:
            return f"the run ended: {(record.parent / 'log').read_text()[-500:]}"
        if free_bytes() < LEAST_FREE_BYTES:
            return "memory"
        if all_served_s(_ticks(record), replicas) is not None:
            return "all served"
        time.sleep(1.0)
    return "time"


def _cores(titles: dict[int, str], seconds: float) -> dict[str, float]:
    """Return the cores that each part uses over so many seconds."""
    before = {pid: _cpu_s(pid) for pid in titles}
    began_s = time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - began_s
    found: defaultdict[str, float] = defaultdict(float)
    for pid, title in titles.items():
        part = part_of(title)
        if part is not None:
            found[part] += max(0.0, _cpu_s(pid) - before[pid]) / passed_s
    return dict(found)


def _cpu_s(pid: int) -> float:
    try:
        return cpu_s(pid)
    except OSError:  # it has ended
        return 0.0


def _end(serving: subprocess.Popen[bytes]) -> None:
    serving.terminate()
    try:
        serving.wait(60.0)
    except subprocess.TimeoutExpired:
        os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()
