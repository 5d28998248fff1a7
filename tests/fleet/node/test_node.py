"""The node actor without Ray, on emulated GPUs configured as real ones."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.fixtures.virtual_fleet import meters_of, run_node_in_process

from steppe.config import EmulatedSection, NvmlSection, SiteSection, ZeusdSection
from steppe.device.nvml import open_gpus
from steppe.emulator.environment import STATE_VARIABLE
from steppe.emulator.library import Emulator
from steppe.energy.attribution import TokenWeights
from steppe.energy.node_rest import STATED_ERROR, NodeRest
from steppe.engine.control_block import ControlBlock, EngineLimits, Telemetry
from steppe.errors import (
    ConfigError,
    GpuFaultError,
    NoPermissionError,
    NotSupportedError,
)
from steppe.fleet.messages import (
    NodeSettings,
    ReplicaStatus,
    ServedModel,
    SetLimits,
)
from steppe.fleet.node import clock_limits
from steppe.fleet.node import node as node_module
from steppe.fleet.node.clock_limits import ClockLimits
from steppe.fleet.node.node import Node
from steppe.fleet.stale_runs import remove_stale_runs
from steppe.roofline.files import read_model_shape, read_roofline

NVML = NvmlSection(kind="nvml", agent_socket=Path("/nowhere/agent.sock"))
MODEL = read_model_shape("llama-3.1-8b")
DEADMAN_S = 3.0
FRESH = ReplicaStatus("", False)
"""A replica that has no engine yet."""


class Zeusd(socketserver.ThreadingUnixStreamServer):
    """Locks the clocks of the emulated GPUs."""

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


def _refuse(*_: object, **__: object) -> None:
    raise NoPermissionError("only root may")


MakeNode = Callable[[NvmlSection | EmulatedSection], Node]


@pytest.fixture
def make_node(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeNode:
    """Return a function that makes a node that has no agent and whose meters only tests read."""

    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(clock_limits, "start_agent", _refuse)

    def make(device: NvmlSection | EmulatedSection) -> Node:
        made = Node(NodeSettings("run", device, 5.0, {"": ServedModel(MODEL)}, DEADMAN_S))
        emulator.tick(0.2)
        meters_of(made).read()
        return made

    return make


def test_a_node_without_permission_to_limit_clocks_lists_none_and_serves(
    make_node: MakeNode,
) -> None:
    node = make_node(NVML)
    assert [gpu.clocks_mhz for gpu in node.info().gpus] == [(), ()]
    node.assign("replica-1", [0], (), FRESH)
    node.apply([SetLimits("replica-1", 900, 8, "awake")], 1.0)
    ((report,),) = [r.replicas for r in node.report(0)]
    assert (report.clock_mhz, report.batch_limit, report.controllable) == (0, 8, True)
    node.close()


@pytest.mark.parametrize(
    ("break_gpu", "fault"),
    [
        (lambda emulator: emulator.set_fault(1, "ecc", 2), "2 uncorrectable memory errors"),
        (lambda emulator: emulator.set_fault(1, "remap_failed", 1), "could not be remapped"),
        (lambda emulator: emulator.set_alive(1, alive=False), "GPU is lost"),
    ],
)
def test_nothing_starts_on_a_faulty_gpu_and_it_is_named(
    make_node: MakeNode, emulator: Emulator, break_gpu: Callable[[Emulator], None], fault: str
) -> None:
    node = make_node(NVML)
    name = open_gpus()[0].capabilities.name
    break_gpu(emulator)
    with pytest.raises(GpuFaultError, match=rf"^GPU 1 \({name}, GPU-.+\): .*{fault}"):
        node.assign("replica-2", [1], (), FRESH)
    node.assign("replica-1", [0], (), FRESH)
    ((first, second),) = [r.replicas for r in node.report(0)]
    assert (first.replica, second.replica) == ("replica-2", "replica-1"), "it is metered"
    node.close()


def test_a_gpu_that_was_lost_before_its_node_opened_is_refused_too(
    make_node: MakeNode, emulator: Emulator
) -> None:
    emulator.set_alive(1, alive=False)
    node = make_node(NVML)
    with pytest.raises(GpuFaultError, match=r"^GPU 1 could not be opened, found \[0\]$"):
        node.assign("replica-2", [1], (), FRESH)
    node.close()


@dataclass
class OneRefuses:
    """Sets the clocks of all GPUs but one, for which there is no permission."""

    refused: str
    set_mhz: dict[str, int] = field(default_factory=dict)
    can_set: bool = True
    can_set_power: bool = False

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        if uuid == self.refused:
            return None
        self.set_mhz[uuid] = clock_mhz
        return clock_mhz

    def refuses(self, uuid: str) -> bool:
        return uuid == self.refused

    def confirmed_mhz(self) -> dict[str, int]:
        return self.set_mhz

    def were_undone(self) -> bool:
        return False

    def close(self) -> None: ...


def test_one_gpu_without_permission_loses_its_clock_and_no_other_one(
    make_node: MakeNode, emulator: Emulator
) -> None:
    node: Any = make_node(NVML)
    node._limits, node._has_clocks = OneRefuses(open_gpus()[1].uuid), True
    for replica, index in (("replica-1", 0), ("replica-2", 1)):
        node.assign(replica, [index], (), FRESH)
    for second in range(1, 9):
        changes = [SetLimits(f"replica-{n}", 990, 8, "awake") for n in (1, 2)]
        node.apply(changes, float(second))
        emulator.tick(1.0)
        meters_of(node).read()
        *_, last = node.report(0)
    found = {r.replica: (r.clock_mhz, r.clock_is_free, r.controllable) for r in last.replicas}
    assert found == {"replica-1": (990, False, True), "replica-2": (0, True, True)}
    node.close()


def test_gpus_of_several_models_keep_their_own_names_and_limits(
    make_emulator: Callable[[str], Emulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = make_emulator("h100x1,a100x1")
    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(clock_limits, "start_agent", _refuse)
    node = Node(NodeSettings("run", NVML, 5.0, {"": ServedModel(MODEL)}))
    emulator.tick(0.2)
    meters_of(node).read()
    found = [(gpu.name, gpu.power_limit_w) for gpu in node.info().gpus]
    assert found == [("NVIDIA H100 80GB HBM3", 700.0), ("NVIDIA A100-SXM4-80GB", 400.0)]
    for index in range(2):
        node.assign(f"replica-{index}", [index], (), FRESH)
    emulator.tick(1.0)
    meters_of(node).read()
    (report,) = node.report(0)
    h100_j, a100_j = (replica.energy_j for replica in report.replicas)
    assert h100_j / a100_j == pytest.approx(70.0 / 60.0, rel=0.03)  # their idle draws
    node.close()


def test_a_node_reports_what_it_draws_beside_its_gpus(
    make_emulator: Callable[[str], Emulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = make_emulator("h100x2")
    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(clock_limits, "start_agent", _refuse)
    site = SiteSection(boundary="node", node_rest_w=1500.0)
    node = Node(NodeSettings("run", NVML, 5.0, {"": ServedModel(MODEL)}, site=site))
    emulator.tick(0.2)
    meters_of(node).read()
    for index in range(2):
        node.assign(f"replica-{index}", [index], (), FRESH)
    emulator.tick(1.0)
    meters_of(node).read()
    (report,) = node.report(0, is_last=True)
    assert report.rest == NodeRest(1500.0, STATED_ERROR * 1500.0, "stated")
    for replica in report.replicas:
        charged_uj = replica.idle_uj + replica.transition_uj
        assert charged_uj == pytest.approx((replica.energy_j + replica.beside_j) * 1e6, abs=2)
        window_s = replica.metered_s
        assert replica.beside_j == pytest.approx(1500.0 / 2 * window_s, rel=1e-6)
    node.close()


def test_rapl_on_a_machine_without_it_is_refused_with_the_key(
    make_emulator: Callable[[str], Emulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_emulator("h100x1")
    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(node_module, "open_host_meter", lambda _: None)
    site = SiteSection(rapl=True)
    with pytest.raises(NotSupportedError, match=r"^site\.rapl: asked for RAPL on .*, found none"):
        Node(NodeSettings("run", NVML, 5.0, {"": ServedModel(MODEL)}, site=site))


def test_the_limits_of_an_engine_reach_its_control_block(make_node: MakeNode) -> None:
    node = make_node(NVML)
    engine = ControlBlock(Path(node.assign("replica-1", [0], (), FRESH).control_block))
    node.apply([SetLimits("replica-1", 900, 8, "awake", 128, holds=False)], 1.0)
    news = engine.read_limits(-1)
    assert news is not None
    assert news[1] == EngineLimits(8, 128, hold=False)
    node.apply([SetLimits("replica-1", 900, 8, "awake")], 2.0)
    news = engine.read_limits(news[0])
    assert news is not None
    assert news[1] == EngineLimits(8, 0, hold=True)
    engine.close()
    node.close()


@dataclass
class HostTime:
    """A clock that a test moves."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_limits_hold_on_for_the_dead_man_time_after_the_report_that_a_tick_decided_on(
    make_node: MakeNode,
) -> None:
    node, now = make_node(NVML), HostTime()
    node._clock = now
    engine = ControlBlock(Path(node.assign("replica-1", [0], (), FRESH).control_block))
    (report,) = node.report(0)
    assert engine.deadline_s is None
    now.now_s = 101.0  # the tick took a while
    node.renew(report.number)
    assert engine.deadline_s == 100.0 + DEADMAN_S
    now.now_s = 102.0
    node.renew(report.number)  # a call that was late, or a controller that has read nothing new
    assert engine.deadline_s == 100.0 + DEADMAN_S
    *_, newer = node.report(0)
    node.renew(newer.number)
    assert engine.deadline_s == 102.0 + DEADMAN_S
    engine.close()
    node.close()


