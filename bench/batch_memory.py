"""Is the memory of a batch flat, and how fast is its store, for a file of a million rows?

A file of JSON lines is read, every row is claimed and finished in groups, and the output is
written, all through SQLite with each commit on disk. No model runs: answers are of a fixed length,
and reading goes on in a thread beside the rest, as in a job. Each size runs in a process of its
own, whose largest resident memory counts; the largest size is compared with the one before. Claims
of the last tenth of the rows are compared with those of the first tenth after the whole file was
read. Time is that of the wall: other work on the machine makes it longer.

    python bench/batch_memory.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from steppe.batch.job import Job, When
from steppe.batch.output.files import OutputFiles
from steppe.batch.row import Claim, RowResult
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_rows
from steppe.batch.store.job_store import JobStore
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

SIZES = (10_000, 100_000, 1_000_000)
SEED, SYSTEMS, GROUP, GROUPS_OF_PART = 7, 50, 256, 8
"""Prompts that begin alike; rows of one commit; commits before the output goes on."""
ANSWER = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "x" * 600}}]})
JOB = "batch_1"
MOST_GROWTH, LEAST_ROWS_PER_S, MOST_SLOWER, MOST_FIRST_S = 1.1, 3000.0, 2.0, 5.0


def write_input(path: Path, rows: int) -> None:
    """Write chats with one of some system prompts and a question of their own."""
    rng = random.Random(SEED)
    systems = [f"You are assistant {number}. " * 20 for number in range(SYSTEMS)]
    with path.open("wb") as file:
        for number in range(rows):
            messages = [
                {"role": "system", "content": rng.choice(systems)},
                {"role": "user", "content": f"Question {rng.random()}: " + "why? " * 20},
            ]
            line = {"custom_id": f"row-{number}", "messages": messages}
            file.write(orjson.dumps(line) + b"\n")


class Clock:
    """Adds up the time of calls, s."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.taken_s.append(time.monotonic() - self._began_s)

    @property
    def total_s(self) -> float:
        """Time of all calls, s."""
        return sum(self.taken_s)


def answer(claim: Claim) -> RowResult:
    """Return the result of a row, as a runner makes it."""
    row = claim.row
    return RowResult(
        row.number,
        row.custom_id,
        200,
        f"req-{row.number}",
        ANSWER,
        prompt_tokens=150,
        output_tokens=120,
        energy_j=1.0,
        energy_source="modelled",
        boundary="gpu",
        started_epoch_s=1.0,
        ended_epoch_s=2.0,
        attempts=1,
        replica="r1",
        model="m",
    )


def run_one(folder: Path, rows: int) -> dict[str, Any]:
    """Run a whole job in this process; return its memory and its times."""
    write_input(folder / "in.jsonl", rows)
    store = JobStore(str(folder / "jobs.db"))
    store.add_job(Job(JOB, "", "m", "", When.NOW, 0.0))
    files = OutputFiles(store, JOB, folder / "out.jsonl", folder / "errors.jsonl")
    loading, began_s = Clock(), time.monotonic()

    def load() -> None:
        with loading:
            store.add_rows(JOB, open_rows(folder / "in.jsonl", RowOptions(model="m")))

    thread = threading.Thread(target=load)
    thread.start()
    first_s: float | None = None
    claiming, finishing, writing = Clock(), Clock(), Clock()
    after_load: list[float] = []
    finished = 0
    while finished < rows:
        is_loaded = not thread.is_alive()
        with claiming:
            claims = store.claim(JOB, GROUP, "bench")
        if not claims:
            thread.join(0.05)  # the rows come in parts
            continue
        if is_loaded and len(claims) == GROUP:
            after_load.append(claiming.taken_s[-1])
        with finishing:
            finished += store.finish(JOB, [answer(claim) for claim in claims])
        if first_s is None or len(finishing.taken_s) % GROUPS_OF_PART == 0 or finished == rows:
            with writing:
                written = files.advance()
            first_s = time.monotonic() - began_s if first_s is None and written else first_s
    thread.join()
    files.close()
    store.close()
    tenth = max(1, len(after_load) // 10)
    return {
        "rows": rows,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "input_bytes": (folder / "in.jsonl").stat().st_size,
        "store_bytes": (folder / "jobs.db").stat().st_size,
        "output_bytes": (folder / "out.jsonl").stat().st_size,
        "first_output_s": first_s,
        "job_s": time.monotonic() - began_s,
        "load_rows_per_s": rows / loading.total_s,
        "claim_rows_per_s": rows / claiming.total_s,
        "finish_rows_per_s": rows / finishing.total_s,
        "output_rows_per_s": rows / writing.total_s,
        "claim_first_tenth_s": statistics.median(after_load[:tenth]) if after_load else None,
        "claim_last_tenth_s": statistics.median(after_load[-tenth:]) if after_load else None,
    }


def run_apart(rows: int, parent: Path | None) -> dict[str, Any]:
    """Run a size in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="steppe-batch-memory-", dir=parent) as folder:
        command = [sys.executable, __file__, "--one", str(rows), "--folder", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def targets(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return whether memory is flat and the store fast, at the largest size."""
    before, last = results[-2:]
    growth = last["peak_memory_bytes"] / before["peak_memory_bytes"]
    found = [
        at_most(
            f"memory of {last['rows']:,} rows over that of {before['rows']:,}",
            growth,
            "ratio",
            MOST_GROWTH,
        ),
        at_least("rows finished", last["finish_rows_per_s"], "rows/s", LEAST_ROWS_PER_S),
        at_most("first output", last["first_output_s"], "s", MOST_FIRST_S),
    ]
    if last["claim_first_tenth_s"]:
        slower = last["claim_last_tenth_s"] / last["claim_first_tenth_s"]
        found.append(
            at_most("claims of the last tenth over the first", slower, "ratio", MOST_SLOWER)
        )
    return found


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print a table for people."""
    table = Table(
        "rows", "memory, MB", "first output, s", "load", "claim", "finish", "output, rows/s"
    )
    for row in results:
        names = ("load", "claim", "finish", "output")
        speeds = [f"{row[f'{name}_rows_per_s']:,.0f}" for name in names]
        memory = f"{row['peak_memory_bytes'] / 1e6:.0f}"
        table.add_row(f"{row['rows']:,}", memory, f"{row['first_output_s']:.2f}", *speeds)
    Console(stderr=True).print(table)


def main() -> None:
    """Run all sizes and print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=SIZES, help="sizes to run, two or more"
    )
    parser.add_argument("--folder", type=Path, help="where the files go; needs 3 KB a row")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(run_one(arguments.folder, arguments.one)))
        return
    results = [run_apart(rows, arguments.folder) for rows in arguments.rows]
    show(results)
    document = {
        "bench": "batch_memory",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "arguments": {"rows": list(arguments.rows)},
        "group": GROUP,
        "versions": {"sqlalchemy": version("sqlalchemy"), "sqlite": sqlite3.sqlite_version},
        "results": results,
        "targets": targets(results),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
