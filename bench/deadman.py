"""How long do GPU limits outlive the controller that set them?

Real processes on emulated GPUs in real time. A controller takes the lease from an agent, limits
clock and power of a GPU, and is then killed (SIGKILL) or hung (SIGSTOP); or the agent is killed
and started again; or both are killed, and the lease file is compared with what is really left on
the GPU, before and after `undo_lease`. Times run from the signal until the GPU is free; they
contain the emulated GPU's clock latency, which is modelled (15 ms on an H100).

    python bench/deadman.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from steppe.agent import client
from steppe.agent.client import AgentClient, ask_status
from steppe.agent.host_limits import undo_lease
from steppe.agent.lease_file import read_lease_file
from steppe.agent.priority import Priority
from steppe.emulator.environment import activate, remove_state
from steppe.emulator.library import Emulator
from steppe.errors import AgentError
from steppe.measure.provenance import source_commit
from targets import at_most

LEASE_S = 0.5
BUSY_LEASE_S, BUSY_S, HOGS_PER_CORE = 0.2, 6.0, 16
"""Lease on busy cores, a tenth of the agent's own default, s; how long they are kept busy, s; and
by how many processes each."""
CLOCK_MHZ, LIMIT_W, DEFAULT_W = 900, 300.0, 700.0
GIVE_UP_S = 20.0
_POLL_S = 0.0005
_fork = multiprocessing.get_context("fork")


class Site:
    """An emulated GPU, its agent, and its controllers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket, self.lease_file = folder / "agent.sock", folder / "lease.json"
        self.emulator: Emulator = activate("h100", 1, folder / "gpus")

    @contextlib.contextmanager
    def agent(
        self, lease_s: float = LEASE_S, *, ordinary: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run an agent that keeps running when its lease holder is gone."""
        command = [sys.executable, "-m", "steppe.agent.server", "--lease-s", str(lease_s)]
        command += ["--socket", str(self.socket), "--lease-file", str(self.lease_file)]
        if ordinary:
            code = "from steppe.agent import server; server.raise_this_thread = lambda: None; "
            command[1:3] = ["-c", code + "server.main()"]
        with (self.folder / "agent.log").open("ab") as log:
            agent = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            self.wait(self.answers)
            yield agent
        finally:
            agent.kill()
            agent.wait()

    def answers(self) -> bool:
        """Whether the agent answers."""
        try:
            ask_status(self.socket)
        except AgentError:
            return False
        return True

    @contextlib.contextmanager
    def controller(self) -> Iterator[ForkProcess]:
        """Run a controller that limits the GPU and keeps its lease."""
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=_control, args=(self.socket, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            ours.recv()
            self.wait(lambda: self.limits() == (CLOCK_MHZ, LIMIT_W))
            yield process
        finally:
            process.kill()
            process.join()

    def limits(self) -> tuple[int | None, float]:
        """Return the highest clock and the power limit that the GPU really has."""
        truth = self.emulator.snapshot(0)
        lock = truth.clock_lock_mhz
        return None if lock is None else lock[1], truth.power_limit_w

    def is_free(self) -> bool:
        """Whether nothing of ours is left on the GPU."""
        return self.limits() == (None, DEFAULT_W)

    def wait(self, is_true: Any) -> float:
        """Return how long it took to become true, s."""
        start_s = time.monotonic()
        while not is_true():
            if time.monotonic() > start_s + GIVE_UP_S:
                raise TimeoutError("the GPU is still limited")
            time.sleep(_POLL_S)
        return time.monotonic() - start_s


def _control(socket: Path, ready: Connection) -> None:
    client = AgentClient(socket, LEASE_S)
    uuid = client.status().gpus[0].uuid
    client.set_clock_limit(uuid, CLOCK_MHZ)
    client.set_power_limit(uuid, LIMIT_W)
    ready.send("set")
    while True:
        signal.pause()


def stop_controllers(site: Site, how: signal.Signals, trials: int) -> list[float]:
    """Return the time from a signal to the controller until the GPU is free, s."""
    times_s = []
    with site.agent():
        for _ in track(range(trials), f"controller {how.name}", console=Console(stderr=True)):
            with site.controller() as controller:
                assert controller.pid is not None
                os.kill(controller.pid, how)
                times_s.append(site.wait(site.is_free))
    return times_s


def restart_agent(site: Site, trials: int) -> list[float]:
    """Return the time from the start of a new agent until the GPU is free, s."""
    times_s = []
    for _ in track(range(trials), "agent SIGKILL, restart", console=Console(stderr=True)):
        with site.agent() as agent, site.controller() as controller:
            assert controller.pid is not None
            os.kill(controller.pid, signal.SIGSTOP)
            agent.kill()
            agent.wait()
            assert site.limits() == (CLOCK_MHZ, LIMIT_W)
            start_s = time.monotonic()
            with site.agent():
                site.wait(site.is_free)
                times_s.append(time.monotonic() - start_s)
    return times_s


def kill_both(site: Site, trials: int) -> int:
    """Return how often the lease file or its undoing was wrong with both processes dead."""
    wrong = 0
    for _ in track(range(trials), "both SIGKILL, undo", console=Console(stderr=True)):
        with site.agent() as agent, site.controller() as controller:
            agent.kill()
            controller.kill()
            agent.wait()
            controller.join()
            named = [
                (left.clock_mhz, left.power_limit_w) for left in read_lease_file(site.lease_file)
            ]
            is_right = named == [site.limits()] and undo_lease(site.lease_file) == ()
            site.wait(site.is_free)
            wrong += not (is_right and read_lease_file(site.lease_file) == ())
    return wrong


def _compute(until_s: float) -> None:
    while time.monotonic() < until_s:
        sum(range(10_000))


def _renew(socket: Path, ready: Connection, seconds: float, ordinary: bool) -> None:
    """Keep a lease while the machine is busy; send how often it was taken."""
    if ordinary:
        vars(client)["raise_this_thread"] = lambda: Priority.HIGH  # it says so and does nothing
    with AgentClient(socket, BUSY_LEASE_S) as held:
        held.set_clock_limit(held.status().gpus[0].uuid, CLOCK_MHZ)
        ready.send("set")
        ready.poll(seconds)
        ready.send(held.leases_taken)


def busy(site: Site, trials: int, seconds: float, hogs: int) -> dict[str, dict[str, int]]:
    """Return how often a live holder lost its lease on busy cores, with and without priority."""
    lost = {name: {"leases": 0, "lost": 0} for name in ("raised", "ordinary")}
    rounds = [(name, turn) for turn in range(trials) for name in lost]
    for name, _ in track(rounds, f"{hogs} busy processes", console=Console(stderr=True)):
        with site.agent(BUSY_LEASE_S, ordinary=name == "ordinary"):
            ours, theirs = _fork.Pipe()
            arguments = (site.socket, theirs, seconds, name == "ordinary")
            holder = _fork.Process(target=_renew, args=arguments, daemon=True)
            holder.start()
            assert ours.recv() == "set"
            until_s = time.monotonic() + seconds
            working = [_fork.Process(target=_compute, args=(until_s,)) for _ in range(hogs)]
            for process in working:
                process.start()
            lost[name]["leases"] += 1
            lost[name]["lost"] += ours.recv() - 1
            for process in (*working, holder):
                process.join()
    return lost


def spread(times_s: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum, s."""
    ranked = sorted(times_s)
    return {
        "trials": len(ranked),
        "median_s": statistics.median(ranked),
        "p99_s": ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))],
        "max_s": ranked[-1],
    }


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    return {
        "bench": "deadman",
        "commit": source_commit(),
        "hardware": f"emulated h100 in real time, {os.cpu_count()} cores {platform.machine()}",
        "energy_source": "emulated",
        "versions": {"python": platform.python_version(), "nvidia-ml-py": version("nvidia-ml-py")},
        "results": results,
        "targets": [
            at_most("controller killed: free again, p99", results["killed"]["p99_s"], "s", 0.1),
            at_most("controller hung: free again, max", results["hung"]["max_s"], "s", LEASE_S),
            at_most("agent restarted: free again, max", results["restarted"]["max_s"], "s", 5.0),
            at_most("both killed: lease file or undo wrong", results["wrong"], "trials", 0),
            at_most(
                "busy cores: leases lost with priority",
                results["busy"]["raised"]["lost"],
                "leases",
                0,
            ),
        ],
    }


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=50, help="killed controllers")
    arguments = parser.parse_args()
    few = max(1, arguments.trials // 5)
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name))
        results: dict[str, Any] = {
            "lease_s": LEASE_S,
            "killed": spread(stop_controllers(site, signal.SIGKILL, arguments.trials)),
            "hung": spread(stop_controllers(site, signal.SIGSTOP, few)),
            "restarted": spread(restart_agent(site, few)),
            "wrong": kill_both(site, few),
        }
        hogs = HOGS_PER_CORE * (os.cpu_count() or 1)
        results["busy"] = {
            "lease_s": BUSY_LEASE_S,
            "hogs": hogs,
            "seconds": BUSY_S,
            **busy(site, max(1, few // 2), BUSY_S, hogs),
        }
        remove_state(site.folder / "gpus")
    table = Table(title="Time until the GPU is free again (emulated)")
    for heading in ("what died", "trials", "median", "p99", "max"):
        table.add_column(heading)
    for name in ("killed", "hung", "restarted"):
        row = results[name]
        times = [f"{row[key] * 1e3:.0f} ms" for key in ("median_s", "p99_s", "max_s")]
        table.add_row(name, str(row["trials"]), *times)
    Console(width=100).print(table)
    found = results["busy"]
    for name in ("raised", "ordinary"):
        print(
            f"{found['hogs']} busy processes, lease {found['lease_s']} s, {name} priority: "
            f"{found[name]['lost']} lost of {found[name]['leases']} x {found['seconds']:g} s"
        )
    print(json.dumps(document(results)))


if __name__ == "__main__":
    main()
