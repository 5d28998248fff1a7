"""A live fleet for `faults.py`: its process, its clients, its true draw, what it leaves.

Two replicas, synthetic ones or vLLM, on emulated L4s under a real Ray, behind the real gateway,
controller, meters and agent, in a session of their own. Clients stream requests all the time. The
witness reads the true draw of the emulated GPUs, independent of the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import yaml

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.fleet.stale_runs import gpus_file, state_folder
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

MODEL = "synthetic"
FULL_W, LOW_W = 200.0, 45.0
"""More than the fleet draws, and less than two replicas that step, W."""
ASLEEP_W = 15.0
"""Less than an idle emulated L4 draws at its highest clock, W; the plan corrects it."""
STALL_S = 20.0
"""An engine that has work and makes no step for so long is dead, s."""
START_S, STUCK_S = 240.0, 90.0
"""Longest start of a fleet, and time after which a stream without a token is stuck, s."""


ENGINE, SPAWNED = "VLLM::EngineCore", "multiprocessing.spawn import spawn_main"
"""Title of the process of a vLLM engine, and the command that it may keep instead."""


@dataclass(frozen=True)
class Engine:
    """What the replicas of a fleet run, and the load for it.

    Attributes:
        kind: Its kind, as in the config.
        sections: Sections of the config that differ from those of synthetic replicas.
        clients: Clients that stream at the same time.
        output_tokens: Length of each answer, tokens.
    """

    kind: str
    sections: dict[str, Any]
    clients: int
    output_tokens: int


SYNTHETIC = Engine("synthetic", {}, clients=12, output_tokens=24)


def vllm_engine(model: Path) -> Engine:
    """Return vLLM with the model of a folder, served by the name that the clients ask for."""
    sections = {
        "model": {"name": str(model), "served_name": MODEL, "max_model_len": 1024},
        "engine": {
            "max_batch_limit": 8,
            "max_tokens_per_step": 256,
            "kv_cache_bytes": 64 << 20,
            "stall_s": STALL_S,
            "args": {"enforce_eager": True},
        },
    }
    return Engine("vllm", sections, clients=12, output_tokens=64)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def make_config(folder: Path, port: int, **changes: Any) -> Path:
    """Write the config of the fleet, with some sections replaced, and return its path."""
    points = [
        OperatingPoint(clock_mhz, limit, limit * clock_mhz / 160, ASLEEP_W + 5 + clock_mhz / 100)
        for clock_mhz, limit in ((615, 4), (1005, 6), (1500, 8), (2040, 8))
    ]
    frontier = folder / "frontier.yaml"
    write_frontier(Frontier.of(points, ASLEEP_W, ASLEEP_W, "modelled"), frontier)
    pace = {"weights_s": 0.05, "decode_s": 0.004, "prefill_s": 0.0005}
    config: dict[str, Any] = {
        "model": {"name": MODEL},
        "engine": {"kind": "synthetic", "max_batch_limit": 8, "stall_s": STALL_S},
        "fleet": {"replicas": 2},
        "device": {"kind": "emulated", "profile": "l4", "count": 2, "pace": pace},
        "power": {
            "supply": [{"kind": "signal", "path": str(folder / "watts")}],
            "stale_s": 3.0,
            "fallback_w": LOW_W,
        },
        "frontier": {"file": str(frontier)},
        "control": {"period_s": 1.0, "dwell_s": 1.0, "drain_s": 2.0},
        "gateway": {"port": port},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config | changes))
    return path


class Signal:
    """A supply signal in a file that is written again before it becomes stale."""

    def __init__(self, path: Path) -> None:
        self.path, self._text = path, f"{FULL_W}\n"
        self.is_kept = True
        self._stop, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._write()
        self._thread.start()

    def set(self, watts: float) -> None:
        """Publish other watts."""
        self.write(f"{watts}\n")

    def write(self, text: str) -> None:
        """Publish any text."""
        with self._writing:
            self._text, self.is_kept = text, True
            self._write()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    def _refresh(self) -> None:
        while not self._stop.wait(1.0):
            with self._writing:
                if self.is_kept:
                    self._write()

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(self._text)
        draft.replace(self.path)


class Witness:
    """Samples the true draw of the GPUs of a run."""

    EVERY_S = 0.1

    def __init__(self, pid: int) -> None:
        self._emulator = Emulator.attach(build_library(), gpus_file(pid))
        self.samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the samples."""
        self._stop.set()
        self._thread.join()

    def locked(self) -> list[int]:
        """Return the GPUs whose clock is locked."""
        gpus = range(self._emulator.gpu_count)
        return [g for g in gpus if self._emulator.snapshot(g).clock_lock_mhz is not None]

    def over_for_s(self, since_s: float, allowed_w: float) -> float:
        """Return from `since_s` until the draw was within `allowed_w` for good, s."""
        over = [at_s for at_s, watts in self.samples if at_s >= since_s and watts > allowed_w]
        return max(over, default=since_s) - since_s

    def _watch(self) -> None:
        before_j, before_s = self._energy_j(), time.monotonic()
        while not self._stop.wait(self.EVERY_S):
            energy_j, now_s = self._energy_j(), time.monotonic()
            self.samples.append((now_s, (energy_j - before_j) / (now_s - before_s)))
            before_j, before_s = energy_j, now_s

    def _energy_j(self) -> float:
        gpus = range(self._emulator.gpu_count)
        return sum(self._emulator.snapshot(gpu).energy_j for gpu in gpus)


