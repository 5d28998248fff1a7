"""Start vLLM as a replica does, cut answers at every token, continue them; print one JSON line.

A program of its own: vLLM and its environment variables stay out of the test's process.
Arguments: the folder of a model, a folder for the control block, and a reasoning parser or nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from steppe.engine.control_block import ControlBlock
from steppe.engine.earlier import OUTPUT, PROMPT
from steppe.engine.seam import Seam
from steppe.engine.vllm_engine import EngineSettings, start_vllm
from steppe.gateway.server import Gateway, GatewayModel, GatewaySettings, Route

CHAT = {"messages": [{"role": "user", "content": "Count from one to ten, in words."}]}
GREEDY = {"temperature": 0, "max_tokens": 12}
SHORT = {"messages": [{"role": "user", "content": "What is 1 + 1? Answer in one word."}]}
EMOJI = "🌬️ 🌞 🌧️ 🌬️ 🌞 🌧️ 🌬️ 🌞"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {**CHAT, **GREEDY}),
    "text": ("completions", {"prompt": "The wind comes over the", **GREEDY}),
    "characters of several tokens": ("completions", {"prompt": EMOJI, **GREEDY}),
    "stop strings": (
        "completions",
        {"prompt": "one, two, three, four,", **GREEDY, "stop": ["even, eig", "ten, eleven, t"]},
    ),
    "least tokens": (
        "completions",
        {"prompt": "one, two, three,", **GREEDY, "stop": ["seven"], "min_tokens": 12},
    ),
    "kept stop string": (
        "completions",
        {
            "prompt": "one, two, three,",
            **GREEDY,
            "stop": ["eight, nine"],
            "include_stop_str_in_output": True,
        },
    ),
    "penalty": ("completions", {"prompt": "and and and", **GREEDY, "repetition_penalty": 1.3}),
    "end of text": ("chat/completions", {**SHORT, "temperature": 0, "max_tokens": 60}),
    "no limit": (
        "completions",
        {"prompt": [260] * 502, "temperature": 0, "ignore_eos": True, "max_tokens": None},
    ),
    "no limit of a chat": (
        "chat/completions",
        {
            "messages": [{"role": "user", "content": "wind " * 474}],
            "temperature": 0,
            "ignore_eos": True,
        },
    ),
}
SEEDS = 240
FOUR = [260, 281, 284, 253]


@dataclass
class Streamed:
    """What a stream brought."""

    texts: dict[str, str] = field(default_factory=dict)
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> list[Any]:
        counts = [self.usage[name] for name in ("prompt_tokens", "completion_tokens")]
        return [self.texts, self.prompt, self.output, self.finish, counts]


@dataclass
class Client:
    session: aiohttp.ClientSession
    url: str

    async def stream(self, path: str, body: dict[str, Any], **xargs: Any) -> Streamed:
        options = {"stream": True, "return_token_ids": True, "model": "tiny"}
        options |= {"stream_options": {"include_usage": True}}
        sent = {**options, **body, **({"vllm_xargs": xargs} if xargs else {})}
        async with self.session.post(f"{self.url}/v1/{path}", json=sent) as answer:
            text = await answer.text()
        assert answer.status == 200, text
        found = Streamed()
        for line in text.split("\n\n"):
            if line.startswith("data: {"):
                _take(found, json.loads(line[len("data: ") :]))
        return found


def _take(found: Streamed, event: dict[str, Any]) -> None:
    assert "error" not in event, event
    found.usage = event.get("usage") or found.usage
    found.prompt = event.get("prompt_token_ids") or found.prompt
    for choice in event["choices"]:
        found.prompt = choice.get("prompt_token_ids") or found.prompt
        ids = choice.get("token_ids") or []
        found.output += ids
        found.parts += [len(ids)] if ids else []
        found.finish = choice["finish_reason"] or found.finish
        part = choice.get("delta") or {"text": choice.get("text")}
        for name in ("content", "reasoning", "text"):
            if part.get(name):
                found.texts[name] = found.texts.get(name, "") + part[name]


async def cut_everywhere(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the whole answer, and the cuts after which it was another."""
    whole = await client.stream(path, body)
    cuts = range(len(whole.output))
    continued = await asyncio.gather(
        *(
            client.stream(path, body, **{PROMPT: whole.prompt, OUTPUT: whole.output[:cut]})
            for cut in cuts
        )
    )
    wrong = [
        [cut, found.summary[0], found.summary[2:]]
        for cut, found in zip(cuts, continued, strict=True)
        if found.summary != whole.summary
    ]
    print(path, whole.summary, wrong, file=sys.stderr, flush=True)  # noqa: T201
    return {"whole": whole.summary[0], "tokens": len(cuts), "finish": whole.finish, "wrong": wrong}


