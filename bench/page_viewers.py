"""What do viewers of the live page cost a gateway, and does one that stalls delay a tick?

A gateway in a process of its own takes the state of a fleet once a second, as from a controller.
Its CPU time and the lateness of its ticks are measured without viewers, with viewers that read, and
with as many more that read nothing. Phases take turns, and each is repeated.

    python bench/page_viewers.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings
from steppe.measure.provenance import source_commit
from targets import at_most

TICK_S = 1.0
MOST_CORE_SHARE, MOST_DELAY_S = 0.02, 0.005
PHASES = ("none", "reading", "stalled")


def fleet_state(t_s: float, replicas: int) -> bytes:
    """Return what a controller says of a fleet of made-up replicas."""
    draw_w = 300.0 * replicas + t_s % 7
    plan: list[dict[str, Any]] = [
        {
            "replica": f"replica-{index}",
            "pool": None,
            "state": "awake",
            "depth": None,
            "fault": None,
            "conditions": [],
            "clock_mhz": 1200 + int(t_s) % 5,
            "batch_limit": 64,
            "draw_w": draw_w / replicas,
            "output_tps": 900.0 + t_s % 11,
        }
        for index in range(replicas)
    ]
    tps = sum(each["output_tps"] for each in plan)
    power = {
        "budget_w": 320.0 * replicas,
        "budget_source": "wind",
        "draw_w": draw_w,
        "headroom_w": 320.0 * replicas - draw_w,
        "supply_w": 330.0 * replicas,
        "curtailed_w": 0.0,
        "stale": False,
        "battery": None,
        "energy_source": "modelled",
        "boundary": "gpu",
    }
    tick = {
        "demand_tps": tps,
        "output_tps": tps,
        "energy_j": draw_w,
        "output_tokens": int(tps),
        "waiting": 3,
        "running": 64 * replicas,
        "bound": None,
    }
    forecast = [{"in_s": 300.0 * step, "budget_w": 320.0 * replicas} for step in range(12)]
    return json.dumps(
        {
            "at": time.time(),
            "t_s": t_s,
            "tick": tick,
            "power": power,
            "models": {"m": {"state": "awake", "replicas": replicas, "output_tps": tps}},
            "plan": plan,
            "forecast": forecast,
        }
    ).encode()


@dataclass
class Meter:
    """CPU time and the lateness of ticks since the last reading, in s."""

    began_s: float = field(default_factory=time.perf_counter)
    cpu_s: float = field(default_factory=time.process_time)
    late_s: list[float] = field(default_factory=list)

    def read(self) -> dict[str, float]:
        """Return what was measured, and begin anew."""
        now_s, cpu_s = time.perf_counter(), time.process_time()
        found = {
            "core_share": (cpu_s - self.cpu_s) / (now_s - self.began_s),
            "late_median_s": statistics.median(self.late_s),
            "late_most_s": max(self.late_s),
            "ticks": float(len(self.late_s)),
        }
        self.began_s, self.cpu_s, self.late_s = now_s, cpu_s, []
        return found


def serve(parent: Connection, replicas: int) -> None:
    """Run the gateway until the parent says "end"; answer each other word with the meter."""
    asyncio.run(_serve(parent, replicas))


async def _serve(parent: Connection, replicas: int) -> None:
    gateway = Gateway(GatewaySettings("127.0.0.1", 0, 10, 30.0, (GatewayModel("m", 2.0),)))
    parent.send(await gateway.start())
    meter, ended = Meter(), asyncio.Event()

    def answer() -> None:
        if parent.recv() == "end":
            ended.set()
        else:
            parent.send(meter.read())

    asyncio.get_running_loop().add_reader(parent.fileno(), answer)
    due_s, number = time.perf_counter(), 0
    while not ended.is_set():
        number, due_s = number + 1, due_s + TICK_S
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        gateway.set_fleet_state(fleet_state(float(number), replicas))
        meter.late_s.append(time.perf_counter() - due_s)
    await gateway.stop()


@dataclass
class Reader:
    """A viewer that reads, and how many events it had."""

    events: int = 0

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        """Read its stream until it is cancelled."""
        async for chunk in answer.content.iter_any():
            self.events += chunk.count(b"data:")


async def phase(
    url: str, gateway: Connection, reading: int, stalled: int, seconds: float
) -> dict[str, float]:
    """Return the readings of a gateway with so many viewers."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        readers = [Reader() for _ in range(reading)]
        for reader in readers:
            answer = await stack.enter_async_context(client.get(url + "/steppe/v1/live"))
            task = asyncio.create_task(reader.read(answer))
            stack.callback(task.cancel)
        for _ in range(stalled):
            stack.callback(_stall(url).close)
        await asyncio.sleep(2 * TICK_S)
        gateway.send("begin")
        gateway.recv()
        before = sum(reader.events for reader in readers)
        await asyncio.sleep(seconds)
        gateway.send("read")
        found: dict[str, float] = gateway.recv()
        events = sum(reader.events for reader in readers) - before
        return {**found, "events_per_viewer": events / max(1, reading)}