@dataclass
class Stream:
    """What one client saw of one streamed request."""

    began_s: float
    end: str = "open"
    tokens: int = 0
    ended_s: float = 0.0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class Clients:
    """Clients that each stream one request after another."""

    url: str
    count: int = 12
    output_tokens: int = 24
    model: str = MODEL
    streams: list[Stream] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to send."""
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()

    def stop(self, within_s: float) -> None:
        """Send no more, and give the open streams some time to end."""
        self._stop.set()
        give_up_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_s - time.monotonic()))

    def completed(self, since_s: float = 0.0) -> int:
        """Return how many streams completed that began at `since_s` or later."""
        return sum(s.end == "completed" and s.began_s >= since_s for s in list(self.streams))

    def open(self, before_s: float) -> int:
        """Return how many streams are open that began before a time."""
        return sum(s.end == "open" and s.began_s < before_s for s in list(self.streams))

    def longest_gap_s(self, since_s: float, until_s: float) -> float:
        """Return the longest time without a completed stream between two times, s."""
        ends = [s.ended_s for s in list(self.streams) if s.end == "completed"]
        times = [since_s, *sorted(at_s for at_s in ends if since_s < at_s < until_s), until_s]
        return max(after - before for before, after in pairwise(times))

    def ends(self, since_s: float) -> dict[str, int]:
        """Return how the streams ended that were open at `since_s` or began later."""
        seen = [s for s in list(self.streams) if s.end == "open" or s.ended_s >= since_s]
        return dict(Counter(stream.end for stream in seen))

    def _run(self) -> None:
        body = {
            "model": self.model,
            "prompt": "The wind comes over the steppe",
            "max_tokens": self.output_tokens,
            "stream": True,
            "ignore_eos": True,
        }
        timeout = httpx.Timeout(STUCK_S, connect=2.0)
        while not self._stop.is_set():
            stream = Stream(time.monotonic())
            self.streams.append(stream)
            try:
                stream.end = self._send(body, stream, timeout)
            except httpx.ConnectError:
                stream.end = "no connection"
            except httpx.ReadTimeout:
                stream.end = "stuck"
            except httpx.HTTPError:
                stream.end = "cut" if stream.tokens else "broken before its first byte"
            stream.ended_s = time.monotonic()
            if stream.end != "completed":
                self._stop.wait(0.5)

    def _send(self, body: dict[str, Any], stream: Stream, timeout: httpx.Timeout) -> str:
        url, name = f"{self.url}/v1/completions", {"X-Request-Id": stream.id}
        with httpx.stream("POST", url, json=body, headers=name, timeout=timeout) as answer:
            if answer.status_code >= 400:
                return f"refused with {answer.status_code}"
            for line in _lines(answer):
                if line == "data: [DONE]":
                    return "completed"
                if line.startswith("data: ") and "error" in json.loads(line[6:]):
                    return "failed with an error event"
                stream.tokens += line.startswith("data: ")
        return "cut"


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Yield the lines of an event stream; `iter_lines` also splits inside of JSON, at U+0085."""
    rest = ""
    for text in answer.iter_text():
        *whole, rest = (rest + text).split("\n")
        yield from (line.rstrip("\r") for line in whole)


@dataclass
class Fleet:
    """A `steppe serve` in a session of its own."""

    process: subprocess.Popen[bytes]
    mark: str
    url: str
    record: Path
    log: Path

    @classmethod
    def start(cls, folder: Path, config: Path, port: int, *more: str) -> Fleet:
        """Start it with a record in `folder`."""
        log, record, mark = folder / "log", folder / "record", f"STEPPE_FAULTS={uuid.uuid4().hex}"
        command = [sys.executable, "-m", "steppe.cli", "serve", str(config), "--record"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*command, str(record), *more],
                env=os.environ | dict([mark.split("=")]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, mark, f"http://127.0.0.1:{port}", record, log)

    def alive(self) -> dict[int, str]:
        """Return the command lines of its live processes."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                is_ours = int(session) == self.process.pid
                is_ours = is_ours or self.mark in (process / "environ").read_text()
                if is_ours and state != "Z":
                    found[int(process.name)] = command
        return found

    def driver(self) -> int:
        """Return the driver: of two, the one that holds the lock."""
        for lock in state_folder().glob(f"steppe-run-{self.process.pid}-*-drivers/lock"):
            return int(lock.read_text().split()[0])
        return self.process.pid

    def pids(self, title: str) -> list[int]:
        """Return the processes whose title, or the end of whose program's path, this is."""
        return sorted(
            pid
            for pid, command in self.alive().items()
            if command.startswith(title)
            or command.split(" ")[0].endswith(f"/{title}")
            or (title == ENGINE and SPAWNED in command)
        )

    def files(self) -> list[str]:
        """Return the names of its files in memory."""
        names = (f"steppe-*-{self.process.pid}{end}" for end in ("", "-*"))
        return sorted(path.name for name in names for path in state_folder().glob(name))

    def metric(self, name: str) -> float | None:
        """Return a metric without labels; None if the gateway does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            for line in httpx.get(f"{self.url}/metrics", timeout=2.0).text.splitlines():
                if line.startswith(f"{name} "):
                    return float(line.split()[1])
        return None

    def ticks(self) -> list[dict[str, Any]]:
        """Return the ticks that are recorded so far."""
        path = self.record / "record.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def is_whole(self, of: int = 2) -> bool:
        """Whether the latest tick shows all replicas awake."""
        ticks = self.ticks()
        return bool(ticks) and [r["state"] for r in ticks[-1]["replicas"]] == ["awake"] * of

    def interrupt(self) -> None:
        """Send Ctrl-C to the whole session, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def clean(self) -> None:
        """Leave no process, whatever the run did."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30.0)


def wait_until(condition: Callable[[], object], within_s: float, every_s: float = 0.1) -> float:
    """Return how long it took until a condition held, s; not a number if it did not in time."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > within_s:
            return float("nan")
        time.sleep(every_s)
    return time.monotonic() - began_s
