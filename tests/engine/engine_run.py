"""Start vLLM as a replica does, send requests over HTTP, and print the results as one JSON line.

A program of its own: vLLM and its environment variables stay out of the test's process.
Arguments: the folder of the tiny model, and a folder for the control block.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp

from steppe.config import shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.engine.control_block import ControlBlock, request_key
from steppe.engine.seam import Seam
from steppe.engine.vllm_engine import EngineSettings, VllmEngine, start_vllm

REASONING = {"reasoning_parser": "qwen3"}
CHAT = {"messages": [{"role": "user", "content": "wind"}]}
REQUESTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("chat-1", "chat/completions", CHAT),
    ("chat-two.samples", "chat/completions", {**CHAT, "n": 2, "seed": 1}),
    ("text-1", "completions", {"prompt": "wind"}),
    ("text-0-deadbeef", "completions", {"prompt": ["wind", "sun"], "n": 2}),
    ("response_1", "responses", {"input": "wind", "max_output_tokens": 9}),
    ("batch", "chat/completions/batch", {"messages": [CHAT["messages"], CHAT["messages"]]}),
    ("beams", "completions", {"prompt": "wind", "use_beam_search": True, "n": 2, "max_tokens": 3}),
    (
        "forged",
        "chat/completions",
        {**CHAT, "request_id": "solo-0000000000000000-beam-1"},
    ),
)
BAD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chat/completions", {**CHAT, "top_k": 2**70}),
    ("chat/completions", {**CHAT, "stop": "\ud800"}),
    ("completions", {"prompt": "wind", "seed": 2**70}),
    ("chat/completions", {**CHAT, "stream": True, "top_k": 2**70}),
)
"""What vLLM's front end lets pass and its engine core cannot decode."""
TOOL = {
    "name": "set_clock",
    "parameters": {
        "type": "object",
        "properties": {"level": {"enum": ["low", "high"]}},
        "required": ["level"],
        "additionalProperties": False,
    },
}
TOOL_CHAT: dict[str, Any] = {
    **CHAT,
    "model": "tiny",
    "max_tokens": 256,
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": TOOL["name"]}},
    "chat_template_kwargs": {"enable_thinking": False},
}
_NAMES = ("prompt_tokens", "completion_tokens")


def gateway_id(name: str) -> str:
    """Return an id as the gateway makes them, 32 hexadecimal digits."""
    return hashlib.md5(name.encode()).hexdigest()


async def refusal(
    client: aiohttp.ClientSession, engine: VllmEngine, path: str, body: dict[str, Any]
) -> list[Any]:
    """Return the status and the body of the answer to a bad request."""
    url = f"http://127.0.0.1:{engine.port}/v1/{path}"
    whole = {"model": "tiny", "max_tokens": 9, **body}
    async with client.post(url, json=whole) as answer:
        return [answer.status, await answer.text()]


async def usage_of(
    client: aiohttp.ClientSession, engine: VllmEngine, name: str, path: str, body: dict[str, Any]
) -> dict[str, Any]:
    whole = {"model": "tiny", "max_tokens": 9, "ignore_eos": True, **body}
    url = f"http://127.0.0.1:{engine.port}/v1/{path}"
    async with client.post(url, json=whole, headers={"X-Request-Id": gateway_id(name)}) as answer:
        assert answer.status == 200, await answer.text()
        usage: dict[str, Any] = (await answer.json())["usage"]
    names = ("input_tokens", "output_tokens") if path == "responses" else _NAMES
    return {name: usage[given] for name, given in zip(_NAMES, names, strict=True)}


async def message(
    client: aiohttp.ClientSession, engine: VllmEngine, body: dict[str, Any]
) -> dict[str, Any]:
    url = f"http://127.0.0.1:{engine.port}/v1/chat/completions"
    async with client.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = (await answer.json())["choices"][0]["message"]
    return found


async def run(model: str, folder: str) -> dict[str, Any]:
    example = read_mapping(shipped_config("tool_calls.yaml"))
    block = ControlBlock.create(Path(folder) / "block")
    settings = EngineSettings(
        model=model,
        served_name="tiny",
        max_model_len=1024,
        max_batch_limit=8,
        max_tokens_per_step=64,
        kv_cache_bytes=64 << 20,
        cores=(0,),
        args={**example["engine"]["args"], **REASONING, "enable_prefix_caching": False},
    )
    engine = await start_vllm(settings, Seam(str(block.path)), "127.0.0.1")
    async with aiohttp.ClientSession() as client:
        usage = {}
        for name, path, body in REQUESTS:
            usage[name] = await usage_of(client, engine, name, path, body)
        messages = {
            "reasoning": await message(client, engine, {**CHAT, "model": "tiny", "max_tokens": 9}),
            "tool_call": await message(client, engine, TOOL_CHAT),
        }
        refusals = [await refusal(client, engine, path, body) for path, body in BAD]
        await engine.freeze()
        before = block.read_telemetry().steps
        late = asyncio.create_task(usage_of(client, engine, "late", "chat/completions", CHAT))
        done, _ = await asyncio.wait([late], timeout=0.5)
        frozen_steps = block.read_telemetry().steps - before
        await engine.thaw()
        usage["late"] = await late
        await engine.check()
    steps = block.read_steps().steps
    step_tokens = {}
    for name in usage:
        key = request_key(gateway_id(name))
        work = [w for step in steps for w in step.work if w.key == key]
        step_tokens[name] = [sum(w.prompt_tokens for w in work), sum(w.output_tokens for w in work)]
    await engine.stop()
    frozen = {"done": len(done), "steps": frozen_steps}
    found = {"usage": usage, "step_tokens": step_tokens, "frozen": frozen, "refusals": refusals}
    return found | messages


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2]))))  # noqa: T201
