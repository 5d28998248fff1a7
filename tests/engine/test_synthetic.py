from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from steppe.engine import openai_app, synthetic
from steppe.engine.control_block import ControlBlock, EngineLimits, request_key
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticEngine, SyntheticSettings, start_synthetic
from steppe.errors import EngineError
from steppe.gateway.server import GatewayModel, GatewaySettings
from steppe.load.client import ChatOptions, ServerTarget, stream_chat
from steppe.load.stream import ChatStream, Completed

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


@dataclass
class Site:
    """One synthetic engine, its node's view of the block, and a client."""

    engine: SyntheticEngine
    block: ControlBlock
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.engine.port}"

    async def ask(self, body: dict[str, Any], path: str = CHAT, name: str = "r") -> Any:
        headers = {"X-Request-Id": name}
        async with self.client.post(self.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200
            return await answer.json()

    async def stream(self, body: dict[str, Any], path: str = CHAT, name: str = "r") -> list[Any]:
        asked = {"stream_options": {"include_usage": True}, **body, "stream": True}
        headers = {"X-Request-Id": name}
        async with self.client.post(self.url + path, json=asked, headers=headers) as answer:
            events = (await answer.text()).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    async def check_forever(self) -> None:
        async with asyncio.timeout(5):
            while True:
                await self.engine.check()
                await asyncio.sleep(0.002)

    async def talk(self) -> None:
        """Exchange so many words with the engine that it could step many times."""
        for _ in range(30):
            async with self.client.get(f"{self.url}/health") as answer:
                assert answer.status == 200

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


class StopsAt:
    """A step hook that fails at a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        self.left -= 1

    def end(self) -> None:
        if self.left <= 0:
            raise OSError("the emulated GPU is gone")

    def idle(self) -> None:
        pass


class ForgetsWhenIdle:
    """A step hook that, as the emulated GPU, has no step to end once it idles."""

    def __init__(self, step: int) -> None:
        self.steps = self.idles = 0

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        self.steps += 1

    def end(self) -> None:
        if not self.steps:
            raise EngineError("no step has begun")
        self.steps -= 1

    def idle(self) -> None:
        self.steps = 0
        self.idles += 1


@dataclass
class Opened:
    stack: AsyncExitStack
    folder: Path
    count: int = 0
    sites: list[Site] = field(default_factory=list)

    async def __call__(self, hook: str = "", **settings: Any) -> Site:
        self.count += 1
        block = ControlBlock.create(self.folder / f"block-{self.count}")
        self.stack.callback(block.close)
        seam = Seam(str(block.path), hook, {"step": 3} if hook else {})
        client = await self.stack.enter_async_context(aiohttp.ClientSession())
        made = SyntheticSettings("m", **{"max_batch_limit": 4, "weights_s": 0.001, **settings})
        engine = await start_synthetic(made, seam, "127.0.0.1")
        self.stack.push_async_callback(engine.stop)
        return Site(engine, block, client)


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async with AsyncExitStack() as stack:
        yield Opened(stack, tmp_path)


@pytest.fixture
async def site(open_site: Callable[..., Awaitable[Site]]) -> Site:
    return await open_site()


def chat(words: int, output_tokens: int) -> dict[str, Any]:
    content = " ".join(["word"] * words)
    return {"messages": [{"role": "user", "content": content}], "max_tokens": output_tokens}


async def test_a_whole_answer_has_the_requested_tokens(site: Site) -> None:
    answer = await site.ask(chat(7, 5), name="abc")
    assert answer["id"] == "chatcmpl-abc"
    assert answer["choices"][0]["message"]["content"].split() == ["synthetic"] * 5
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


async def test_a_stream_has_one_chunk_a_token_and_ends_with_the_usage(site: Site) -> None:
    *chunks, last = await site.stream({"prompt": "a b c", "max_tokens": 4}, TEXT)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [" synthetic"] * 4
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes == [None, None, None, "length"]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 4)


async def test_a_stream_ends_with_its_usage_only_if_requested(site: Site) -> None:
    role, *chunks = await site.stream({**chat(3, 2), "stream_options": None})
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == [" synthetic"] * 2
    assert all("usage" not in chunk and chunk["created"] > 1e9 for chunk in chunks)


async def test_the_load_generator_counts_every_token(site: Site) -> None:
    target, body = ServerTarget(site.url, "m"), ChatOptions().body("m", "a b c", 5)
    outcome = await stream_chat(site.client, target, body, time.monotonic, ChatStream())
    assert isinstance(outcome, Completed)
    assert (outcome.prompt_tokens, outcome.output_tokens, len(outcome.gaps_s)) == (3, 5, 4)


async def test_an_engine_whose_limits_lapse_pauses_and_goes_on_when_they_are_renewed(
    open_site: Callable[..., Awaitable[Site]],
) -> None:
    site = await open_site(hook=f"{__name__}:ForgetsWhenIdle")
    site.block.renew(time.monotonic() + 60)
    answer = asyncio.create_task(site.ask(chat(3, 300)))
    await site.until(lambda: site.block.read_telemetry().steps > 3)
    site.block.renew(time.monotonic() - 1)
    hook = site.engine._hook
    assert isinstance(hook, ForgetsWhenIdle)
    await site.until(lambda: hook.idles > 1)
    steps = site.block.read_telemetry().steps
    await site.talk()
    assert site.block.read_telemetry().steps == steps
    assert not answer.done()
    site.block.renew(time.monotonic() + 60)
    assert (await answer)["usage"]["completion_tokens"] == 300


async def test_another_model_is_not_found(site: Site) -> None:
    body = {**chat(3, 2), "model": "another"}
    async with site.client.post(site.url + CHAT, json=body) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (404, "model_not_found")
        assert error["message"] == "asked for model 'another', found 'm'"


async def test_an_unknown_path_is_refused_in_openai_shape(site: Site) -> None:
    async with site.client.get(f"{site.url}/v1/nothing") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["message"], error["code"]) == (
            404,
            "404: Not Found",
            "not_found",
        )


async def test_a_body_may_be_as_large_as_the_limit_of_the_app(
    open_site: Callable[..., Awaitable[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = GatewaySettings("127.0.0.1", 0, 1, 1.0, (GatewayModel("m", 1.0),))
    assert gateway.max_body_bytes == openai_app.MAX_BODY_BYTES
    monkeypatch.setattr(openai_app, "MAX_BODY_BYTES", 1000)
    site = await open_site()
    async with site.client.post(site.url + TEXT, data=b"a" * 1001) as refused:
        assert refused.status == 413
        assert (await refused.json())["error"]["code"] == "request_entity_too_large"


async def test_telemetry_counts_the_tokens_of_the_usage(site: Site) -> None:
    asked = [chat(300 * i, 3 + i) for i in range(1, 6)]
    answers = await asyncio.gather(*(site.ask(b, name=f"r{i}") for i, b in enumerate(asked)))
    steps = site.block.read_steps().steps
    for i, answer in enumerate(answers):
        own = [w for step in steps for w in step.work if w.key == request_key(f"r{i}")]
        assert sum(w.prompt_tokens for w in own) == answer["usage"]["prompt_tokens"]
        assert sum(w.output_tokens for w in own) == answer["usage"]["completion_tokens"]
    telemetry = site.block.read_telemetry()
    assert telemetry.output_tokens == sum(a["usage"]["completion_tokens"] for a in answers)
    assert telemetry.prompt_tokens == sum(a["usage"]["prompt_tokens"] for a in answers)
    assert (telemetry.running, telemetry.waiting, telemetry.steps) == (0, 0, len(steps))
    assert telemetry.busy_ns == sum(step.end_ns - step.start_ns for step in steps)


async def test_no_step_is_wider_than_the_batch_limit(site: Site) -> None:
    site.block.write_limits(EngineLimits(2))
    await asyncio.gather(*(site.ask(chat(3, 6)) for _ in range(5)))
    assert {len(step.work) for step in site.block.read_steps().steps} <= {1, 2}


async def test_no_step_has_more_tokens_than_the_limit_allows(site: Site) -> None:
    site.block.write_limits(EngineLimits(tokens_per_step=16))
    await asyncio.gather(*(site.ask(chat(30 + i, 6), name=f"r{i}") for i in range(5)))
    steps = site.block.read_steps().steps
    tokens = [sum(w.prompt_tokens + w.decode_tokens for w in step.work) for step in steps]
    assert max(tokens) == 16
    assert all(step.work for step in steps)
    own = [w for step in steps for w in step.work if w.key == request_key("r4")]
    assert (sum(w.prompt_tokens for w in own), sum(w.output_tokens for w in own)) == (34, 6)


async def test_no_step_has_more_tokens_than_the_engine_was_set_to(
    open_site: Callable[..., Awaitable[Site]],
) -> None:
    site = await open_site(max_batch_limit=8, max_tokens_per_step=64)
    await asyncio.gather(*(site.ask(chat(100, 3)) for _ in range(6)))
    site.block.write_limits(EngineLimits(tokens_per_step=1000))
    await site.ask(chat(100, 3))
    steps = site.block.read_steps().steps
    assert max(sum(w.prompt_tokens + w.decode_tokens for w in step.work) for step in steps) == 64


async def test_decoding_sequences_are_stepped_beyond_the_limit_of_tokens(site: Site) -> None:
    tasks = [asyncio.create_task(site.ask(chat(3, 60))) for _ in range(4)]
    await site.until(lambda: site.block.read_telemetry().scheduled == 4)
    site.block.write_limits(EngineLimits(tokens_per_step=2))
    tasks.append(asyncio.create_task(site.ask(chat(3, 2))))
    answers = await asyncio.gather(*tasks)
    assert [a["usage"]["completion_tokens"] for a in answers] == [60, 60, 60, 60, 2]


async def test_a_step_records_the_context_of_its_decoding_sequences(site: Site) -> None:
    await site.ask(chat(7, 4))
    steps = site.block.read_steps().steps
    assert [step.context_tokens for step in steps] == [0, 8, 9, 10]


async def test_a_cut_of_the_limit_holds_running_requests_which_all_still_finish(
    site: Site,
) -> None:
    tasks = [asyncio.create_task(site.ask(chat(3, 40), name=f"r{i}")) for i in range(4)]
    await site.until(lambda: site.block.read_telemetry().scheduled == 4)
    site.block.write_limits(EngineLimits(1))
    await site.until(lambda: site.block.read_telemetry().scheduled == 1)
    site.block.read_steps()
    await asyncio.gather(*tasks)
    held = site.block.read_steps().steps
    assert {len(step.work) for step in held} == {1}
    turns = [step.work[0].key for step in held[:8]]
    assert len(set(turns[:4])) == 4


async def test_without_hold_a_cut_of_the_limit_only_stops_admission(site: Site) -> None:
    tasks = [asyncio.create_task(site.ask(chat(3, 60))) for _ in range(4)]
    await site.until(lambda: site.block.read_telemetry().scheduled == 4)
    site.block.write_limits(EngineLimits(1, hold=False))
    tasks.append(asyncio.create_task(site.ask(chat(3, 2), name="late")))
    site.block.read_steps()
    await asyncio.gather(*tasks)
    widths = [len(step.work) for step in site.block.read_steps().steps]
    assert widths[0] == 4
    assert widths[-1] == 1


async def test_a_frozen_engine_steps_no_more_until_it_is_thawed(site: Site) -> None:
    task = asyncio.create_task(site.ask(chat(3, 50)))
    await site.until(lambda: site.block.read_telemetry().steps > 3)
    await site.engine.freeze()
    steps = site.block.read_telemetry().steps
    await site.talk()
    assert site.block.read_telemetry().steps <= steps + 1 < 50
    await site.engine.thaw()
    assert (await task)["usage"]["completion_tokens"] == 50


async def test_a_freeze_lets_the_step_that_runs_end_and_then_the_gpu_idles(
    open_site: Callable[..., Awaitable[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.engine.seam.Forgets", ForgetsWhenIdle, raising=False)
    site = await open_site("steppe.engine.seam:Forgets")
    task = asyncio.create_task(site.ask(chat(3, 50)))
    hook: Any = site.engine._hook
    await site.until(lambda: site.block.read_telemetry().steps > 3 and hook.steps == 1)
    idles = hook.idles
    await site.engine.freeze()
    await site.until(lambda: hook.idles > idles)
    await site.engine.thaw()
    assert (await task)["usage"]["completion_tokens"] == 50
    await site.engine.check()


async def test_a_client_that_hangs_up_frees_its_place(site: Site) -> None:
    site.block.write_limits(EngineLimits(1))
    first = asyncio.create_task(site.stream(chat(3, 100_000)))
    await site.until(lambda: site.block.read_telemetry().running == 1)
    first.cancel()
    answer = await asyncio.wait_for(site.ask(chat(3, 2)), 5)
    assert answer["usage"]["completion_tokens"] == 2


async def test_telemetry_shows_a_disconnect_even_while_the_engine_is_frozen(site: Site) -> None:
    task = asyncio.create_task(site.stream(chat(3, 100_000)))
    await site.until(lambda: site.block.read_telemetry().running == 1)
    await site.engine.freeze()
    await site.talk()
    task.cancel()
    await site.until(lambda: site.block.read_telemetry().running == 0)


async def test_telemetry_shows_a_step_until_it_ends_even_if_the_client_disconnects(
    open_site: Callable[..., Awaitable[Site]],
) -> None:
    site = await open_site(weights_s=60.0)
    task = asyncio.create_task(site.stream(chat(3, 5)))
    await site.until(lambda: site.block.read_telemetry().running == 1)
    task.cancel()
    (sequence,) = site.engine._running
    await site.until(lambda: sequence.cancelled)
    assert (site.block.read_telemetry().running, site.block.read_telemetry().steps) == (1, 0)


async def test_a_step_takes_the_time_of_its_pace(
    open_site: Callable[..., Awaitable[Site]],
) -> None:
    site = await open_site(weights_s=0.004, decode_s=0.002, prefill_s=0.001)
    await site.ask(chat(10, 2))
    prefill, decode = (s.end_ns - s.start_ns for s in site.block.read_steps().steps)
    assert prefill >= 14e6
    assert decode >= 6e6


async def test_a_long_prompt_is_computed_in_chunks(site: Site) -> None:
    await site.ask(chat(2 * synthetic.CHUNK_TOKENS + 1, 1))
    work = [step.work[0] for step in site.block.read_steps().steps]
    assert [(w.prompt_tokens, w.output_tokens) for w in work] == [(256, 0), (256, 0), (1, 1)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": 1,', "asked for JSON, found unexpected end of data: line 1 column 9 (char 8)"),
        (b"[]", "asked for a JSON object, found []"),
        (b"{}", "asked for a list of messages or a prompt, found neither"),
        (b'{"messages": 3}', "asked for a list of messages or a prompt, found messages 3"),
        (
            b'{"prompt": "a", "stream_options": 3}',
            "asked for stream_options as an object, found 3",
        ),
        (
            b'{"prompt": "a", "max_tokens": "many"}',
            "asked for at least 1 output token, found 'many'",
        ),
    ],
)
async def test_an_invalid_body_is_refused_with_its_reason(
    site: Site, body: bytes, message: str
) -> None:
    async with site.client.post(site.url + CHAT, data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"] == {
            "message": message,
            "type": "invalid_request_error",
            "param": None,
            "code": "bad_request",
        }


async def test_the_app_serves_the_model_and_its_health(site: Site) -> None:
    async with site.client.get(f"{site.url}/v1/models") as answer:
        (model,) = (await answer.json())["data"]
        assert (model["id"], model["object"], type(model["created"])) == ("m", "model", int)
    async with site.client.get(f"{site.url}/health") as answer:
        assert answer.status == 200
    await site.engine.check()


async def test_the_health_check_fails_when_the_steps_fail(
    open_site: Callable[..., Awaitable[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.engine.seam.StopsAt", StopsAt, raising=False)
    site = await open_site("steppe.engine.seam:StopsAt")
    task = asyncio.create_task(site.ask(chat(3, 50)))
    with pytest.raises(EngineError, match="the emulated GPU is gone"):
        await site.check_forever()
    task.cancel()


async def test_a_stop_does_not_wait_for_outstanding_requests(site: Site) -> None:
    task = asyncio.create_task(site.ask(chat(3, 100_000)))
    await site.until(lambda: site.block.read_telemetry().running == 1)
    begun_s = time.monotonic()
    await site.engine.stop()
    assert time.monotonic() - begun_s < 30, "the request takes many minutes"
    with pytest.raises(aiohttp.ClientError):
        await task


async def test_an_answer_goes_on_where_another_engine_ended(site: Site) -> None:
    asked = chat(3, 5) | {"return_token_ids": True, "stream_options": {"include_usage": True}}
    whole = await site.stream(asked)
    ids = {"steppe_prompt": whole[0]["prompt_token_ids"], "steppe_output": [0, 0]}
    rest = await site.stream(asked | {"vllm_xargs": ids}, name="again")
    for events in (whole, rest):
        choices = [choice for event in events for choice in event["choices"]]
        assert sum(len(choice.get("token_ids", ())) for choice in choices) == 5
        assert "".join(choice["delta"]["content"] for choice in choices) == " synthetic" * 5
    assert whole[-1]["usage"] == rest[-1]["usage"]
    assert len(rest) == len(whole) - 2
