"""A node actor's class in this process, on emulated GPUs that it takes for real ones."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import ray

from steppe.config import EmulatedSection, NvmlSection, ZeusdSection
from steppe.device.nvml import open_gpus
from steppe.emulator.environment import STATE_VARIABLE
from steppe.emulator.library import Emulator
from steppe.energy.attribution import TokenWeights
from steppe.engine.control_block import ControlBlock, Telemetry
from steppe.errors import ConfigError, NoPermissionError
from steppe.fleet.messages import NodeSettings, ReplicaStatus, SetLimits
from steppe.fleet.node import clock_limits
from steppe.fleet.node import node as node_module
from steppe.fleet.node.clock_limits import ClockLimits
from steppe.fleet.stale_runs import remove_stale_runs
from steppe.roofline.files import read_model_shape, read_roofline

NVML = NvmlSection(kind="nvml", agent_socket=Path("/nowhere/agent.sock"))
MODEL = read_model_shape("llama-3.1-8b")
FRESH = ReplicaStatus("", False, 7)
"""A replica that has no engine yet."""


class Zeusd(socketserver.ThreadingUnixStreamServer):
    """Locks the clocks of the emulated GPUs as it is asked to."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Answer)
        self.asked: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Zeusd

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = {
            name: int(values[0]) for name, values in parse_qs(url.query).items() if name != "block"
        }
        self.server.asked.append(url.path)
        gpu = open_gpus()[query["gpu_ids"]]
        if url.path == "/gpu/set_gpu_locked_clocks":
            gpu.set_clock_limit(query["max_clock_mhz"])
        else:
            gpu.reset_clock_limit()
        self.send_response(200)
        self.end_headers()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def zeusd(tmp_path: Path) -> Iterator[Zeusd]:
    with Zeusd(tmp_path / "zeusd.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def emulator(make_emulator: Callable[[str], Emulator]) -> Emulator:
    return make_emulator("h100x2")


@pytest.fixture
def make_node(
    emulator: Emulator, virtual_fleet: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[NvmlSection], Any]:
    """Return a function that makes a node whose meters only the test reads; it has no agent."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NoPermissionError("only root may")

    monkeypatch.setattr(ray, "get_runtime_context", virtual_fleet.FakeContext)
    monkeypatch.setattr(clock_limits, "start_agent", refuse)
    monkeypatch.setattr(node_module, "run_folder", lambda *_: tmp_path / "run")
    monkeypatch.setattr(node_module, "remove_stale_runs", lambda *_: ())
    monkeypatch.setattr(node_module, "wait_for_first_tick", lambda *_: None)
    monkeypatch.setattr(node_module, "GpuMeters", virtual_fleet.HandMeters)
    monkeypatch.setattr(node_module.Node, "_close_windows", lambda _: None)

    def make(device: NvmlSection) -> Any:
        made: Any = node_module.Node(NodeSettings("run", device, 5.0, MODEL, 1))
        emulator.tick(0.2)
        made._meters.read()
        return made

    return make


def test_a_node_that_nobody_lets_limit_clocks_hides_the_knob_and_serves(
    make_node: Callable[[NvmlSection], Any],
) -> None:
    node = make_node(NVML)
    assert [gpu.clocks_mhz for gpu in node.info().gpus] == [(), ()]
    node.assign("replica-1", [0], (), FRESH)
    node.apply([SetLimits("replica-1", 900, 8, "awake")], 1.0)
    ((report,),) = [r.replicas for r in node.report(0)]
    assert (report.clock_mhz, report.batch_limit, report.controllable) == (0, 8, True)
    node.close()


def test_nobody_sweeps_the_folder_of_a_node_that_lives(
    make_node: Callable[[NvmlSection], Any], tmp_path: Path
) -> None:
    node = make_node(NVML)
    swept, processes = tmp_path / "swept", tmp_path / "proc"
    for made in (swept, processes):
        made.mkdir()
    run = (tmp_path / "run").rename(swept / "steppe-run-1111-a1b2c3d4")
    assert remove_stale_runs(swept, processes) == ()
    assert run.is_dir()
    node.close()


@pytest.mark.parametrize(
    ("device", "looks_at"), [(NVML, NVML.agent_socket), (EmulatedSection(kind="emulated"), None)]
)
def test_only_for_real_gpus_a_node_looks_for_the_agent_of_its_host(
    make_node: Callable[[Any], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: NvmlSection | EmulatedSection,
    looks_at: Path | None,
) -> None:
    asked: list[Path | None] = []

    def limit(folder: Path, lease_s: float, host_agent: Path | None) -> ClockLimits:
        asked.append(host_agent)
        return ClockLimits(folder, lease_s, None)

    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "gpus"))
    monkeypatch.setattr(node_module, "activate", lambda *_: None)
    monkeypatch.setattr(node_module, "ClockLimits", limit)
    make_node(device).close()
    assert asked == [looks_at]


def test_an_engine_that_runs_keeps_its_seat_when_its_replica_is_started_again(
    make_node: Callable[[NvmlSection], Any],
) -> None:
    node = make_node(NVML)
    seat = node.assign("replica-1", [0], (), FRESH)
    engine = ControlBlock(Path(seat.control_block))
    serving = ReplicaStatus("http://there", False, 7, seat.block_id)
    assert node.assign("replica-1", [0], (), serving) == seat
    node.apply([SetLimits("replica-1", None, 3, "awake")], 1.0)
    news = engine.read_limits(-1)
    assert news is not None
    assert news[1].batch_limit == 3
    engine.write_telemetry(Telemetry(running=2))
    ((report,),) = [r.replicas for r in node.report(0)]
    assert report.running == 2
    engine.close()
    node.close()


@pytest.mark.parametrize("block_id", [0, 1])
def test_a_replica_without_an_engine_on_its_block_is_seated_anew(
    make_node: Callable[[NvmlSection], Any], block_id: int
) -> None:
    node = make_node(NVML)
    seat = node.assign("replica-1", [0], (), FRESH)
    engine = ControlBlock(Path(seat.control_block))  # as long as it is mapped, its id is taken
    assert node.assign("replica-1", [0], (), replace(FRESH, block_id=block_id)) != seat
    engine.close()
    node.close()


def test_tokens_on_a_real_h100_weigh_as_the_roofline_says(
    make_node: Callable[[NvmlSection], Any],
) -> None:
    token = read_roofline("llama-3.1-8b", "h100", 1).token_weights()
    node = make_node(NVML)
    assert node._weights == TokenWeights(token.sequence_j, token.prompt_j, token.decode_j)
    node.close()


def test_clock_limits_go_through_the_zeusd_that_the_configuration_names(
    make_node: Callable[[NvmlSection], Any], emulator: Emulator, zeusd: Zeusd
) -> None:
    section = ZeusdSection(socket=Path(str(zeusd.server_address)))
    node = make_node(NvmlSection(kind="nvml", zeusd=section))
    assert len(node.info().gpus[0].clocks_mhz) > 100
    node.assign("replica-1", [1], (), FRESH)
    node.apply([SetLimits("replica-1", 907, 8, "awake")], 1.0)
    emulator.tick(0.5)
    assert emulator.snapshot(1).clock_lock_mhz == (210, 900)
    ((report,),) = [r.replicas for r in node.report(0)]
    assert (report.clock_mhz, report.controllable) == (900, True)
    node.close()
    emulator.tick(0.5)
    assert emulator.snapshot(1).clock_lock_mhz is None
    assert zeusd.asked == ["/gpu/set_gpu_locked_clocks", "/gpu/reset_gpu_locked_clocks"]


class SlowLimits:
    """Takes its time over the first limit, until it is let go."""

    can_set = True

    def __init__(self) -> None:
        self.is_in, self.go = threading.Event(), threading.Event()
        self.set_mhz: dict[str, int] = {}

    def set(self, uuid: str, clock_mhz: int) -> int:
        if not self.is_in.is_set():
            self.is_in.set()
            assert self.go.wait(10)
        self.set_mhz[uuid] = clock_mhz
        return clock_mhz

    def were_undone(self) -> bool:
        return True

    def close(self) -> None: ...


@pytest.fixture
def slow_node(make_node: Callable[[NvmlSection], Any]) -> Iterator[tuple[Any, SlowLimits]]:
    """Return a node with two replicas, and who sets its limits."""
    node, slow = make_node(NVML), SlowLimits()
    node._limits, node._has_clocks = slow, True
    for index, name in enumerate(("replica-1", "replica-2")):
        node.assign(name, [index], (), FRESH)
    yield node, slow
    node.close()


def test_limits_of_a_later_tick_are_the_last_ones_though_a_gpu_takes_its_time(
    slow_node: tuple[Any, SlowLimits],
) -> None:
    node, slow = slow_node
    changes = {
        1.0: [SetLimits(name, 900, 8, "awake") for name in node._seats],
        2.0: [SetLimits(name, None, 1, "asleep") for name in node._seats],
    }
    calls = [threading.Thread(target=node.apply, args=(changes[at_s], at_s)) for at_s in changes]
    calls[0].start()
    assert slow.is_in.wait(10)
    calls[1].start()
    while node._asked_s["replica-2"] < 2.0:
        calls[1].join(0.01)
    slow.go.set()
    for call in calls:
        call.join()
    seats = node._seats.values()
    assert [(seat.phase, seat.batch_limit, seat.clock_mhz) for seat in seats] == [
        ("asleep", 1, 210),
        ("asleep", 1, 210),
    ]
    assert set(slow.set_mhz.values()) == {210}


def test_a_limit_that_is_asked_for_again_does_not_undo_a_later_one(
    slow_node: tuple[Any, SlowLimits],
) -> None:
    node, slow = slow_node
    ((uuid, clock),) = node._seats["replica-1"].clocks.items()
    clock.request(1500, 0.0)
    looking = threading.Thread(target=node.report, args=(0,))
    looking.start()
    assert slow.is_in.wait(10)
    lower = [SetLimits("replica-1", 900, 8, "awake")]
    lowering = threading.Thread(target=node.apply, args=(lower, 1.0))
    lowering.start()
    lowering.join(0.2)  # it has to wait, or the old limit comes after it
    slow.go.set()
    looking.join()
    lowering.join()
    assert (slow.set_mhz[uuid], node._seats["replica-1"].clock_mhz) == (900, 900)


def test_a_report_does_not_wait_for_limits_that_are_being_applied(
    slow_node: tuple[Any, SlowLimits],
) -> None:
    node, slow = slow_node
    changes = [SetLimits("replica-1", 900, 8, "awake")]
    applying = threading.Thread(target=node.apply, args=(changes, 1.0))
    applying.start()
    assert slow.is_in.wait(10)
    assert len(node.report(0)) == 1
    assert slow.set_mhz == {}
    slow.go.set()
    applying.join()


def test_a_zeusd_that_is_not_there_is_told_before_anything_is_started(
    make_node: Callable[[NvmlSection], Any], tmp_path: Path
) -> None:
    section = ZeusdSection(socket=tmp_path / "nobody.sock")
    node = make_node(NvmlSection(kind="nvml", zeusd=section))
    with pytest.raises(ConfigError, match=r"^device\.zeusd: .*nobody\.sock: zeusd does not answer"):
        node.info()
    node.close()