def _stall(url: str) -> socket.socket:
    """Return a viewer that asks for the stream and reads nothing of it."""
    host, port = url.removeprefix("http://").split(":")
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stalled.connect((host, int(port)))
    stalled.sendall(b"GET /steppe/v1/live HTTP/1.1\r\nHost: a\r\n\r\n")
    return stalled


def measure(viewers: int, replicas: int, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Return the readings of every phase, in turns."""
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=serve, args=(theirs, replicas))
    process.start()
    url = ours.recv()
    rows = []
    for _ in range(repeats):
        for name in PHASES:
            reading = 0 if name == "none" else viewers
            stalled = viewers if name == "stalled" else 0
            found = asyncio.run(phase(url, ours, reading, stalled, seconds))
            rows.append({"viewers": name, **found})
    ours.send("end")
    process.join()
    return rows


def means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean of each phase, and the worst lateness."""
    found = {}
    for name in PHASES:
        own = [row for row in rows if row["viewers"] == name]
        found[name] = {
            "core_share": statistics.mean(row["core_share"] for row in own),
            "core_share_least": min(row["core_share"] for row in own),
            "core_share_most": max(row["core_share"] for row in own),
            "events_per_viewer": statistics.mean(row["events_per_viewer"] for row in own),
            "late_median_s": statistics.median(row["late_median_s"] for row in own),
            "late_most_s": max(row["late_most_s"] for row in own),
        }
    return found


def document(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the last line of the benchmark."""
    mean = means(rows)
    cost = mean["reading"]["core_share"] - mean["none"]["core_share"]
    delay_s = mean["stalled"]["late_median_s"] - mean["reading"]["late_median_s"]
    return {
        "bench": "page_viewers",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "arguments": vars(arguments),
        "versions": {name: version(name) for name in ("aiohttp", "orjson")},
        "results": [{"viewers": name, **values} for name, values in mean.items()],
        "targets": [
            at_most(f"cost of {arguments.viewers} viewers", cost, "cores", MOST_CORE_SHARE),
            at_most("delay of a tick by stalled viewers, median", delay_s, "s", MOST_DELAY_S),
        ],
    }


def main() -> None:
    """Measure, and print a table and the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = measure(arguments.viewers, arguments.replicas, arguments.seconds, arguments.repeats)
    table = Table("viewers", "share of a core", "tick late, median", "tick late, most")
    for name, each in means(rows).items():
        spread = f"{each['core_share_least']:.2%} to {each['core_share_most']:.2%}"
        late = (f"{1e3 * each[key]:.2f} ms" for key in ("late_median_s", "late_most_s"))
        table.add_row(name, f"{each['core_share']:.2%} ({spread})", *late)
    Console(stderr=True).print(table)
    print(json.dumps(document(rows, arguments)))


if __name__ == "__main__":
    main()