@dataclass
class CuttingProxy:
    """Passes streams of an engine on, and cuts each connection after some events."""

    session: aiohttp.ClientSession
    engine_url: str
    events: int = 0
    asked: int = 0

    async def listen(self) -> str:
        """Serve; return the URL."""
        application = web.Application()
        application.router.add_post("/{path:.*}", self.forward)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def forward(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        url, headers = self.engine_url + request.path, {"Content-Type": "application/json"}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async with self.session.post(url, data=await request.read(), headers=headers) as answer:
            for _ in range(self.events):
                await response.write(await answer.content.readuntil(b"\n\n"))
        assert request.transport is not None
        request.transport.abort()
        return response


async def cut_behind_a_gateway(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the cuts after which a client of the gateway got another stream than vLLM's."""
    proxy = CuttingProxy(client.session, client.url)
    cutting = Route("cut", await proxy.listen(), 8)
    model = GatewayModel("tiny", 9.0)
    gateway = Gateway(GatewaySettings("127.0.0.1", 0, 9, 60.0, (model,), retry_delays_s=(0.0, 0.0)))
    url = await gateway.start()
    asked = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}, **body}

    async def stream(at: str) -> list[dict[str, Any]]:
        async with client.session.post(f"{at}/v1/{path}", json=asked) as answer:
            lines = (await answer.text()).split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""], lines
        events = [json.loads(line[len("data: ") :]) for line in lines[:-2]]
        for event in events:
            event["usage"] = (event.get("usage") or {}) | {"prompt_tokens_details": None}
            event.pop("system_fingerprint", None)  # not in a usage that the gateway has to write
        names = {(event.pop("id"), event.pop("created")) for event in events}
        assert len(names) == 1
        return events

    whole, wrong = await stream(client.url), []
    for proxy.events in range(1, len(whole) + 1):
        before = proxy.asked
        gateway.set_routes((cutting,), None)
        task = asyncio.create_task(stream(url))
        while proxy.asked == before:
            await asyncio.sleep(0.001)
        gateway.set_routes((Route("engine", client.url, 8),), None)
        found = await task
        wrong += [] if found == whole else [[proxy.events, found]]
    continued = sum(request.continued for request in gateway.drain_finished())
    await gateway.stop()
    print("gateway", path, len(whole), continued, wrong, file=sys.stderr, flush=True)  # noqa: T201
    return {"events": len(whole), "continued": continued, "wrong": wrong}


async def pairs(client: Client, *, cut: bool, seeded: bool) -> list[list[int]]:
    """Return how often two output tokens were drawn at temperature 1, cut between them or not."""
    body = {"prompt": "The", "allowed_token_ids": FOUR, "max_tokens": 2, "ignore_eos": True}

    async def pair(seed: int) -> tuple[int, ...]:
        asked = body | ({"seed": seed} if seeded else {})
        whole = await client.stream("completions", asked)
        if cut:
            so_far = {PROMPT: whole.prompt, OUTPUT: whole.output[:1]}
            whole = await client.stream("completions", asked, **so_far)
        return tuple(whole.output)

    begin = SEEDS if cut else 0
    drawn = Counter(await asyncio.gather(*(pair(begin + seed) for seed in range(SEEDS))))
    return [[drawn[a, b] for b in FOUR] for a in FOUR]


async def run(model: str, folder: str, parser: str = "") -> dict[str, Any]:
    block = ControlBlock.create(Path(folder) / "block")
    settings = EngineSettings(
        model=model,
        served_name="tiny",
        max_model_len=512,
        max_batch_limit=32,
        max_tokens_per_step=512,
        kv_cache_bytes=256 << 20,
        cores=(0, 1),
        args={"enforce_eager": True, "dtype": "float32"}
        | ({"reasoning_parser": parser} if parser else {}),
    )
    engine = await start_vllm(settings, Seam(str(block.path)), "127.0.0.1")
    async with aiohttp.ClientSession() as session:
        client = Client(session, f"http://127.0.0.1:{engine.port}")
        if parser:
            found = {"reasoning": await cut_everywhere(client, "chat/completions", CHAT | GREEDY)}
        else:
            gateway = {
                name: await cut_behind_a_gateway(client, *CASES[name])
                for name in ("chat", "text", "characters of several tokens")
            }
            found = {name: await cut_everywhere(client, *case) for name, case in CASES.items()}
            found["gateway"] = gateway
            for seeded in (False, True):
                name = f"pairs {'with' if seeded else 'without'} seed"
                found[name] = {
                    "whole": await pairs(client, cut=False, seeded=seeded),
                    "cut": await pairs(client, cut=True, seeded=seeded),
                }
    await engine.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:]))))  # noqa: T201
