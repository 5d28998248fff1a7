from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import LoadGenerators
from steppe.measure.sweep.saturate import Saturation, saturated


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[tuple[ServerTarget, ControlBlock]]]:
    """Two synthetic engines with a batch limit of 3."""
    found, engines = [], []
    for number in range(2):
        block = ControlBlock.create(tmp_path / f"block-{number}")
        settings = SyntheticSettings("m", max_batch_limit=3, weights_s=0.001)
        engine = await start_synthetic(settings, Seam(str(block.path)), "127.0.0.1")
        engines.append(engine)
        found.append((ServerTarget(f"http://127.0.0.1:{engine.port}", "m"), block))
    yield found
    for engine in engines:
        await engine.stop()
    for _, block in found:
        block.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_every_server_has_more_requests_than_it_can_batch_until_the_block_ends(
    servers: list[tuple[ServerTarget, ControlBlock]],
) -> None:
    def is_full(block: ControlBlock) -> bool:
        telemetry = block.read_telemetry()
        return (telemetry.running, telemetry.waiting) == (3, 2)

    with saturated([target for target, _ in servers], [Arrival(0.0, 5, 200)], 5):
        for _, block in servers:
            await until(lambda block=block: is_full(block))  # type: ignore[misc]
    for _, block in servers:
        await until(lambda block=block: not block.read_telemetry().running)  # type: ignore[misc]
    assert "saturate" not in {thread.name for thread in threading.enumerate()}


def test_a_missing_server_does_not_block() -> None:
    with saturated([ServerTarget("http://127.0.0.1:9", "m")], [Arrival(0.0, 5, 2)], 2):
        pass
    assert "saturate" not in {thread.name for thread in threading.enumerate()}


async def test_client_times_count_requests_sent_after_an_instant(
    servers: list[tuple[ServerTarget, ControlBlock]],
) -> None:
    (target, block), _ = servers
    with saturated([target], [Arrival(0.0, 5, 4)], 2) as load:
        await until(lambda: block.read_telemetry().output_tokens >= 40)
    times = load.client_times(since_s=load.begun_s)
    assert times.requests >= 5
    assert times.ttft_p50_s is not None
    assert times.itl_p50_s is not None
    assert times.itl_p99_s is not None
    assert 0 < times.itl_p50_s <= times.itl_p99_s
    assert load.client_times(since_s=load.begun_s + 60.0).itl_p50_s is None


@pytest.mark.slow
async def test_processes_keep_servers_saturated_as_a_thread_does(
    servers: list[tuple[ServerTarget, ControlBlock]],
) -> None:
    def is_full(block: ControlBlock) -> bool:
        telemetry = block.read_telemetry()
        return (telemetry.running, telemetry.waiting) == (3, 2)

    def measure(generators: LoadGenerators) -> Saturation:
        targets = [target for target, _ in servers]
        with saturated(targets, [Arrival(0.0, 5, 100)], 5, generators=generators) as load:
            deadline_s = time.monotonic() + 60
            while not all(is_full(block) for _, block in servers):
                assert time.monotonic() < deadline_s
                time.sleep(0.005)
            while min(block.read_telemetry().output_tokens for _, block in servers) < 1500:
                assert time.monotonic() < deadline_s
                time.sleep(0.005)
        return load

    generators = await asyncio.to_thread(LoadGenerators, 2)
    try:
        load = await asyncio.to_thread(measure, generators)
    finally:
        await asyncio.to_thread(generators.close)
    for _, block in servers:
        await until(lambda block=block: not block.read_telemetry().running)  # type: ignore[misc]
    times = load.client_times(load.begun_s)
    assert times.requests >= 10
    assert times.itl_p50_s is not None
