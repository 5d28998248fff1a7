"""Does `steppe bench serve` agree with NVIDIA's AIPerf on TTFT, ITL and token counts?

Both measure the same server in turn, several rounds, closed loop; medians over the rounds are
compared. The server answers at a fixed speed from a process of its own, so that only the
clients can differ; or it is any server behind `--url`, whose own spread then counts too. AIPerf
lives in a virtual environment of its own, which the first call makes in the user's cache:

    python bench/against_aiperf.py
    python bench/against_aiperf.py --url http://127.0.0.1:8000 --model smollm2-135m --rounds 3

Also validates our exports with AIPerf's own models.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import venv
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web
from rich.console import Console
from rich.progress import track
from rich.table import Table

from steppe.measure.provenance import installed_versions, source_commit
from steppe.models.store import get_model, models_folder
from targets import at_most

TOLERANCE = 0.03
AIPERF = "0.13.0"
TTFT_S, ITL_S = 0.2, 0.03
"""Speed of the fixed server, s."""
# Our key, AIPerf's tag, and what is compared: the mean, or for counts the total.
PAIRS = (
    ("mean_ttft_ms", "time_to_first_token", "avg"),
    ("mean_tpot_ms", "inter_token_latency", "avg"),
    ("mean_e2el_ms", "request_latency", "avg"),
    ("total_output_tokens", "output_sequence_length", "sum"),
    ("output_throughput", "output_token_throughput", "avg"),
)
CHECK = """
import json, sys
from pathlib import Path
from aiperf.common.models import MetricRecordInfo
from aiperf.common.models.export_models import JsonExportData
folder = Path(sys.argv[1])
JsonExportData.model_validate_json((folder / "profile_export_aiperf.json").read_text())
lines = (folder / "profile_export.jsonl").read_text().splitlines()
print(len([MetricRecordInfo.model_validate_json(line) for line in lines]))
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of both clients.

    Attributes:
        url: The server.
        model: Its model.
        concurrency: Users.
        requests: Requests in all.
        prompt: Prompt length, tokens.
        output: Output length, tokens.
        tokenizer: Folder of the tokenizer with which AIPerf writes prompts.
    """

    url: str
    model: str
    concurrency: int
    requests: int
    prompt: int
    output: int
    tokenizer: str


async def _answer(request: web.Request) -> web.StreamResponse:
    """Stream the requested number of tokens, one a chunk, at fixed times after the request."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    body = await request.json()
    count = int(body["max_tokens"])
    prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in range(count):
        await asyncio.sleep(begun_s + TTFT_S + number * ITL_S - loop.time())
        await _send(answer, {"choices": [{"index": 0, "delta": {"content": " a"}}]})
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
    await _send(answer, last)
    await _send(answer, {"choices": [], "usage": usage})
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def _send(answer: web.StreamResponse, event: dict[str, Any]) -> None:
    common = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "fixed"}
    await answer.write(b"data: " + json.dumps({**common, **event}).encode() + b"\n\n")


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "fixed", "object": "model"}]})


