"""Real (synthetic) engines behind the gateway: one ends in the middle of its streams."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.gateway.site import Site

from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticEngine, SyntheticSettings, start_synthetic
from steppe.gateway.server import Route

TOKENS = 40


async def open_engine(block: ControlBlock) -> SyntheticEngine:
    settings = SyntheticSettings("m", max_batch_limit=8, weights_s=0.002)
    return await start_synthetic(settings, Seam(str(block.path)), "127.0.0.1")


async def text_and_usage(site: Site, path: str, body: dict[str, Any]) -> tuple[str, int, int]:
    asked = body | {"max_tokens": TOKENS, "stream": True, "model": "m"}
    asked |= {"stream_options": {"include_usage": True}}
    text, prompt, output = "", 0, 0
    async with site.client.post(site.url + path, json=asked) as answer:
        lines = (await answer.text()).split("\n\n")
    assert lines[-2] == "data: [DONE]", lines[-3:]
    for line in lines[:-2]:
        event = json.loads(line[len("data: ") :])
        for choice in event["choices"]:
            text += choice["delta"]["content"] if "delta" in choice else choice["text"]
        if "usage" in event:
            prompt = event["usage"]["prompt_tokens"]
            output = event["usage"]["completion_tokens"]
    return text, prompt, output


async def test_the_streams_of_an_engine_that_ends_go_on_at_another(
    site: Site, tmp_path: Path
) -> None:
    blocks = [ControlBlock.create(tmp_path / name) for name in ("r0", "r1")]
    ending, lasting = [await open_engine(block) for block in blocks]
    site.stack.push_async_callback(lasting.stop)
    urls = {n: f"http://127.0.0.1:{engine.port}" for n, engine in (("r0", ending), ("r1", lasting))}
    site.gateway.set_routes((Route("r0", urls["r0"], 8),), None)
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "a b c"}]}
    sent = [
        asyncio.create_task(text_and_usage(site, path, body))
        for path, body in (("/v1/chat/completions", chat), ("/v1/completions", {"prompt": "a b"}))
    ]
    await site.until(lambda: blocks[0].read_telemetry().steps > TOKENS // 4)
    site.gateway.set_routes((Route("r1", urls["r1"], 8),), None)
    await ending.stop()
    async with asyncio.timeout(20):
        found = [await task for task in sent]
    assert found == [(" synthetic" * TOKENS, 3, TOKENS), (" synthetic" * TOKENS, 2, TOKENS)]
    assert 0 < blocks[1].read_telemetry().steps < TOKENS, "the second engine made the rest"
    ended = site.gateway.drain_finished()
    assert {request.replica for request in ended} == {"r1"}
