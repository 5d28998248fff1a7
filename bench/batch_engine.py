"""The processes of `batch_throughput.py`: one vLLM engine, and a gateway before it."""

from __future__ import annotations

import argparse
import asyncio
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.vllm_engine import EngineSettings, start_vllm
from steppe.gateway.server import (
    DriverNews,
    Gateway,
    GatewayModel,
    GatewaySettings,
    RequestEnergy,
    Route,
)

MODEL = "m"
TICK_S = 0.5
"""Time between two readings of the meters, s: what the driver of a run does."""
JOULES = 1.0


def engine_process(pipe: Connection, arguments: argparse.Namespace, folder: str) -> None:
    """Serve a model by vLLM, and run `run_batch` on the same engine when asked to.

    Args:
        pipe: Gets the URL first, then answers `reset`, `run_batch` and `stop`.
        arguments: Those of the benchmark.
        folder: For the control block.
    """
    asyncio.run(_serve(pipe, arguments, Path(folder)))


async def _serve(pipe: Connection, arguments: argparse.Namespace, folder: Path) -> None:
    block = ControlBlock.create(folder / "block")
    settings = EngineSettings(
        model=arguments.model,
        served_name=MODEL,
        max_model_len=1024,
        max_batch_limit=arguments.batch_limit,
        max_tokens_per_step=256,
        kv_cache_bytes=arguments.kv_cache_mib << 20,
        args={"enforce_eager": True},
    )
    engine = await start_vllm(settings, Seam(str(block.path)), "127.0.0.1")
    pipe.send(f"http://127.0.0.1:{engine.port}")
    client = engine._engine
    while True:
        match await asyncio.to_thread(pipe.recv):
            case ("reset",):
                await client.reset_prefix_cache()
                pipe.send(None)
            case ("run_batch", str(given), str(output)):
                pipe.send(await _run_batch(client, given, output))
            case _:
                client.shutdown()
                return


async def _run_batch(client: Any, given: str, output: str) -> tuple[float, float]:
    """Run vLLM's own runner; return its time without the set-up of its handlers, and its whole."""
    from vllm.entrypoints.launchers import run_batch
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = run_batch.make_arg_parser(FlexibleArgumentParser())
    files = ["--input-file", given, "--output-file", output]
    whole = parser.parse_args([*files, "--served-model-name", MODEL])
    began_s = time.monotonic()
    await run_batch.build_endpoint_registry(engine_client=client, args=whole)
    set_up_s = time.monotonic() - began_s
    began_s = time.monotonic()
    await run_batch.run_batch(client, whole)
    whole_s = time.monotonic() - began_s
    return max(1e-3, whole_s - set_up_s), whole_s


def gateway_process(pipe: Connection, engine_url: str, batch_limit: int) -> None:
    """Serve a gateway before one engine, and give requests joules as a driver does.

    Args:
        pipe: Gets the URL first; anything that comes ends the process.
        engine_url: The engine.
        batch_limit: Most sequences that it decodes at once.
    """
    asyncio.run(_serve_gateway(pipe, engine_url, batch_limit))


async def _serve_gateway(pipe: Connection, engine_url: str, batch_limit: int) -> None:
    models = (GatewayModel(MODEL, 2.0),)
    gateway = Gateway(GatewaySettings("127.0.0.1", 0, 10_000, 3600.0, models))
    pipe.send(await gateway.start())
    limit = batch_limit + QUEUE_PER_REPLICA  # that of a fleet: no place of the engine idles
    gateway.set_routes((Route("r0", engine_url, limit),), None)
    while not pipe.poll():
        await asyncio.sleep(TICK_S)
        ended = gateway.drain_finished()
        joules = [RequestEnergy(one.id, JOULES, "estimated", "gpu", True) for one in ended]
        gateway.tell(DriverNews(tuple(joules)))
