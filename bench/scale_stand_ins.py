"""Stand-ins for nodes, replicas and clients: they answer the calls of a real controller.

Their reports are of the real types and have as many requests as asked for; the watts and tokens in
them are those of the operating point that the controller has set. One process answers for many
nodes, so that a machine with little memory can hold the controller of a large fleet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.engine.control_block import request_key
from steppe.fleet.gateway_actor import GatewayActor
from steppe.fleet.messages import (
    Drained,
    EndedRequests,
    NodeReport,
    ReplicaReport,
    ReplicaStatus,
    SetLimits,
)
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import (
    FinishedRequest,
    GatewaySettings,
    GatewayStatus,
    ModelStatus,
    Route,
)
from steppe.roofline.point import OperatingPoint

MODEL = "llama-3.1-8b"
PER_NODE = 8
PROMPT, OUTPUT = 1155, 211


@dataclass(frozen=True, slots=True)
class Work:
    """What each replica has to do.

    Attributes:
        running: Requests in its engine, and so in each of its reports.
        rate_rps: Requests that end there, 1/s.
    """

    running: int
    rate_rps: float

    @property
    def life_s(self) -> float:
        """How long a request runs, s."""
        return self.running / self.rate_rps

    def number(self, slot: int, now_s: float) -> int:
        """Return which request a slot of the engine has at a time, s; they begin at even times."""
        return int((now_s + slot * self.life_s / self.running) // self.life_s)


def engine_id(replica: str, slot: int, number: int) -> str:
    """Return the id of a request in its engine."""
    return f"chatcmpl-{replica}-{slot}-{number}"


@dataclass(slots=True)
class _Replica:
    """Limits and life of a stand-in."""

    clock_mhz: int = 0
    batch_limit: int = 1
    phase: str = "awake"
    frozen: bool = False


@dataclass(slots=True)
class _Node:
    """The windows of a node that are not acknowledged."""

    number: int = 0
    read_to: int = 0
    closed_s: float = field(default_factory=time.monotonic)
    reports: list[NodeReport] = field(default_factory=list)


class Machines:
    """Answers for some nodes and their replicas, as `Node` and `ReplicaActor` do."""

    def __init__(self, nodes: Mapping[str, list[str]], frontier: Frontier, work: Work) -> None:
        """Begin with all replicas awake.

        Args:
            nodes: Names of the replicas of each node.
            frontier: What they draw and give.
            work: What they have to do.
        """
        self._of_node, self._frontier, self._work = dict(nodes), frontier, work
        self._nodes = {node: _Node() for node in nodes}
        self._replicas = {name: _Replica() for names in nodes.values() for name in names}
        self._points: dict[tuple[int, int], OperatingPoint] = {}

    def report(self, node: str, after: int, is_last: bool = False) -> list[NodeReport]:
        """Close a window, see `Node.report`."""
        kept, now_s = self._nodes[node], time.monotonic()
        kept.number, kept.read_to = kept.number + 1, after
        width_s, kept.closed_s = now_s - kept.closed_s, now_s
        replicas = tuple(self._report(name, width_s) for name in self._of_node[node])
        kept.reports.append(NodeReport(kept.number, replicas))
        return [report for report in kept.reports if report.number > after]

    def settle(self, node: str, acknowledged: int) -> list[NodeReport]:
        """Return windows for the accounts, see `Node.settle`."""
        kept = self._nodes[node]
        done = min(acknowledged, kept.read_to)
        kept.reports = [report for report in kept.reports if report.number > done]
        return [report for report in kept.reports if report.number > acknowledged]

    def apply(self, node: str, changes: list[SetLimits], requested_s: float) -> None:
        """Set limits."""
        for change in changes:
            replica = self._replicas[change.replica]
            replica.clock_mhz = change.clock_mhz or self._frontier.floor.clock_mhz
            replica.batch_limit, replica.phase = change.batch_limit, change.phase

    def renew(self, node: str, number: int) -> None:
        """Let the limits hold on."""

    def ping(self, node: str) -> None:
        """Return."""

    def status(self, replica: str) -> ReplicaStatus:
        """Return the state of a replica."""
        return ReplicaStatus(f"http://127.0.0.1/{replica}", self._replicas[replica].frozen, 1)

    def freeze(self, replica: str) -> ReplicaStatus:
        """Stop stepping."""
        self._replicas[replica].frozen = True
        return self.status(replica)

    def thaw(self, replica: str) -> ReplicaStatus:
        """Continue stepping."""
        self._replicas[replica].frozen = False
        return self.status(replica)

    def _report(self, name: str, width_s: float) -> ReplicaReport:
        replica, frontier = self._replicas[name], self._frontier
        point, sleeps = self._point(replica.clock_mhz, replica.batch_limit), replica.frozen
        draw_w = frontier.asleep_w if sleeps else point.draw_w
        tokens = 0 if sleeps else int(point.output_tps * width_s)
        running = self._work.running
        each_uj = 0 if sleeps else int(1e6 * draw_w * width_s / running)
        now_s = time.time()
        keys = (
            []
            if sleeps
            else [
                request_key(engine_id(name, slot, self._work.number(slot, now_s)))
                for slot in range(running)
            ]
        )
        energy_uj = int(1e6 * draw_w * width_s)
        return ReplicaReport(
            replica=name,
            clock_mhz=replica.clock_mhz,
            batch_limit=replica.batch_limit,
            draw_w=draw_w,
            energy_j=energy_uj / 1e6,
            error_j=0.1,
            quality="emulated",
            running=running,
            output_tokens=tokens,
            requests_uj=dict.fromkeys(keys, each_uj),
            tokens=dict.fromkeys(keys, (0, tokens // running)),
            idle_uj=energy_uj - each_uj * len(keys),
            transition_uj=0,
            max_idle_w=frontier.idle_w,
            stepping=not sleeps,
            work=None if sleeps else self._steps(replica, tokens, energy_uj / 1e6, width_s),
        )

    def _point(self, clock_mhz: int, batch_limit: int) -> OperatingPoint:
        """Return the nearest operating point: a plan for other lengths has points between them."""
        limits = clock_mhz, batch_limit
        if limits not in self._points:
            self._points[limits] = min(
                self._frontier.candidates,
                key=lambda p: (abs(p.clock_mhz - clock_mhz), abs(p.batch_limit - batch_limit)),
            )
        return self._points[limits]

    def _steps(self, replica: _Replica, tokens: int, energy_j: float, width_s: float) -> ClockWork:
        steps = max(1.0, tokens / self._work.running)
        return ClockWork(
            replica.clock_mhz, steps, 1.0, tokens, PROMPT, tokens * PROMPT, width_s, energy_j
        )


@dataclass(frozen=True)
class StandIn:
    """The handle of a node or a replica: its calls go to the process that answers for it."""

    machines: Any
    name: str

    def __getattr__(self, method: str) -> _Method:
        if method.startswith("_"):  # as pickle asks for
            raise AttributeError(method)
        return _Method(getattr(self.machines, method), self.name)


@dataclass(frozen=True)
class _Method:
    method: Any
    name: str

    def remote(self, *arguments: Any) -> Any:
        """Call it."""
        return self.method.remote(self.name, *arguments)


class FedGateway(GatewayActor):
    """A real gateway that takes all that a controller sends; the counts of its clients are made.

    Attributes of what it took are its own: `taken_s` has the time of each call, s.
    """

    def __init__(self, settings: GatewaySettings, work: Work, busy: int) -> None:
        """Begin with as many busy replicas."""
        super().__init__(settings)
        self._work, self._busy = work, busy
        self._began_s = self._drained_s = time.time()
        self.taken_s: dict[str, list[float]] = {}
        self.taken_bytes: dict[str, int] = {}
        self._names: list[str] = []

    async def status(self) -> GatewayStatus:
        """Return counts as of clients that keep all replicas busy."""
        await super().status()
        arrived = int(self._work.rate_rps * self._busy * (time.time() - self._began_s))
        counts = ModelStatus(
            waiting=self._busy,
            arrived=arrived,
            finished=arrived,
            answered=arrived,
            prompt_tokens=PROMPT * arrived,
            latency=LatencyCounts(first_tokens=arrived, ended=arrived),
        )
        outstanding = dict.fromkeys(self._names, self._work.running)
        return GatewayStatus.of({MODEL: counts}, outstanding)

    async def set_routes(
        self, routes: tuple[Route, ...], retry_after_s: Mapping[str, float | None]
    ) -> None:
        """Note how long the real one takes."""
        began_s = time.perf_counter()
        await super().set_routes(routes, retry_after_s)
        self._note("set_routes", began_s)
        self._names = [route.replica for route in routes]

    async def set_metrics(self, text: bytes) -> None:
        """Note how long the real one takes, and how long the text is."""
        began_s, self.taken_bytes["set_metrics"] = time.perf_counter(), len(text)
        await super().set_metrics(text)
        self._note("set_metrics", began_s)

    async def set_fleet_state(self, state: bytes) -> None:
        """Note how long the real one takes, and how long the text is."""
        began_s, self.taken_bytes["set_fleet_state"] = time.perf_counter(), len(state)
        await super().set_fleet_state(state)
        self._note("set_fleet_state", began_s)

    async def drain(self, known: Drained, closing: bool = False) -> EndedRequests:
        """Add the requests that ended in the stand-ins meanwhile."""
        now_s, before_s = time.time(), self._drained_s
        self._drained_s = now_s
        for name in self._names:
            for slot in range(self._work.running):
                number = self._work.number(slot, before_s)
                if number != self._work.number(slot, now_s):
                    self._ended.append(self._request(name, engine_id(name, slot, number), now_s))
        return await super().drain(known, closing)

    async def taken(self) -> tuple[dict[str, list[float]], dict[str, int]]:
        """Return how long each kind of message took, s, and how long the last one was, bytes."""
        return self.taken_s, self.taken_bytes

    def _note(self, what: str, began_s: float) -> None:
        self.taken_s.setdefault(what, []).append(time.perf_counter() - began_s)

    def _request(self, replica: str, id_: str, now_s: float) -> FinishedRequest:
        return FinishedRequest(
            id=id_,
            engine_id=id_,
            tenant="default",
            priority="standard",
            arrival_s=now_s - self._began_s,
            arrival_epoch_s=now_s,
            ttft_s=0.2,
            e2e_s=self._work.life_s,
            prompt_tokens=PROMPT,
            cached_tokens=0,
            output_tokens=OUTPUT,
            finish="length",
            status=200,
            replica=replica,
            streamed=True,
            model=MODEL,
        )
