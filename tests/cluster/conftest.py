from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
import yaml
from tests.models.tiny_model import write_tiny_model

from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.fleet.stale_runs import gpus_file, state_folder
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.record_folder import RECORD_FILE, read_requests, read_ticks
from steppe.roofline.point import OperatingPoint

T = TypeVar("T")
MODEL = "tiny"
RAY_HELPERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
FULL_W = 200.0
"""More than two emulated L4 ever draw, W."""


def until(condition: Callable[[], T], within_s: float, what: str, every_s: float = 0.05) -> T:
    """Wait until a condition holds, and return what it returned."""
    give_up_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < give_up_s, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)
    return found


def free_port() -> int:
    """Return a port that no client gets by chance before it is listened to.

    Outgoing connections have theirs from 32768 up, Ray's workers from 10002 to 19999.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def port() -> int:
    """A port that is free."""
    return free_port()


ENGINE, SPAWNED = "VLLM::EngineCore", "multiprocessing.spawn import spawn_main"


def processes(session: int, mark: str) -> dict[int, str]:
    """Return the command line of every living process of a session or with a mark in its start."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, its_session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            is_ours = int(its_session) == session or mark in (process / "environ").read_text()
            if is_ours and state != "Z":
                found[int(process.name)] = command
    return found


@pytest.fixture(scope="session", autouse=True)
def hear_interrupts() -> Iterator[None]:
    """Undo what a shell does to its background jobs, of which this run may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass
class Serving:
    """A `steppe serve` in a session of its own."""

    process: subprocess.Popen[bytes]
    mark: str
    url: str
    record: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="-", max_retries=0, timeout=120)

    def alive(self) -> dict[int, str]:
        return processes(self.pid, self.mark)

    def pids(self, title: str) -> set[int]:
        """Return who has a title; an engine keeps the command that spawned it now and then."""

        def has_it(command: str) -> bool:
            return command.startswith(title) or (title == ENGINE and SPAWNED in command)

        return {pid for pid, command in self.alive().items() if has_it(command)}

    def is_gone(self) -> bool:
        """Tell whether no process is left.

        Two helpers of Ray's own do not count: when Ray's server is killed, they try to tell it
        so for 60 s before they leave (`publish_error_to_driver`).
        """
        return all(c.startswith(RAY_HELPERS) for c in self.alive().values())

    def ticks(self) -> tuple[Any, ...]:
        return read_ticks(self.record)

    def has_ticks(self) -> bool:
        return (self.record / RECORD_FILE).is_file() and bool(self.ticks())

    def requests(self) -> dict[str, Any]:
        """Return the requests written down so far, by id."""
        return {request.id: request for request in read_requests(self.record)}

    def states(self) -> list[str]:
        """Return the states of the replicas in the latest tick."""
        return sorted(replica.state for replica in self.ticks()[-1].replicas)

    def next_tick(self, within_s: float = 20) -> Any:
        """Wait for a tick that is not written down yet."""
        seen = len(self.ticks())
        return until(lambda: self.ticks()[seen:], within_s, "another tick")[-1]

    def wait_for_states(self, *states: str, within_s: float = 180) -> None:
        """Wait until a new tick shows the replicas in these states."""
        begun = len(self.ticks())
        until(
            lambda: len(self.ticks()) > begun and self.states() == sorted(states),
            within_s,
            f"replicas {sorted(states)}",
            every_s=0.2,
        )

    def wait_for_words(self, words: str, within_s: float = 240) -> None:
        """Wait until the command has said something."""
        until(lambda: self._has_said(words), within_s, f"{words!r} in {self.log}")

    def files(self) -> list[str]:
        """Return the names of what it has in memory."""
        return [p.name for p in state_folder().glob(f"steppe-*-{self.pid}*")]

    def end(self, number: int = signal.SIGINT, within_s: float = 60) -> int:
        """Send a signal to the whole session, as a terminal does, and return the exit code."""
        os.killpg(self.pid, number)
        return self.process.wait(within_s)

    def clean(self) -> None:
        """Leave no process and no file, whatever the test did."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def _has_said(self, words: str) -> bool:
        text = self.log.read_text()
        assert self.process.poll() is None or words in text, text
        return words in text


