"""Kills of `steppe batch` at random points: no row is lost, doubled, or computed in vain."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.fixtures.batch_gateway import FakeGateway, completion, in_a_thread, refusal

from steppe.batch.local.folder import open_folder

pytestmark = pytest.mark.slow

ROWS, KILLS, OUTSTANDING = 600, 25, 16
WITHIN_S = 300.0


def write_input(path: Path) -> None:
    lines = []
    for number in range(ROWS):
        text = f"bad {number}" if number % 40 == 7 else f"text {number}"
        messages = [{"role": "user", "content": text}]
        lines.append(json.dumps({"custom_id": text, "messages": messages}))
    path.write_text("\n".join([*lines, '{"torn']) + "\n")


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(0.05)
    if body["messages"][0]["content"].startswith("bad"):
        return refusal(400, "invalid_value")
    return web.json_response(completion())


def start(folder: Path, gateway: FakeGateway) -> subprocess.Popen[bytes]:
    """Run the job, or go on with it."""
    output = folder / "out.jsonl"
    place = folder / "out.jsonl.job"
    job = ["run", str(folder / "in.jsonl"), "-o", str(output)]
    if place.exists():
        job = ["resume", str(place)]
    command = [sys.executable, "-m", "steppe", "batch", *job, "--url", gateway.url]
    return subprocess.Popen(
        [*command, "--outstanding", str(OUTSTANDING)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a condition holds, or the process has ended."""
    give_up_s = time.monotonic() + WITHIN_S
    while not condition() and process.poll() is None:
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def finished(place: Path) -> set[str]:
    if not place.exists():
        return set()
    with open_folder(place) as folder:
        job = folder.job()
        return {stored.result.custom_id for stored in folder.store.results(job.id)}


def test_each_row_is_in_one_file_once_after_many_kills(tmp_path: Path) -> None:
    write_input(tmp_path / "in.jsonl")
    rng, place, done = random.Random(7), tmp_path / "out.jsonl.job", set[str]()
    with in_a_thread(FakeGateway(every=answer)) as gateway:
        for _ in range(KILLS):
            before = Counter(gateway.seen)
            process = start(tmp_path, gateway)
            more = rng.choice((0, 1, 3, rng.randrange(20)))
            wait_until(lambda: sent(gateway, before).total() >= more, process)  # noqa: B023
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            wait_until(lambda: gateway.open == 0, process)
            again = done & set(sent(gateway, before))
            assert again == set(), "they had results before"
            done = finished(place)
        process = start(tmp_path, gateway)
        _, said = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 0, said.decode()
    check_files(tmp_path)


def sent(gateway: FakeGateway, before: Counter[str]) -> Counter[str]:
    """Return the rows that a gateway has seen since."""
    return Counter(gateway.seen) - before


def check_files(folder: Path) -> None:
    output, errors = (
        [json.loads(line)["custom_id"] for line in (folder / name).read_bytes().splitlines()]
        for name in ("out.jsonl", "out.errors.jsonl")
    )
    assert len(output) + len(errors) == ROWS + 1
    assert len({*output, *errors}) == ROWS + 1
    assert {each for each in errors if each.startswith("bad")} == {
        f"bad {number}" for number in range(7, ROWS, 40)
    }
    assert f"row-{ROWS}" in errors