def test_a_replica_that_starts_again_gets_the_deadline_of_the_others(make_node: MakeNode) -> None:
    node, now = make_node(NVML), HostTime()
    node._clock = now
    node.assign("replica-1", [0], (), FRESH)
    node.renew(node.report(0)[-1].number)
    engine = ControlBlock(Path(node.assign("replica-1", [0], (), FRESH).control_block))
    assert engine.deadline_s == 100.0 + DEADMAN_S
    engine.close()
    node.close()


def test_a_node_that_restarts_renews_nothing_before_a_tick_has_read_its_report(
    make_node: MakeNode,
) -> None:
    first, now = make_node(NVML), HostTime()
    first._clock = now
    engine = ControlBlock(Path(first.assign("replica-1", [0], (), FRESH).control_block))
    (before,) = first.report(0)
    first.renew(before.number)
    second = make_node(NVML)
    second._clock = HostTime(200.0)
    second.renew(before.number)
    assert engine.deadline_s == 100.0 + DEADMAN_S
    second.renew(second.report(0)[-1].number)
    assert engine.deadline_s == 200.0 + DEADMAN_S
    engine.close()
    second.close()


def test_the_folder_of_a_live_node_is_not_removed_as_stale(
    make_node: MakeNode, tmp_path: Path
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
    ("device", "uses"), [(NVML, NVML.agent_socket), (EmulatedSection(kind="emulated"), None)]
)
def test_a_node_uses_the_agent_of_its_host_for_real_gpus_only(
    make_node: MakeNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: NvmlSection | EmulatedSection,
    uses: Path | None,
) -> None:
    asked: list[Path | None] = []

    def limit(
        folder: Path, lease_s: float, host_agent: Path | None, _: object, holder: str
    ) -> ClockLimits:
        asked.append(host_agent)
        return ClockLimits(folder, lease_s, None, holder=holder)

    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "gpus"))
    monkeypatch.setattr(node_module, "activate_section", lambda *_: None)
    monkeypatch.setattr(node_module, "ClockLimits", limit)
    make_node(device).close()
    assert asked == [uses]


