"""A fleet in one process and in virtual time, and the truth about its draw.

Real are the node with its meters and seats, the agent's desk, the live fleet, the control loop and
the policy; the GPUs are emulated. Engines always have work, and step as the emulated pace says.
"""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pynvml
import pytest
import ray

from steppe import errors
from steppe.agent import client
from steppe.agent.host_limits import HostLimits
from steppe.agent.lease_file import owned_lease_file
from steppe.agent.lease_server import LeaseServer, Peer
from steppe.agent.loss_policy import Restore
from steppe.agent.messages import Answer, RefusedAnswer, Request
from steppe.config import ControlSection, EmulatedSection, PaceSection
from steppe.control.loop import ControlLoop
from steppe.control.policy.choose import PoolFacts, make_policy
from steppe.control.reconcile import DrainRule
from steppe.control.tick_times import TickTimes
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.environment import STATE_VARIABLE
from steppe.emulator.library import Emulator
from steppe.energy.gpu_meters import POLL_S, GpuMeters
from steppe.engine.control_block import ControlBlock, RequestWork, StepRecord, Telemetry
from steppe.fleet.controller.live_fleet import LiveFleet
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import NodeSettings, Placement, ReplicaReport, ReplicaStatus
from steppe.fleet.node import clock_limits
from steppe.fleet.node import node as node_module
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewayStatus

GPUS = 3
PACE = PaceSection(weights_s=0.03, decode_s=0.004, prefill_s=0.001)
PEER, LEASE_S = Peer(1, 1), 1e5
SECOND = 1_000_000_000


@dataclass
class VirtualTime:
    """Stands for the module `time`."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Engine:
    """Steps as the emulated pace says, in virtual time, with as many sequences as it may."""

    def __init__(self, index: int, emulator: Emulator, block: ControlBlock) -> None:
        self.index, self.emulator, self.block = index, emulator, block
        self.frozen, self.limit, self.tokens = False, 1, 0
        self._seen, self._done, self._begun_s = -1, 0.0, 0.0
        emulator.set_context(index, os.getpid(), 0)

    def run(self, now_s: float) -> None:
        news = self.block.read_limits(self._seen)
        if news is not None:
            self._seen, self.limit = news[0], news[1].batch_limit
        if self.frozen:
            self.emulator.set_load(self.index, core=0.0, mem=0.0, valid_s=0.0)
            return
        core_s = PACE.decode_s * self.limit / self.emulator.speed(self.index)
        step_s = PACE.weights_s + core_s
        core, mem = core_s / step_s, PACE.weights_s / step_s
        self.emulator.set_load(self.index, core=core, mem=mem, valid_s=3600.0)
        self._done += POLL_S / step_s
        if self._done >= 1.0:
            work = tuple(RequestWork(key, 0, 1, 1) for key in range(self.limit))
            record = StepRecord(round(self._begun_s * SECOND), round(now_s * SECOND), work)
            self.block.append_step(record)
            self._begun_s, self._done, self.tokens = now_s, 0.0, self.tokens + self.limit
        self.block.write_telemetry(Telemetry(running=self.limit, output_tokens=self.tokens))

    def finish(self) -> None:
        """Have no request left, so that no step is owed for."""
        self.frozen = True
        self.block.write_telemetry(Telemetry(output_tokens=self.tokens))

    def freeze(self) -> ReplicaStatus:
        self.frozen = True
        return self.status()

    def thaw(self) -> ReplicaStatus:
        self.frozen = False
        return self.status()

    def status(self) -> ReplicaStatus:
        return ReplicaStatus(f"http://replica-{self.index}", self.frozen, 1)


class Gateway:
    """More requests wait than the fleet can serve."""

    def status(self) -> GatewayStatus:
        return GatewayStatus(99, {}, 0, 0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Done:
    answer: Any


class Actor:
    """A handle whose remote calls run at once."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return _Remote(getattr(self._target, name))


@dataclass(frozen=True)
class _Remote:
    method: Callable[..., Any]

    def remote(self, *args: Any) -> Done:
        return Done(self.method(*args))


class DeskLine:
    """A line to the desk of an agent, without a socket in between."""

    def __init__(self, desk: LeaseServer, time: VirtualTime) -> None:
        self._desk, self._time = desk, time

    def ask(self, request: Request) -> Answer:
        answer = self._desk.answer(request, PEER, self._time.now_s)
        if isinstance(answer, RefusedAnswer):
            raise getattr(errors, answer.error)(answer.message)
        return answer

    def close(self) -> None: ...

    def __enter__(self) -> DeskLine:
        return self

    def __exit__(self, *_: object) -> None: ...


class FakeAgent:
    """The process of an agent, which lives."""

    socket = Path("agent.sock")
    has_ended = False

    def stop(self) -> None: ...


class FakeContext:
    def get_node_id(self) -> str:
        return "node-1"


