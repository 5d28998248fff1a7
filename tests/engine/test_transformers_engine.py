from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from steppe.engine.control_block import (
    ControlBlock,
    EngineLimits,
    StepRecord,
    Telemetry,
    request_key,
)
from steppe.models.tiny_model import write_tiny_model

Body = dict[str, Any]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
SERVER = Path(__file__).with_name("transformers_server.py")
LONG = 300
"""Output tokens of a request that runs until a test has seen it, however fast the steps are."""

GENERATE = """
import sys, torch
from transformers import AutoModelForCausalLM
from steppe.engine.cpu_dtype import cpu_dtype
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=cpu_dtype() or "auto")
prompt = torch.tensor([[int(word) for word in sys.argv[2].split()]])
print(*model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=-1)[0, -6:].tolist())
"""


@dataclass
class Server:
    """A running engine, its node's view of the block, and its process."""

    url: str
    block: ControlBlock
    process: subprocess.Popen[str]
    folder: Path

    def send(self, word: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        print(word, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    @property
    def telemetry(self) -> Telemetry:
        return self.block.read_telemetry()

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        batch = self.block.read_steps()
        assert not batch.lost
        return batch.steps


@contextmanager
def serving(folder: Path, **seam: Any) -> Iterator[Server]:
    model, block = write_tiny_model(folder / "model", seed=1), folder / "block"
    settings = {"model": str(model), "served_name": "tiny", "max_batch_limit": 6}
    ControlBlock.create(block).close()
    seam_arguments = {"control_block": str(block), **seam}
    command = [sys.executable, str(SERVER), json.dumps(settings), json.dumps(seam_arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        port = process.stdout.readline().strip()
        assert port.isdigit(), process.stderr.read()
        try:
            yield Server(f"http://127.0.0.1:{port}", ControlBlock(block), process, model)
        finally:
            process.stdin.close()
            assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("engine")) as running:
        yield running


@dataclass
class Client:
    server: Server
    session: aiohttp.ClientSession

    async def post(self, body: Body, path: str = CHAT, name: str = "r") -> tuple[int, str]:
        headers = {"X-Request-Id": name}
        async with self.session.post(self.server.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def ask(self, body: Body, path: str = CHAT, name: str = "r") -> Any:
        status, text = await self.post(body, path, name)
        assert status == 200, text
        return json.loads(text)

    async def stream(self, body: Body, path: str = CHAT) -> list[Any]:
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        status, text = await self.post(asked, path)
        events = text.split("\n\n")
        assert (status, events[-2:]) == (200, ["data: [DONE]", ""])
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    async def until(self, condition: Callable[[Telemetry], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self.server.telemetry):
                await asyncio.sleep(0.002)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def asking(server: Server, client: aiohttp.ClientSession) -> Client:
    """A client of an engine without requests and without limits."""
    asking = Client(server, client)
    server.block.write_limits(EngineLimits())
    await asking.until(lambda telemetry: telemetry.running == telemetry.waiting == 0)
    server.block.read_steps()
    return asking


def chat(words: int, output_tokens: int) -> Body:
    messages = [{"role": "user", "content": " ".join(["wind"] * words)}]
    return {"messages": messages, "max_tokens": output_tokens, "ignore_eos": True}


@pytest.mark.slow
async def test_an_answer_has_the_requested_tokens(asking: Client) -> None:
    answer = await asking.ask(chat(5, 9), name="abc")
    assert (answer["id"], answer["model"]) == ("chatcmpl-abc", "tiny")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"]
    usage = answer["usage"]
    assert usage["completion_tokens"] == 9
    assert usage["prompt_tokens"] > 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 9


@pytest.mark.slow
async def test_a_stream_has_the_text_of_the_whole_answer_and_ends_with_its_usage(
    asking: Client,
) -> None:
    whole = await asking.ask(chat(3, 12))
    *chunks, last = await asking.stream(chat(3, 12))
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert (last["choices"], last["usage"]) == ([], whole["usage"])


@pytest.mark.slow
async def test_a_prompt_of_token_ids_gets_what_generate_gives(asking: Client) -> None:
    from tokenizers import Tokenizer

    prompt = [40, 77, 300, 12, 9, 401, 55]
    body = {"prompt": prompt, "max_tokens": 6, "ignore_eos": True}
    answer = await asking.ask(body, TEXT)
    command = [
        sys.executable,
        "-c",
        GENERATE,
        str(asking.server.folder),
        " ".join(map(str, prompt)),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tokenizer = Tokenizer.from_file(str(asking.server.folder / "tokenizer.json"))
    assert answer["choices"][0]["text"] == tokenizer.decode([int(t) for t in found.split()])
    assert answer["usage"]["prompt_tokens"] == len(prompt)


@pytest.mark.slow
async def test_telemetry_counts_the_tokens_of_the_usage(asking: Client) -> None:
    before = asking.server.telemetry
    asked = [chat(40 * i, 40 + i) for i in range(1, 9)]  # six run before the first has ended
    answers = await asyncio.gather(*(asking.ask(b, name=f"r{i}") for i, b in enumerate(asked)))
    usages = [answer["usage"] for answer in answers]
    await asking.until(lambda telemetry: telemetry.running == telemetry.waiting == 0)
    steps, telemetry = asking.server.steps, asking.server.telemetry
    for i, usage in enumerate(usages):
        own = [w for step in steps for w in step.work if w.key == request_key(f"r{i}")]
        assert sum(w.prompt_tokens for w in own) == usage["prompt_tokens"]
        assert sum(w.output_tokens for w in own) == usage["completion_tokens"]
        assert sum(w.decode_tokens for w in own) == usage["completion_tokens"] - 1
    assert telemetry.output_tokens - before.output_tokens == sum(
        u["completion_tokens"] for u in usages
    )
    assert telemetry.prompt_tokens - before.prompt_tokens == sum(u["prompt_tokens"] for u in usages)
    assert telemetry.steps - before.steps == len(steps)
    assert telemetry.busy_ns - before.busy_ns == sum(step.end_ns - step.start_ns for step in steps)
    assert max(len(step.work) for step in steps) == 6


@pytest.mark.slow
async def test_a_cut_of_the_limit_holds_running_requests_which_all_still_finish(
    asking: Client,
) -> None:
    server = asking.server
    tasks = [asyncio.create_task(asking.ask(chat(3, LONG), name=f"r{i}")) for i in range(5)]
    await asking.until(lambda telemetry: telemetry.scheduled == 5)
    server.block.write_limits(EngineLimits(2))
    await asking.until(lambda telemetry: telemetry.scheduled == 2)
    server.block.read_steps()
    answers = await asyncio.gather(*tasks)
    steps = server.steps
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {LONG}
    assert {len(step.work) for step in steps} <= {1, 2}
    assert len({w.key for step in steps[:48] for w in step.work}) == 5


@pytest.mark.slow
async def test_without_hold_a_cut_of_the_limit_only_stops_admission(asking: Client) -> None:
    server = asking.server
    tasks = [asyncio.create_task(asking.ask(chat(3, LONG), name=f"r{i}")) for i in range(4)]
    await asking.until(lambda telemetry: telemetry.scheduled == 4)
    server.block.write_limits(EngineLimits(1, hold=False))
    tasks.append(asyncio.create_task(asking.ask(chat(3, 2), name="late")))
    await asking.until(lambda telemetry: telemetry.waiting == 1)
    server.block.read_steps()
    await asyncio.gather(*tasks)
    steps = server.steps
    assert len(steps[0].work) == 4
    late = [step for step in steps if any(w.key == request_key("late") for w in step.work)]
    assert {len(step.work) for step in late} == {1}


@pytest.mark.slow
async def test_no_step_has_more_tokens_than_the_limit_allows(asking: Client) -> None:
    asking.server.block.write_limits(EngineLimits(tokens_per_step=16))
    usage = (await asking.ask(chat(30, 3)))["usage"]
    steps = asking.server.steps
    tokens = [sum(w.prompt_tokens + w.decode_tokens for w in step.work) for step in steps]
    assert max(tokens) == 16
    assert sum(tokens) == usage["prompt_tokens"] + 2
    contexts = [step.context_tokens for step in steps if step.work[0].decode_tokens]
    assert contexts == [usage["prompt_tokens"] + 1, usage["prompt_tokens"] + 2]


@pytest.mark.slow
async def test_a_frozen_engine_steps_no_more_until_it_is_thawed(asking: Client) -> None:
    server = asking.server
    tasks = [asyncio.create_task(asking.ask(chat(3, LONG), name=f"r{i}")) for i in range(2)]
    await asking.until(lambda telemetry: telemetry.scheduled == 2)
    server.send("freeze")
    late = asyncio.create_task(asking.ask(chat(3, 2), name="late"))
    await asking.until(lambda telemetry: telemetry.waiting == 1)  # the loop went round since
    frozen = server.telemetry.steps
    tasks.pop().cancel()
    await asking.until(lambda telemetry: telemetry.running == 1)
    assert server.telemetry.steps == frozen
    server.send("thaw")
    assert (await tasks[0])["usage"]["completion_tokens"] == LONG
    assert (await late)["usage"]["completion_tokens"] == 2


def known_requests(telemetry: Telemetry) -> int:
    return telemetry.running + telemetry.waiting


@pytest.mark.slow
async def test_an_engine_whose_limits_lapse_pauses_and_goes_on_when_they_are_renewed(
    asking: Client,
) -> None:
    server = asking.server
    server.block.renew(time.monotonic() + 60)
    answer = asyncio.create_task(asking.ask(chat(3, LONG)))
    await asking.until(lambda telemetry: telemetry.steps > 3)
    try:  # the other tests use the same engine
        server.block.renew(time.monotonic() - 1)
        late = []
        # The loop takes a request in at the beginning of a round. In the round that takes the first
        # one, a step may still end that began before the limits lapsed.
        late.append(asyncio.create_task(asking.ask(chat(3, 2), name="late")))
        await asking.until(lambda telemetry: known_requests(telemetry) == 2)
        late.append(asyncio.create_task(asking.ask(chat(3, 2), name="later")))
        await asking.until(lambda telemetry: known_requests(telemetry) == 3)
        steps = server.telemetry.steps
        late.append(asyncio.create_task(asking.ask(chat(3, 2), name="latest")))
        await asking.until(lambda telemetry: known_requests(telemetry) == 4)
        assert server.telemetry.steps == steps
    finally:
        server.block.renew(time.monotonic() + 3600)
    assert (await answer)["usage"]["completion_tokens"] == LONG
    assert [(await each)["usage"]["completion_tokens"] for each in late] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.7}, "asked for temperature 0.7, found greedy decoding"),
        ({"stop": ["wind"]}, "asked for stop ['wind'], found an engine without it"),
        ({"max_tokens": -5}, "asked for at least 1 output token, found -5"),
        ({"max_tokens": 4000}, "and 4000 output tokens, found room for 1 to 2048 together"),
        ({"messages": []}, "empty conversation"),
        ({"prompt": ["a", "b"]}, "asked for one prompt, found list"),
        ({"prompt": [5, 999_999]}, "asked for token 999999, found"),
        ({"prompt": [-1, 5]}, "asked for token -1, found"),
    ],
)
async def test_an_invalid_request_is_refused(asking: Client, change: Body, message: str) -> None:
    status, text = await asking.post({**chat(3, 2), **change})
    error = json.loads(text)["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


@pytest.mark.slow
async def test_the_memory_is_bounded(asking: Client) -> None:
    await asyncio.gather(*(asking.ask(chat(100, 20), name=f"r{i}") for i in range(12)))
    status = Path(f"/proc/{asking.server.process.pid}/status").read_text()
    assert int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 < 2e9


async def _unwell(client: aiohttp.ClientSession, url: str) -> None:
    """Return once the engine says that its steps ended: the library answers requests before."""
    while True:
        async with client.get(f"{url}/health") as answer:
            if answer.status == 503:
                return


@pytest.mark.slow
async def test_telemetry_shows_a_step_when_it_begins(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    notes = tmp_path / "notes"
    telemetry = {"block": str(tmp_path / "block"), "notes": str(notes)}
    with serving(tmp_path, hook="transformers_server:Looks", hook_arguments=telemetry) as server:
        await Client(server, client).ask(chat(3, 3))
    assert notes.read_text().split() == ["0", "1", "1", "1", "2", "1"]


@pytest.mark.slow
async def test_each_request_fails_when_the_steps_fail(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    hook = {"hook": "transformers_server:StopsAt", "hook_arguments": {"step": 3}}
    with serving(tmp_path, **hook) as server:
        asking = Client(server, client)
        status, text = await asking.post({**chat(3, 50), "stream": True})
        *_, broken, end = text.split("\n\n")
        assert (status, end) == (200, "")
        error = json.loads(broken.removeprefix("data: "))["error"]
        assert "the emulated GPU is gone" in error["message"]
        status, text = await asking.post(chat(3, 2))
        assert (status, json.loads(text)["error"]["type"]) == (500, "server_error")
        await asyncio.wait_for(_unwell(client, server.url), timeout=10)