@dataclass
class Answer:
    """What became of one request of a load."""

    id: str
    sent_epoch_s: float
    tokens: int = 0
    first_s: float | None = None
    usage: int | None = None
    error: Exception | None = None


@dataclass
class Load:
    """Clients that ask one streamed request after another until they are told to stop."""

    serving: Serving
    clients: int
    output_tokens: int = 24
    answers: list[Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def completed(self) -> list[Answer]:
        return [a for a in list(self.answers) if a.usage is not None]

    @property
    def failed(self) -> list[Answer]:
        return [a for a in list(self.answers) if a.error is not None]

    def wait_for(self, more: int, within_s: float = 90) -> None:
        """Wait until so many more requests have completed."""
        wanted = len(self.completed) + more
        until(lambda: len(self.completed) >= wanted, within_s, f"{more} more answers")

    def _ask_on(self) -> None:
        client = self.serving.client
        while not self._stop.is_set():
            answer = Answer(uuid.uuid4().hex, time.time())
            self.answers.append(answer)
            try:
                self._ask(client, answer)
            except (openai.APIError, ConnectionError) as error:
                answer.error = error
                self._stop.wait(float(retry_after_s(error)))

    def _ask(self, client: openai.OpenAI, answer: Answer) -> None:
        stream = client.completions.create(
            model=MODEL,
            prompt="The wind comes over the steppe",
            max_tokens=self.output_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
            extra_headers={"X-Request-Id": answer.id},
        )
        for chunk in stream:
            if chunk.choices:
                answer.tokens += 1
                answer.first_s = answer.first_s or time.time() - answer.sent_epoch_s
            if chunk.usage:
                answer.usage = chunk.usage.completion_tokens
        if answer.usage is None:
            raise ConnectionError("the stream ended without its usage")


def retry_after_s(error: Exception) -> float:
    """Return what a refusal said about when to come again, s."""
    if isinstance(error, openai.APIStatusError):
        return float(error.response.headers.get("Retry-After", "0.1"))
    return 0.1


class Witness:
    """Reads the true energy of a run's emulated GPUs, beside everything that is tested."""

    def __init__(self, pid: int) -> None:
        self.emulator = Emulator.attach(build_library(), gpus_file(pid))
        self._times_s: list[float] = []
        self._energies_j: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def energy_j(self, begun_epoch_s: float, ended_epoch_s: float) -> float:
        """Return the energy between two times of the wall clock, interpolated."""
        return self._at(ended_epoch_s) - self._at(begun_epoch_s)

    def locked(self) -> list[int]:
        """Return the GPUs whose clock is locked."""
        gpus = range(self.emulator.gpu_count)
        return [gpu for gpu in gpus if self.emulator.snapshot(gpu).clock_lock_mhz is not None]

    def _at(self, at_s: float) -> float:
        after = bisect_right(self._times_s, at_s)
        assert 0 < after < len(self._times_s), "the witness did not see this time"
        (a_s, b_s), (a_j, b_j) = (
            values[after - 1 : after + 1] for values in (self._times_s, self._energies_j)
        )
        return a_j + (b_j - a_j) * (at_s - a_s) / (b_s - a_s)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            gpus = range(self.emulator.gpu_count)
            self._energies_j.append(sum(self.emulator.snapshot(gpu).energy_j for gpu in gpus))
            self._times_s.append(time.time())


def locked_gpus(pid: int) -> list[int]:
    """Return the GPUs of a run whose clock is locked; maps them in another process only."""
    code = "import sys; from pathlib import Path; from steppe.emulator.build import *; "
    code += "from steppe.emulator.library import Emulator; "
    code += "gpus = Emulator.attach(build_library(), Path(sys.argv[1])); "
    code += "print(*[i for i in range(gpus.gpu_count) if gpus.snapshot(i).clock_lock_mhz])"
    command = [sys.executable, "-c", code, str(gpus_file(pid))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(index) for index in run.stdout.split()]


class Signal:
    """A supply signal that is said again before it grows stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._watts = FULL_W
        self._saying = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._say_on)

    def __enter__(self) -> Signal:
        self.say(FULL_W)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def say(self, watts: float) -> None:
        with self._saying:
            self._watts = watts
            self._write()

    def _say_on(self) -> None:
        while not self._stop.wait(1.0):
            with self._saying:
                self._write()

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(f"{self._watts}\n")
        draft.replace(self.path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / MODEL, seed=0)


@pytest.fixture(scope="session")
def asleep_w(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return what an emulated L4 draws at its lowest clock without any load, W."""
    state = tmp_path_factory.mktemp("asleep") / "gpus"
    emulator = Emulator.attach(build_library(), state, "l4x1")
    emulator.set_context(0, os.getpid(), 0)
    (gpu,) = open_gpus()
    gpu.set_clock_limit(gpu.capabilities.sm_clocks_mhz[0])
    emulator.use_virtual_clock(True)
    emulator.tick(60.0)
    return emulator.snapshot(0).power_w


@pytest.fixture(scope="session")
def frontier_file(tmp_path_factory: pytest.TempPathFactory, asleep_w: float) -> Path:
    """Return a frontier that is near enough for the controller to correct."""
    points = [
        OperatingPoint(clock_mhz, limit, limit * clock_mhz / 160, asleep_w + 5 + clock_mhz / 100)
        for clock_mhz, limit in ((615, 4), (1005, 6), (1500, 8), (2040, 8))
    ]
    path = tmp_path_factory.mktemp("frontier") / "frontier.yaml"
    write_frontier(Frontier.of(points, asleep_w, asleep_w, "modelled"), path)
    return path


@pytest.fixture(scope="session")
def make_config(model: Path, frontier_file: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that makes a config, with some sections replaced."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "model": {"name": str(model), "served_name": MODEL, "max_model_len": 1024},
            "engine": {
                "max_batch_limit": 8,
                "max_tokens_per_step": 256,
                "kv_cache_bytes": 64 << 20,
                "args": {"enforce_eager": True},
            },
            "fleet": {"replicas": 2},
            "device": {
                "kind": "emulated",
                "profile": "l4",
                "count": 2,
                "pace": {"weights_s": 0.05, "decode_s": 0.004, "prefill_s": 0.0005},
            },
            "power": {"supply": [{"kind": "constant", "watts": FULL_W}]},
            "frontier": {"file": str(frontier_file)},
            "control": {"period_s": 0.5, "dwell_s": 1.0, "drain_s": 2.0},
            "gateway": {"port": free_port()},
        } | changes

    return make


@pytest.fixture(scope="module")
def serve(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., dict[str, Any]]
) -> Iterator[Callable[..., Serving]]:
    """Return a function that starts `steppe serve`; what it started ends with the module."""
    running: list[Serving] = []

    def start(*options: str, **changes: Any) -> Serving:
        folder = tmp_path_factory.mktemp("serve")
        config = make_config(**changes)
        (folder / "run.yaml").write_text(yaml.safe_dump(config))
        log, record, mark = folder / "log", folder / "record", f"STEPPE_TEST={uuid.uuid4().hex}"
        command = [sys.executable, "-m", "steppe.cli", "serve", str(folder / "run.yaml")]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--record", str(record), *options],
                env=os.environ | dict([mark.split("=")]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{config['gateway']['port']}"
        running.append(Serving(process, mark, url, record, log))
        return running[-1]

    yield start
    for serving in running:
        serving.clean()


@pytest.fixture(scope="module")
def make_load() -> Callable[..., Load]:
    return Load


@pytest.fixture(scope="module")
def make_witness() -> Callable[[int], Witness]:
    return Witness


@pytest.fixture(scope="session")
def locked() -> Callable[[int], list[int]]:
    return locked_gpus


@pytest.fixture(scope="module")
def power_signal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signal]:
    with Signal(tmp_path_factory.mktemp("signal") / "watts") as signal_:
        yield signal_


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    return until