async def _serve(pipe: Connection) -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _answer)
    app.router.add_get("/v1/models", _models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pipe.send(runner.addresses[0][1])
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await runner.cleanup()


def _run_server(pipe: Connection) -> None:
    asyncio.run(_serve(pipe))


@contextmanager
def fixed_server() -> Generator[str]:
    """Serve at a fixed speed from a process of its own; yields its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_server, args=(theirs,))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.send("stop")
        process.join(timeout=20)


def installed_aiperf() -> Path:
    """Return the command of AIPerf, from an environment of its own; make that if there is none."""
    folder = models_folder().parent / f"aiperf-{AIPERF}"
    if not (folder / "bin" / "aiperf").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*command, f"aiperf=={AIPERF}"], check=True)
    return folder / "bin" / "aiperf"


def run_ours(load: Load, folder: Path) -> dict[str, float]:
    """Measure with `steppe bench serve`."""
    command = [sys.executable, "-m", "steppe.cli", "bench", "serve", "--url", load.url]
    command += ["--model", load.model, "--concurrency", str(load.concurrency), "--json"]
    command += ["--requests", str(load.requests), "--prompt", str(load.prompt)]
    command += ["--output", str(load.output), "--meter", "none", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {ours: float(found[ours]) for ours, _, _ in PAIRS}


def run_aiperf(aiperf: Path, load: Load, folder: Path) -> dict[str, float]:
    """Measure with AIPerf, at the lowest priority.

    Its timing manager spins on a core, which would slow a server on the same machine.
    """
    command = ["nice", "-n", "19", str(aiperf), "profile", "--model", load.model, "--url", load.url]
    command += ["--endpoint-type", "chat", "--streaming", "--tokenizer", load.tokenizer]
    command += ["--concurrency", str(load.concurrency), "--request-count", str(load.requests)]
    command += ["--isl", str(load.prompt), "--osl", str(load.output), "--random-seed", "0"]
    command += ["--use-server-token-count", "--use-legacy-max-tokens", "--no-gpu-telemetry"]
    command += ["--extra-inputs", "ignore_eos:true", "--artifact-dir", str(folder)]
    command += ["--ui", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = sorted(folder.rglob("profile_export_aiperf.json"))
    if done.returncode or not files:
        raise SystemExit(f"aiperf failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found = json.loads(files[-1].read_text())
    return {ours: float(found[tag][statistic]) for ours, tag, statistic in PAIRS}


def compare(aiperf: Path, load: Load, rounds: int) -> dict[str, Any]:
    """Measure in turn and return medians, differences and spreads."""
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_ours(load, folder / "warm-up")
        for number in track(range(rounds), "rounds", console=Console(stderr=True)):
            ours.append(run_ours(load, folder / f"ours-{number}"))
            theirs.append(run_aiperf(aiperf, load, folder / f"theirs-{number}"))
        accepted = _accepted(aiperf, folder / "ours-0")
    rows = {}
    for key, tag, _ in PAIRS:
        a, b = median(row[key] for row in ours), median(row[key] for row in theirs)
        spread = [
            max(r[key] for r in rows_) / min(r[key] for r in rows_) - 1 for rows_ in (ours, theirs)
        ]
        rows[key] = {
            "aiperf_tag": tag,
            "ours": a,
            "aiperf": b,
            "difference": a / b - 1,
            "spread_ours": spread[0],
            "spread_aiperf": spread[1],
        }
    return {
        "load": {**asdict(load), "tokenizer": Path(load.tokenizer).name},
        "rounds": rounds,
        "rows": rows,
        "records_accepted": accepted,
    }


def _accepted(aiperf: Path, folder: Path) -> int:
    """Return how many of our records AIPerf's own models accept."""
    python = aiperf.parent / "python"
    command = [str(python), "-c", CHECK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"aiperf's models refuse our export:\n{done.stderr[-2000:]}")
    return int(done.stdout.split()[-1])


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    checked = ("mean_ttft_ms", "mean_tpot_ms", "total_output_tokens")
    values = {key: abs(results["rows"][key]["difference"]) for key in checked}
    return {
        "bench": "against_aiperf",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {**installed_versions(), "aiperf": AIPERF},
        "results": results,
        "targets": [
            at_most(f"difference of {key}", value, "share", TOLERANCE)
            for key, value in values.items()
        ],
    }


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--aiperf", type=Path, help="its command, if it is installed elsewhere")
    parser.add_argument("--url", help="a running server instead of the fixed one")
    parser.add_argument("--model", default="fixed")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--tokenizer", help="folder, of AIPerf's prompts; SmolLM2's if absent")
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    console = Console(stderr=True)
    tokenizer = a.tokenizer or str(get_model("smollm2-135m", progress=console.print))
    server = fixed_server() if a.url is None else nullcontext(a.url)
    with server as url:
        load = Load(url, a.model, a.concurrency, a.requests, a.prompt, a.output, tokenizer)
        results = compare(a.aiperf or installed_aiperf(), load, a.rounds)
    table = Table(title=f"medians of {a.rounds} rounds, in turn")
    for head in ("key", "aiperf's tag", "ours", "aiperf", "difference", "spread ours", "theirs"):
        table.add_column(head)
    for key, row in results["rows"].items():
        table.add_row(
            key,
            row["aiperf_tag"],
            f"{row['ours']:.2f}",
            f"{row['aiperf']:.2f}",
            f"{row['difference']:+.1%}",
            f"{row['spread_ours']:.1%}",
            f"{row['spread_aiperf']:.1%}",
        )
    Console(width=120).print(table)
    print(json.dumps(document(results)))


if __name__ == "__main__":
    main()
