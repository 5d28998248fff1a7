"""Do board power limits keep the draw near a falling budget when controller and driver are killed?

Real processes on emulated H100s in real time: `steppe serve` with synthetic engines that always
have work, a live supply signal that falls steadily, and SIGKILL at several times after the fall
began. Two cases: driver and controller are killed together, and Ray ends the engines as it finds
out; or Ray's own processes and the node actor are killed with them, and only the engines and the
agent are left. The true draw of the emulated GPUs is compared with the signal, which goes on
falling. The draw is modelled, and so is how soon it follows a limit (V100 lags).

    python bench/backstop.py
    python bench/backstop.py --kill-after 0.3 --kill-after 7 --case driver_and_controller
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from document import arguments_of
from steppe.agent.lease_file import read_lease_file
from steppe.config import PaceSection
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.fleet.stale_runs import LEASE_FILE, gpus_file, remove_stale_runs, state_folder
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.measure.provenance import source_commit
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.point import OperatingPoint
from steppe.sim.engine.pace_model import PaceModel, emulated_profile
from targets import at_most

GPUS, LARGEST = 4, 8
LIMIT_RANGE_W = (200.0, 700.0)
PACE = PaceSection(weights_s=0.03, decode_s=0.009, prefill_s=0.0001)
START_W, FALL_W_PER_S, LEAST_W = 2200.0, 30.0, GPUS * LIMIT_RANGE_W[0] + 100.0
"""The supply: where it begins, how fast it falls, and where it stops falling, above what the lowest
limits of all GPUs sum to."""
KILL_AFTER_S = (0.3, 3.7, 8.1, 12.45, 17.9)
SIGNAL_S, SAMPLE_S, WINDOW_S = 0.1, 0.05, 0.5
"""Between two values of the supply; between two readings of the true energy; shortest span over
which the draw is judged, s."""
OBSERVED_S = 14.0
START_S, FILL_S = 180.0, 90.0
CLIENTS = 2 * GPUS * LARGEST
CASES: dict[str, tuple[str, ...]] = {
    "driver_and_controller": ("ray::Controller",),
    "all_but_engines_and_agent": ("ray::Controller", "ray::Node", "raylet", "gcs_server", "reaper"),
}
Row = dict[str, Any]


class Fall:
    """The supply signal: steady, then falling; kept in a file by a thread."""

    def __init__(self, path: Path) -> None:
        self.path, self._began_s = path, float("inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)

    def at(self, at_s: float) -> float:
        """Return the supply at a time, W."""
        fallen_w = FALL_W_PER_S * max(0.0, at_s - self._began_s)
        return max(LEAST_W, START_W - fallen_w)

    def begin(self) -> float:
        """Begin to fall; return when, s."""
        self._began_s = time.monotonic()
        return self._began_s

    def __enter__(self) -> Fall:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write_on(self) -> None:
        while not self._stop.wait(SIGNAL_S):
            self._write()

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(f"{self.at(time.monotonic()):.2f}\n")
        draft.replace(self.path)


class Truth:
    """The true energy of the emulated GPUs, read by a thread."""

    def __init__(self, state: Path) -> None:
        self.emulator = Emulator.attach(build_library(), state)
        self.readings: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)

    def __enter__(self) -> Truth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def draw_w(self) -> float:
        """Return the draw now, W."""
        return sum(self.emulator.snapshot(gpu).power_w for gpu in range(GPUS))

    def limits_w(self) -> float:
        """Return the sum of the board power limits now, W."""
        return sum(self.emulator.snapshot(gpu).power_limit_w for gpu in range(GPUS))

    def is_free(self) -> bool:
        """Whether no limit is left."""
        gpus = [self.emulator.snapshot(gpu) for gpu in range(GPUS)]
        return all(g.clock_lock_mhz is None and g.power_limit_w == LIMIT_RANGE_W[1] for g in gpus)

    def windows(self, from_s: float, to_s: float) -> list[tuple[float, float]]:
        """Return end, s, and mean draw, W, of all spans of `WINDOW_S` in a stretch of time."""
        inside = [reading for reading in tuple(self.readings) if from_s <= reading[0] <= to_s]
        step = round(WINDOW_S / SAMPLE_S)
        return [
            (b_s, (b_j - a_j) / (b_s - a_s))
            for (a_s, a_j), (b_s, b_j) in zip(inside, inside[step:], strict=False)
        ]

    def _read_on(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            energy_j = sum(self.emulator.snapshot(gpu).energy_j for gpu in range(GPUS))
            self.readings.append((time.monotonic(), energy_j))


@dataclass(frozen=True, slots=True)
class Serving:
    """A `steppe serve` in a session of its own."""

    process: subprocess.Popen[bytes]
    record: Path
    port: int

    def pids(self, *titles: str) -> list[int]:
        """Return its processes whose command line has one of these words."""
        found = self.alive()
        return [pid for pid, command in found.items() if any(word in command for word in titles)]

    def alive(self) -> dict[int, str]:
        """Return the command lines of its live processes."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if int(stat[3]) == self.process.pid and stat[0] != "Z":
                    found[int(process.name)] = command
        return found

    def has_ticks(self) -> bool:
        """Whether the controller ticks."""
        path = self.record / "record.jsonl"
        return path.is_file() and path.stat().st_size > 0

    def end(self) -> None:
        """Leave no process and no file."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        remove_stale_runs(state_folder(), ended=self.process.pid)


def points() -> Frontier:
    """Return what the emulated H100 gives, in closed form."""
    profile = emulated_profile("h100")
    model = PaceModel(profile, PACE)
    found = []
    for clock_mhz, batch in itertools.product(range(600, profile.full_mhz + 1, 60), (2, 4, 8)):
        work = StepWork(0, batch, 0)
        step_s = model.step_s(work, clock_mhz)
        draw_w = model.step_draw_w(work, clock_mhz)
        found.append(OperatingPoint(clock_mhz, batch, batch / step_s, draw_w, step_s))
    return Frontier.of(found, model.asleep_w, model.idle_w(profile.lowest_mhz), "modelled")


def config_of(folder: Path, port: int) -> dict[str, Any]:
    """Return the configuration of the fleet."""
    write_frontier(points(), folder / "frontier.yaml")
    supply = {"kind": "signal", "path": str(folder / "watts")}
    return {
        "model": {"name": "none", "served_name": "synthetic"},
        "engine": {"kind": "synthetic", "max_batch_limit": LARGEST},
        "fleet": {"replicas": GPUS},
        "device": {
            "kind": "emulated", "profile": "h100", "count": GPUS, "pace": PACE.model_dump(),
        },
        "power": {"supply": [supply], "stale_s": 5.0, "fallback_w": 0.0},
        "frontier": {"file": str(folder / "frontier.yaml")},
        "gateway": {"port": port},
    }  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path) -> Generator[Serving]:
    """Run the fleet in the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "run.yaml").write_text(yaml.safe_dump(config_of(folder, port)))
    command = [sys.executable, "-m", "steppe.cli", "serve", str(folder / "run.yaml")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--record", str(folder / "record")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    run = Serving(process, folder / "record", port)
    try:
        wait(run.has_ticks, START_S, f"a tick in {folder / 'log'}", process)
        yield run
    finally:
        run.end()


@contextlib.contextmanager
def clients(port: int) -> Generator[None]:
    """Keep every engine full in the block: each client sends one long request after another."""
    stop = threading.Event()
    threads = [threading.Thread(target=_ask_on, args=(port, stop)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.daemon = True
        thread.start()
    try:
        yield
    finally:
        stop.set()


def _ask_on(port: int, stop: threading.Event) -> None:
    body = {"model": "synthetic", "prompt": "x", "max_tokens": 2000, "stream": True}
    while not stop.is_set():
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            line.request(
                "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = line.getresponse()
            while answer.read1(65536) and not stop.is_set():
                pass
        except (OSError, http.client.HTTPException):
            stop.wait(0.5)
        finally:
            line.close()


def wait(
    is_true: Callable[[], bool],
    within_s: float,
    what: str,
    process: subprocess.Popen[bytes] | None = None,
) -> float:
    """Return how long it took to become true, s."""
    start_s = time.monotonic()
    while not is_true():
        if time.monotonic() > start_s + within_s or (process and process.poll() is not None):
            raise TimeoutError(f"asked for {what} within {within_s:g} s, found none")
        time.sleep(SAMPLE_S)
    return time.monotonic() - start_s


def kill(run: Serving, case: str) -> tuple[float, int]:
    """Kill the processes of a case at once; return when, s, and how many."""
    victims = [run.process.pid, *run.pids(*CASES[case])]
    killed_s = time.monotonic()
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed_s, len(victims)


def trial(case: str, kill_after_s: float) -> Row:
    """Kill a fleet once, and return what it drew before and after."""
    with (
        tempfile.TemporaryDirectory(prefix="steppe-backstop-") as name,
        Fall(Path(name) / "watts") as fall,
        serving(Path(name)) as run,
        Truth(gpus_file(run.process.pid)) as truth,
        clients(run.port),
    ):
        wait(lambda: truth.draw_w() >= 0.8 * START_W, FILL_S, "a fleet at work")
        time.sleep(3.0)
        began_s = fall.begin()
        time.sleep(max(0.0, began_s + kill_after_s - time.monotonic()))
        limits_w, budget_w = truth.limits_w(), fall.at(time.monotonic())
        killed_s, killed = kill(run, case)
        free_s = None
        while (now_s := time.monotonic()) < killed_s + OBSERVED_S:
            if free_s is None and truth.is_free():
                free_s = now_s - killed_s
            time.sleep(SAMPLE_S)
        after = truth.windows(killed_s - WINDOW_S, killed_s + OBSERVED_S)
        over = [(draw_w / fall.at(at_s), at_s - killed_s) for at_s, draw_w in after]
        idle_s = [at_s - killed_s for at_s, draw_w in after if draw_w > GPUS * LIMIT_RANGE_W[0]]
        before = truth.windows(began_s - 3.0, killed_s)
        return {
            "case": case,
            "kill_after_s": kill_after_s,
            "killed": killed,
            "budget_w": budget_w,
            "limits_w": limits_w,
            "worst_share": max(over)[0],
            "worst_after_s": max(over)[1],
            "worst_share_before": max(draw_w / fall.at(at_s) for at_s, draw_w in before),
            "drew_more_than_lowest_limits_for_s": max(idle_s, default=0.0),
            "limits_free_after_s": free_s,
            "limits_left": _limits_left(run.process.pid),
        }


def _limits_left(pid: int) -> int:
    """Return how many GPUs the lease files of a run still name."""
    files = state_folder().glob(f"steppe-run-{pid}-*/{LEASE_FILE}")
    return sum(len(read_lease_file(path)) for path in files)


def document(arguments: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    worst = max(row["worst_share"] for row in rows)
    left = sum(row["limits_left"] or row["limits_free_after_s"] is None for row in rows)
    return {
        "bench": "backstop",
        "commit": source_commit(),
        "hardware": f"{GPUS} emulated h100 in real time, {os.cpu_count()} cores "
        f"{platform.machine()}",
        "arguments": arguments_of(arguments),
        "energy_source": "emulated",
        "versions": {name: version(name) for name in ("ray", "nvidia-ml-py")},
        "supply": {"start_w": START_W, "fall_w_per_s": FALL_W_PER_S, "least_w": LEAST_W},
        "window_s": WINDOW_S,
        "results": rows,
        "targets": [
            at_most("killed: worst draw over budget, over 0.5 s", worst, "share", 1.05),
            at_most("killed: limits left after the schedule", left, "trials", 0),
        ],
    }


def show(rows: list[Row]) -> None:
    """Print a table."""
    table = Table(title="Draw after SIGKILL under a falling budget (emulated H100s)")
    for heading in ("killed", "after", "budget", "sum of limits", "worst", "at", "free after"):
        table.add_column(heading)
    for row in rows:
        free_s = row["limits_free_after_s"]
        table.add_row(
            row["case"],
            f"{row['kill_after_s']:.1f} s",
            f"{row['budget_w']:.0f} W",
            f"{row['limits_w']:.0f} W",
            f"{row['worst_share']:.3f}",
            f"{row['worst_after_s']:.1f} s",
            "never" if free_s is None else f"{free_s:.1f} s",
        )
    Console(width=120).print(table)


def main() -> None:
    """Kill fleets, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--kill-after", type=float, action="append", help="time into the fall, s; five if absent"
    )
    parser.add_argument("--case", choices=CASES, action="append", help="both if absent")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # the fleet is in its own session
    rows = []
    for case in arguments.case or CASES:
        for kill_after_s in arguments.kill_after or KILL_AFTER_S:
            rows.append(trial(case, kill_after_s))
            print(json.dumps(rows[-1]), file=sys.stderr)
    show(rows)
    print(json.dumps(document(arguments, rows)))


if __name__ == "__main__":
    main()