def test_a_running_engine_keeps_its_control_block_when_its_replica_is_assigned_again(
    make_node: MakeNode,
) -> None:
    node = make_node(NVML)
    assignment = node.assign("replica-1", [0], (), FRESH)
    engine = ControlBlock(Path(assignment.control_block))
    serving = ReplicaStatus("http://there", False, assignment.block_id)
    assert node.assign("replica-1", [0], (), serving) == assignment
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
def test_a_replica_without_an_engine_on_its_block_gets_a_new_one(
    make_node: MakeNode, block_id: int
) -> None:
    node = make_node(NVML)
    assignment = node.assign("replica-1", [0], (), FRESH)
    engine = ControlBlock(Path(assignment.control_block))  # keeps its id in use
    assert node.assign("replica-1", [0], (), replace(FRESH, block_id=block_id)) != assignment
    engine.close()
    node.close()


def test_tokens_on_a_real_h100_have_the_weights_of_the_roofline(
    make_node: MakeNode,
) -> None:
    token = read_roofline("llama-3.1-8b", "h100", 1).token_weights()
    node = make_node(NVML)
    node.assign("replica-1", [0], (), FRESH)
    (meter,) = node._replicas.values()
    found = node._weights_of(meter)
    assert found == TokenWeights(token.sequence_j, token.prompt_j, token.decode_j)
    node.close()


