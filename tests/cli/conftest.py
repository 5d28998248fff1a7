"""A server to put a load on, and what results rest on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.measure.provenance import Provenance


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A synthetic engine in a thread of its own."""
    block = ControlBlock.create(tmp_path_factory.mktemp("bench") / "block")
    loop, ports = asyncio.new_event_loop(), []
    settings = SyntheticSettings("m", max_batch_limit=8, weights_s=0.002)
    engine = loop.run_until_complete(start_synthetic(settings, Seam(str(block.path)), "127.0.0.1"))
    ports.append(engine.port)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{ports[0]}"
    asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    block.close()


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        boundary="gpu", energy_source="measured", meter="counter", counter_period_s=0.1,
        gpus=("H100",), uuids=("GPU-1",), driver="580", model="m", engine="vllm", seed=0,
        host="x", versions={}, commit=None,
    )  # fmt: skip