class HandMeters(GpuMeters):
    """Meters that are read when the test says so."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def read(self) -> None:
        for uuid, meter in self._meters.items():
            self._read(uuid, meter)


class World:
    """The fleet, and the truth about its draw."""

    def __init__(
        self,
        emulator: Emulator,
        time: VirtualTime,
        desk: LeaseServer,
        budget: Any,
        frontier: Frontier,
    ) -> None:
        self.emulator, self.time, self.desk = emulator, time, desk
        self.patches = pytest.MonkeyPatch()
        device = EmulatedSection(kind="emulated", profile="h100", count=GPUS, pace=PACE)
        self.node: Any = node_module.Node(NodeSettings("run", device, LEASE_S, None, 1))
        self.engines: list[Engine] = []
        self.truth: list[tuple[float, list[float]]] = []
        self.draws_w: list[float] = []
        self.reports: list[ReplicaReport] = []
        self._booked_to = 0
        self.wait(0.5)
        self.fleet = LiveFleet(Actor(Gateway()), budget, 0.4)
        self.fleet.last_step_mhz = frontier.floor.clock_mhz
        self.fleet.nodes.actors["node-1"] = Actor(self.node)
        for index in range(GPUS):
            self._add(f"replica-{index}", index)
        pool = PoolFacts(frontier, GPUS, 10.0, 300.0, budget.forecast)
        policy = make_policy(ControlSection(), pool)
        times = TickTimes(budget.gpu_budget_at, 1.0, 0.0)
        self.loop = ControlLoop(self.fleet, policy, DrainRule(frontier.floor, 8.0), times)

    def _add(self, name: str, index: int) -> None:
        seat = self.node.assign(name, [index], (), ReplicaStatus("", False, 1))
        engine = Engine(index, self.emulator, ControlBlock(Path(seat.control_block)))
        self.engines.append(engine)
        self.begun_s = self.node._seats[name].seen_s
        place = Placement(name, Actor(engine), "node-1", Actor(self.node), [index], ())
        self.fleet.handles[name] = ReplicaHandle(place)
        self.fleet.handles[name].adopt(engine.status(), 0.0)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / POLL_S)):
            self.emulator.tick(POLL_S)
            self.time.now_s += POLL_S
            for engine in self.engines:
                engine.run(self.time.now_s)
            self.node._meters.read()
            self.desk.pass_time(self.time.now_s)
            energies_j = [self.emulator.snapshot(index).energy_j for index in range(GPUS)]
            self.truth.append((self.time.now_s, energies_j))

    def true_j(self, index: int, at_s: float) -> float:
        """Return what a GPU has truly drawn until a time, interpolated, J."""
        after = bisect.bisect_left(self.truth, at_s, key=lambda point: point[0])
        (a_s, a_j), (b_s, b_j) = self.truth[after - 1], self.truth[after]
        return a_j[index] + (b_j[index] - a_j[index]) * (at_s - a_s) / (b_s - a_s)

    def serve(self, seconds: int, events: Mapping[int, Callable[[], None]]) -> None:
        """Tick once a second, let happen what is to happen, and note the true draw."""
        for second in range(seconds):
            if second in events:
                events[second]()
            self.loop.tick(float(second))
            self._book()
            before_j = sum(self.truth[-1][1])
            self.wait(1.0)
            self.draws_w.append(sum(self.truth[-1][1]) - before_j)
        for engine in self.engines:
            engine.finish()
        self.wait(0.5)
        self.node.report(0)
        self._book()

    def _book(self) -> None:
        for report in self.node.settle(self._booked_to):
            self.reports += report.replicas
            self._booked_to = report.number

    def fenced(self) -> list[str]:
        return [name for name, handle in self.fleet.handles.items() if handle.is_fenced]


@contextlib.contextmanager
def virtual_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: Any, frontier: Frontier
) -> Iterator[World]:
    """Make a fleet of one node; it ends with the block."""
    state, time = tmp_path / "gpus", VirtualTime()
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    for name in ("LD_LIBRARY_PATH", "STEPPE_EMULATED_GPUS"):
        monkeypatch.setenv(name, "")
    emulator = Emulator.attach(build_library(), state, f"h100x{GPUS}")
    emulator.use_virtual_clock(True)
    monkeypatch.setattr(ray, "wait", lambda calls, **_: (list(calls), []))
    monkeypatch.setattr(ray, "get", lambda call, **_: call.answer)
    monkeypatch.setattr(ray, "get_runtime_context", FakeContext)
    monkeypatch.setattr(node_module, "run_folder", lambda *_: tmp_path / "run")
    monkeypatch.setattr(node_module, "remove_stale_runs", lambda *_: ())
    monkeypatch.setattr(node_module, "wait_for_first_tick", lambda *_: None)
    monkeypatch.setattr(node_module, "GpuMeters", partial(HandMeters, clock=time.monotonic))
    monkeypatch.setattr(node_module.Node, "_close_windows", lambda _: None)
    for module in (node_module, clock_limits):
        monkeypatch.setattr(module, "time", time)
    with owned_lease_file(tmp_path / "lease.json") as file:
        desk = LeaseServer(HostLimits(open_gpus(), file), Restore(), LEASE_S)
        monkeypatch.setattr(clock_limits, "start_agent", lambda *_, **__: FakeAgent())
        monkeypatch.setattr(client, "AgentConnection", lambda _: DeskLine(desk, time))
        made = World(emulator, time, desk, budget, frontier)
        yield made
        made.patches.undo()
        emulator.clear_faults()
        made.node.close()
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()
