"""What do heartbeats of N sites cost each of them, in CPU time and in bytes?

N sites run in one process, each with its own certificate, door and connections, on loopback. All of
them share one core, so the period is long; the cost is that of an exchange, and a site has N - 1 of
them in a period. A warm-up connects all pairs; then CPU time of the process is read over some
periods. An exchange has both sides, and of each pair of sites one begins: the CPU time per site is
that of all sites over N.

    python bench/sites_beats.py --sites 100 --period 30 --periods 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import ssl
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from document import arguments_of
from steppe.measure.provenance import source_commit
from steppe.sites.beats.exchange import Exchange, OwnBeats
from steppe.sites.beats.message import write_beat, write_snapshot
from steppe.sites.beats.peers import BeatSettings, Health, PeerTable
from steppe.sites.beats.sender import PeerAddress, Sender
from steppe.sites.beats.server import BeatServer
from steppe.sites.trust.certificates import issue, new_authority, write_credential
from steppe.sites.trust.tls import SiteTls, TlsFiles
from steppe.sites.view import Expected, PoolPoint, PoolView, SiteView
from targets import at_least, at_most

HOST = "127.0.0.1"
COUNTED = 50
"""Exchanges whose bytes are counted."""


@dataclass(slots=True)
class Site:
    """A site of the mesh."""

    exchange: Exchange
    server: BeatServer
    tls: SiteTls
    address: PeerAddress
    sender: Sender | None = None


def view_of(name: str) -> SiteView:
    """Return a site with one pool, 16 steps of forecast and 24 hours of prices."""
    points = tuple(PoolPoint(403.7 * n, 151.3 * n) for n in range(1, 9))
    pool = PoolView("qwen3-8b", "main", 1203.4, 3, 0.2134, 0.0203, 310_512.0, points)
    return SiteView(
        site=name,
        seq=1,
        received_s=0.0,
        budget_w=101_234.5,
        draw_w=70_123.4,
        headroom_w=31_111.1,
        surplus_w=20_111.1,
        storage_wh=50_000.0,
        forecast=tuple(Expected(900.0 * n, 50_123.4, 80_123.4, 95_123.4) for n in range(16)),
        price_micro=(310_000,) * 24,
        gco2=(541.2,) * 24,
        currency="CNY",
        region="cn-north",
        data_classes=frozenset({"public", "personal"}),
        pools={"chat": pool},
    )


async def build(names: list[str], folder: Path, period_s: float) -> list[Site]:
    """Return sites that listen."""
    settings = BeatSettings(period_s=period_s)
    authority = new_authority("bench", time.time())
    trusted = folder / "authority.pem"
    trusted.write_bytes(authority.certificate)
    sites = []
    for number, name in enumerate(names):
        path = folder / f"{name}.pem"
        write_credential(path, issue(authority, name, time.time()))
        tls = SiteTls(TlsFiles(path, path, trusted))
        others = [each for each in names if each != name]
        own = OwnBeats(partial(view_of, name), f"{number:016x}", period_s, time.time)
        exchange = Exchange(name, own, PeerTable(others, own.run, settings))
        server = BeatServer(exchange, frozenset(others))
        port = await server.start(HOST, 0, tls)
        sites.append(Site(exchange, server, tls, PeerAddress(name, f"https://{HOST}:{port}")))
    return sites


async def connect(sites: list[Site], period_s: float) -> None:
    """Let all sites beat to each other."""
    for site in sites:
        others = [each.address for each in sites if each is not site]
        rng = random.Random(site.address.site)
        site.sender = Sender(site.exchange, others, site.tls, period_s=period_s, rng=rng)
        await site.sender.start()


def live_share(sites: list[Site]) -> float:
    """Return the share of all pairs that are live."""
    now_s = time.monotonic()
    healths = [each for site in sites for each in site.exchange.healths(now_s).values()]
    return sum(each is Health.LIVE for each in healths) / len(healths)


def sent(sites: list[Site]) -> int:
    """Return the exchanges that were begun."""
    return sum(site.sender.sent for site in sites if site.sender is not None)


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the cost of a mesh."""
    names = [f"site-{number:03d}" for number in range(arguments.sites)]
    sites = await build(names, folder, arguments.period)
    start_s = time.monotonic()
    await connect(sites, arguments.period)
    while live_share(sites) < 1.0 and time.monotonic() - start_s < 5 * arguments.period:
        await asyncio.sleep(0.5)
    connected_s = time.monotonic() - start_s
    await asyncio.sleep(arguments.period)
    costs_ms, shares = [], []
    for _ in range(arguments.periods):
        cpu_s, count = time.process_time(), sent(sites)
        await asyncio.sleep(arguments.period)
        done = sent(sites) - count
        costs_ms.append(1e3 * (time.process_time() - cpu_s) / done)
        shares.append(live_share(sites))
    rtts_s = [
        rtt_s
        for s in sites
        for n in s.exchange.peers.names
        if (rtt_s := s.exchange.peers.measured_s(n))
    ]
    for site in sites:
        if site.sender is not None:
            await site.sender.stop()
    for site in sites:
        await site.server.stop()
    pairs_per_site = (arguments.sites - 1) / 2
    return {
        "sites": arguments.sites,
        "exchanges_per_period": round(pairs_per_site * arguments.sites),
        "cpu_ms_per_exchange": statistics.median(costs_ms),
        "cpu_ms_per_exchange_spread": [min(costs_ms), max(costs_ms)],
        "cpu_ms_per_site_second": pairs_per_site * statistics.median(costs_ms),
        "rtt_p50_s": statistics.median(rtts_s),
        "connected_s": connected_s,
        "live_share": min(shares),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def exchange_bytes(folder: Path) -> float:
    """Return the bytes of an exchange with HTTP and TLS, without TCP/IP, counted by a relay."""
    sites = await build(["site-000", "site-001"], folder, 60.0)
    counted = 0

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal counted
        while data := await reader.read(1 << 16):
            counted += len(data)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(sites[1].address.url.rpartition(":")[2])
        there, to = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, to), copy(there, writer))

    door = await asyncio.start_server(relay, HOST, 0)
    address = PeerAddress("site-001", f"https://{HOST}:{door.sockets[0].getsockname()[1]}")
    rng = random.Random(1)
    sender = Sender(sites[0].exchange, [], sites[0].tls, period_s=60.0, rng=rng)
    await sender.start()
    assert await sender.exchange_with(address), "the first exchange connects"
    before = counted
    for _ in range(COUNTED):
        assert await sender.exchange_with(address), "an exchange"
    mean = (counted - before) / COUNTED
    await sender.stop()
    for site in sites:
        await site.server.stop()
    door.close()
    return mean


def beat_bytes() -> int:
    """Return the size of a beat with one pool."""
    return len(write_beat(write_snapshot(view_of("site-000"), "0" * 16, 1), "site-001"))


def main() -> None:
    """Measure a mesh and print its document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sites", type=int, default=100, help="Sites.")
    parser.add_argument("--period", type=float, default=30.0, help="Time between beats, s.")
    parser.add_argument("--periods", type=int, default=2, help="Periods that are measured.")
    arguments = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(arguments, Path(folder)))
    found["beat_bytes"] = beat_bytes()
    with tempfile.TemporaryDirectory() as folder:
        found["exchange_bytes"] = asyncio.run(exchange_bytes(Path(folder)))
    # Each site has an exchange with each other one.
    found["bytes_per_site_second"] = (arguments.sites - 1) * found["exchange_bytes"]
    document = {
        "bench": "sites_beats",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}, loopback",
        "arguments": arguments_of(arguments),
        "versions": {"aiohttp": version("aiohttp"), "openssl": ssl.OPENSSL_VERSION},
        "results": [found],
        "targets": [
            at_least("live pairs", found["live_share"], "share", 1.0),
            at_most("CPU", found["cpu_ms_per_site_second"], "ms/s per site", 17.0),
        ],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
