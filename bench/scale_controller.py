"""The controller side of a large fleet alone: real controller, gateway and books, no replica.

Nodes and replicas are stand-ins, see `scale_stand_ins.py`. This is no live fleet: nothing serves a
request. What is real is what a controller does in a tick, over Ray, for so many replicas; and what
gateway and driver do with what it sends.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from scale_figures import spread
from scale_processes import children, cpu_s, memory_bytes
from scale_simulator import config_of
from scale_stand_ins import MODEL, PER_NODE, FedGateway, Machines, StandIn, Work
from steppe.config import RunConfig
from steppe.fleet.cluster import LOCAL, connect, leave
from steppe.fleet.driver.bookkeeper import Bookkeeper
from steppe.fleet.driver.controller_link import ControllerLink
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.messages import Placement
from steppe.frontier.pareto import Frontier
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.server import GatewaySettings
from steppe.report.record_folder import Recorder
from steppe.run.simulated_fleet import frontier_for, simulated_fleet

NODES_PER_PROCESS = 64
WARM_UP = 5
"""Ticks that do not count: the fleet is adopted, and its plan settles."""


@dataclass(slots=True)
class Session:
    """A controller with its stand-ins.

    Attributes:
        config: The run.
        frontier: Operating points of one replica.
        nodes: Handles of the nodes, by name.
        placements: Where the replicas run.
        gateway: The gateway's actor.
        link: The driver's side of the controller.
        books: The driver's books.
    """

    config: RunConfig
    frontier: Frontier
    nodes: dict[str, StandIn]
    placements: list[Placement]
    gateway: Any
    link: ControllerLink
    books: Bookkeeper


@dataclass(slots=True)
class Samples:
    """What was measured, once in each control period."""

    ticks_s: list[float] = field(default_factory=list)
    polls_s: list[float] = field(default_factory=list)
    books_s: list[float] = field(default_factory=list)
    records_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    awake: list[float] = field(default_factory=list)
    requests: int = 0
    tick_bytes: int = 0


def start(replicas: int, work: Work) -> Session:
    """Start everything; the loop begins."""
    config = config_of(replicas, 3600.0)
    frontier = frontier_for(config, simulated_fleet(config).kind)
    names = [f"replica-{n + 1}" for n in range(replicas)]
    by_node = {
        f"node-{n // PER_NODE + 1}": names[n : n + PER_NODE] for n in range(0, replicas, PER_NODE)
    }
    machines = _machines(by_node, frontier, work)
    nodes = {node: StandIn(machines[node], node) for node in by_node}
    placements = [
        Placement(name, StandIn(machines[node], name), node, nodes[node], [n], (), model=MODEL)
        for node, of_node in by_node.items()
        for n, name in enumerate(of_node)
    ]
    lifetime = ActorLifetime(f"scale-{replicas}")
    settings = GatewaySettings("127.0.0.1", 0, 1000 * replicas, 30.0, (GatewayModel(MODEL, 2.0),))
    name = lifetime.name("gateway")
    gateway = (
        ray.remote(FedGateway).options(**lifetime.options(name)).remote(settings, work, replicas)
    )
    ray.get(gateway.open.remote(), timeout=60)
    link = ControllerLink(lifetime, config.control.period_s)
    link.frontiers, link.models = {"": frontier}, {"": MODEL}
    link.start(config, (name,))
    books = Bookkeeper({"": gateway}, "emulated", time.time())
    books.skip(nodes)
    link.begin(placements, {}, "emulated", time.monotonic())
    return Session(config, frontier, nodes, placements, gateway, link, books)


def _machines(by_node: Mapping[str, list[str]], frontier: Frontier, work: Work) -> dict[str, Any]:
    """Return the process of each node."""
    found: dict[str, Any] = {}
    names = list(by_node)
    for first in range(0, len(names), NODES_PER_PROCESS):
        own = {node: by_node[node] for node in names[first : first + NODES_PER_PROCESS]}
        actor = ray.remote(Machines).options(num_cpus=0).remote(own, frontier, work)
        found |= dict.fromkeys(own, actor)
    return found


def follow(session: Session, ticks: int, folder: Path) -> Samples:
    """Do what a driver does, once in each period, until so many ticks have been measured."""
    found, seen = Samples(), 0
    with Recorder(folder) as recorder:
        before_s = 0.0
        while seen < ticks + WARM_UP:
            time.sleep(session.config.control.period_s)
            began_s = time.perf_counter()
            update = session.link.poll()
            session.link.status = update.status or session.link.status
            polled_s = time.perf_counter()
            session.books.collect(session.nodes)
            closed = [r for tick in update.ticks for r in session.books.close_tick(tick.t_s)]
            booked_s = time.perf_counter()
            for tick in update.ticks:
                recorder.tick(tick)
            for request in closed:
                recorder.request(request)
            done_s = time.perf_counter()
            seen += len(update.ticks)
            if seen <= WARM_UP or not update.ticks:
                continue
            found.polls_s.append(polled_s - began_s)
            found.books_s.append(booked_s - polled_s)
            found.records_s.append(done_s - booked_s)
            found.requests += len(closed)
            found.tick_bytes = len(pickle.dumps(update.ticks[-1]))
            for tick in update.ticks:
                found.ticks_s += [] if tick.took_s is None else [tick.took_s]
                found.gaps_s += [tick.t_s - before_s] if before_s else []
                found.awake.append(float(len(tick.awake)))
                before_s = tick.t_s
    return found


def measure(replicas: int, work: Work, ticks: int, folder: Path) -> dict[str, Any]:
    """Return the row of one size."""
    connect(LOCAL)
    try:
        session = start(replicas, work)
        controller, began_s = _process("Controller"), time.monotonic()
        cpu_before_s = cpu_s(controller)
        samples = follow(session, ticks, folder)
        cores = (cpu_s(controller) - cpu_before_s) / (time.monotonic() - began_s)
        taken_s, taken_bytes = ray.get(session.gateway.taken.remote(), timeout=60)
        calls = [node.report.remote(0) for node in session.nodes.values()]
        reports = [windows[-1] for windows in ray.get(calls, timeout=60)]
        memory = {
            "controller": memory_bytes(controller),
            "gateway": memory_bytes(_process("FedGateway")),
            "driver": memory_bytes(os.getpid()),
        }
        return {
            "replicas": replicas,
            "running": work.running,
            "ended_rps": work.rate_rps * replicas,
            "tick_s": spread(samples.ticks_s),
            "between_ticks_s": spread(samples.gaps_s),
            "controller_cores": cores,
            "awake_mean": sum(samples.awake) / len(samples.awake),
            "report_bytes": max(map(_report_bytes, reports)),
            "driver_s": {
                "poll": spread(samples.polls_s),
                "books": spread(samples.books_s),
                "record": spread(samples.records_s),
            },
            "recorded_rps": samples.requests / len(samples.ticks_s),
            "tick_bytes": samples.tick_bytes,
            "gateway_s": {name: spread(times[WARM_UP:]) for name, times in taken_s.items()},
            "gateway_bytes": taken_bytes,
            "memory_bytes": memory,
        }
    finally:
        leave(LOCAL)


def _report_bytes(report: Any) -> float:
    """Return the size of the part of one replica in a report of a node, bytes."""
    return len(pickle.dumps(report, protocol=5)) / len(report.replicas)


def _process(actor: str) -> int:
    """Return the process of an actor of this cluster."""
    (found,) = [
        p for p, title in children(os.getpid()).items() if title.startswith(f"ray::{actor}")
    ]
    return found