def test_clock_limits_are_set_through_the_configured_zeusd(
    make_node: MakeNode, emulator: Emulator, zeusd: Zeusd
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
    """Blocks in the first limit until `go` is set."""

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
def slow_node(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Node, SlowLimits]]:
    """Return a node with two replicas, and its slow limits."""
    node, slow = make_node(NVML), SlowLimits()
    monkeypatch.setattr(node, "_limits", slow)
    monkeypatch.setattr(node, "_has_clocks", True)
    for index, name in enumerate(("replica-1", "replica-2")):
        node.assign(name, [index], (), FRESH)
    yield node, slow
    node.close()


def test_limits_of_a_later_tick_win_although_a_gpu_is_slow(
    slow_node: tuple[Node, SlowLimits],
) -> None:
    node, slow = slow_node
    changes = {
        1.0: [SetLimits(name, 900, 8, "awake") for name in node._replicas],
        2.0: [SetLimits(name, None, 1, "asleep") for name in node._replicas],
    }
    calls = [threading.Thread(target=node.apply, args=(changes[at_s], at_s)) for at_s in changes]
    calls[0].start()
    assert slow.is_in.wait(10)
    calls[1].start()
    while node._requested_s["replica-2"] < 2.0:
        calls[1].join(0.01)
    slow.go.set()
    for call in calls:
        call.join()
    meters = node._replicas.values()
    assert [(meter.phase, meter.limits.batch_limit, meter.clock_mhz) for meter in meters] == [
        ("asleep", 1, 210),
        ("asleep", 1, 210),
    ]
    assert set(slow.set_mhz.values()) == {210}


def test_a_limit_that_is_set_again_does_not_undo_a_later_one(
    slow_node: tuple[Node, SlowLimits],
) -> None:
    node, slow = slow_node
    ((uuid, clock),) = node._replicas["replica-1"].clocks.items()
    clock.request(1500, 0.0)
    looking = threading.Thread(target=node.report, args=(0,))
    looking.start()
    assert slow.is_in.wait(10)
    lower = [SetLimits("replica-1", 900, 8, "awake")]
    lowering = threading.Thread(target=node.apply, args=(lower, 1.0))
    lowering.start()
    lowering.join(0.2)  # it must wait, or the old limit is set after it
    slow.go.set()
    looking.join()
    lowering.join()
    assert (slow.set_mhz[uuid], node._replicas["replica-1"].clock_mhz) == (900, 900)


def test_a_report_does_not_wait_while_limits_are_applied(
    slow_node: tuple[Node, SlowLimits],
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


def test_a_missing_zeusd_is_an_error_of_the_first_call(make_node: MakeNode, tmp_path: Path) -> None:
    section = ZeusdSection(socket=tmp_path / "missing.sock")
    node = make_node(NvmlSection(kind="nvml", zeusd=section))
    with pytest.raises(ConfigError, match=r"^device\.zeusd: .*\.sock: zeusd does not answer"):
        node.info()
    node.close()
