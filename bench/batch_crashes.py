"""Does a batch job lose, repeat or recompute a row when its processes are killed at random points?

One job of rows, some of them torn or refused, is run by `steppe batch run`, while processes are
killed by SIGKILL at random points, and started again if nothing else does that:

- `--processes runner`: the runner alone, before a server that answers in no time to speak of; a
  kill may fall into the load of the rows, the run, the end;
- `--processes fleet`: runner, gateway, replica with its engine, node actor and controller of a live
  fleet of two synthetic replicas (see `fault_fleet.py`);
- `--processes service`: the same fleet, with the job at its Batch API: the batch service in place
  of the runner.

A door between runner and gateway (see `batch_witness.py`) notes every row that was sent and how it
was answered. In the end each custom id must be exactly once in output or errors, and no row may
have been sent again after the store had its result. A row that was answered and is sent again must
have been answered just before the runner was killed. The batch service sends its rows past the
door: there the record of the run says which answers were no result of a row.

    python bench/batch_crashes.py --processes runner
    python bench/batch_crashes.py --processes fleet --out bench/results/batch_crashes.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from batch_local_job import LocalJob
from batch_service_job import ServiceJob, recorded, run_began_s
from batch_verdict import FileCounts, Kill, Recomputed, count_files, seen_by
from batch_witness import Witness, answers, forward, lines
from fault_fleet import MODEL, START_S, Fleet, Signal, free_port, make_config, wait_until
from steppe.measure.provenance import source_commit
from targets import at_least, at_most

TITLES = {
    "gateway": "ray::GatewayActor",
    "replica": "ray::ReplicaActor",
    "node actor": "ray::Node",
    "controller": "ray::Controller",
}
"""The processes of a fleet, by the begin of their title; the engine is in that of its replica."""
EARLY_S = 1.5
"""An early kill falls into the first so many seconds of a runner."""
LONGEST_S = 900.0
"""Longest time between two kills, s: then the job is stuck."""


class Job(Protocol):
    """A job under test."""

    rows: int
    runs: list[int]
    """Exit code of each run that ended by itself."""

    def start(self) -> None:
        """Start it, or go on with it."""

    @property
    def has_ended(self) -> bool:
        """Whether its run has ended by itself; the code is in `runs`."""

    def stored(self) -> frozenset[int]:
        """Return the rows that have a result in the store."""


@dataclass
class Trial:
    """A job and what was killed so far."""

    job: Job
    answered: Callable[[], int]
    strike: Callable[[], str]
    rng: random.Random
    kills: list[Kill] = field(default_factory=list)

    def run(self, kills: int) -> None:
        """Run the job, and kill a process at random points until it has ended."""
        self.job.start()
        while True:
            left = kills - len(self.kills)
            if left > 0 and self._wait_for_point(left):
                before, at_s = self.job.stored(), time.monotonic()
                what = self.strike()
                if what == "runner":  # now the store is at rest
                    before, at_s = self.job.stored(), time.monotonic()
                self.kills.append(Kill(what, at_s, before))
                done = f"{len(before)} of {self.job.rows} rows stored"
                print(f"kill {len(self.kills)}: {what}, {done}", flush=True)
            if self.job.has_ended:
                if self.job.runs[-1] == 0:
                    return
                if len(self.job.runs) > 5 + kills:
                    raise SystemExit(f"the runner ends with {self.job.runs[-1]}")
                time.sleep(0.2)
                self.job.start()
            else:
                time.sleep(0.05)

    def _wait_for_point(self, left: int) -> bool:
        """Wait for the next point at which something is killed; False if the job ends before.

        Three of ten kills fall into the first seconds of a runner, the others after some answers.
        """
        began_s, begin = time.monotonic(), self.answered()
        missing = max(0, self.job.rows - begin)
        wanted = begin + self.rng.randint(0, max(1, 2 * missing // (left + 1)))
        early_s = self.rng.uniform(0.0, EARLY_S) if self.rng.random() < 0.3 else None
        jitter_s = self.rng.uniform(0.0, 0.25)
        looked_s = began_s
        while True:
            passed_s = time.monotonic() - began_s
            if early_s is not None and passed_s >= early_s:
                return True
            if early_s is None and self.answered() >= wanted:
                time.sleep(jitter_s)
                return True
            if passed_s > LONGEST_S:
                raise SystemExit("the job makes no progress")
            if time.monotonic() - looked_s > 0.5:
                looked_s = time.monotonic()
                if self.job.has_ended:
                    return False
            time.sleep(0.01)


def _runner_only(arguments: argparse.Namespace, folder: Path) -> tuple[Trial, Recomputed]:
    rng = random.Random(arguments.seed)
    _write_input(arguments, folder, "m")
    with Witness(answers(rng, arguments.longest_s, refused=0.01)) as witness:
        job = LocalJob(folder, witness.url, arguments.rows, arguments.outstanding)

        def strike() -> str:
            job.kill_runner()
            return "runner"

        trial = Trial(job, witness.answered, strike, rng)
        trial.run(arguments.kills)
        return trial, seen_by(witness, trial.kills)


def _with_fleet(arguments: argparse.Namespace, folder: Path) -> tuple[Trial, Recomputed]:
    rng, port = random.Random(arguments.seed), free_port()
    changes = {"batch": {"folder": str(folder / "batch")}, "gateway": {"port": port}}
    signal_file = Signal(folder / "watts")
    fleet = Fleet.start(folder, make_config(folder, port, **changes), port)
    try:
        took_s = wait_until(fleet.is_whole, START_S)
        if math.isnan(took_s):
            raise SystemExit(f"the fleet has not started within {START_S:.0f} s")
        print(f"fleet of two replicas started within {took_s:.0f} s", flush=True)
        _write_input(arguments, folder, MODEL)
        serves = arguments.processes == "service"
        trial, found = (_of_service if serves else _of_fleet)(arguments, folder, fleet, rng)
        if fleet.process.poll() is not None:
            raise SystemExit(f"the fleet ended with {fleet.process.returncode}")
        return trial, found
    finally:
        fleet.clean()
        signal_file.stop()


def _of_fleet(
    arguments: argparse.Namespace, folder: Path, fleet: Fleet, rng: random.Random
) -> tuple[Trial, Recomputed]:
    sessions: list[aiohttp.ClientSession] = []
    with Witness(forward(fleet.url, sessions), sessions=sessions) as witness:
        job = LocalJob(folder, witness.url, arguments.rows, arguments.outstanding)
        trial = Trial(job, witness.answered, _striker(fleet, "runner", job.kill_runner, rng), rng)
        trial.run(arguments.kills)
        return trial, seen_by(witness, trial.kills)


def _of_service(
    arguments: argparse.Namespace, folder: Path, fleet: Fleet, rng: random.Random
) -> tuple[Trial, Recomputed]:
    job, began_s = ServiceJob(folder, fleet, arguments.rows), run_began_s(fleet)
    trial = Trial(job, job.answered, _striker(fleet, "service", job.kill_runner, rng), rng)
    trial.run(arguments.kills)
    time.sleep(3.0)  # the last requests are in the record after a tick
    return trial, recorded(job, fleet, [kill.at_s for kill in trial.kills], began_s)


def _striker(
    fleet: Fleet, runner: str, kill_runner: Callable[[], None], rng: random.Random
) -> Callable[[], str]:
    """Return a function that kills a random process of a fleet, or the runner."""

    def strike() -> str:
        alive = {name: fleet.pids(title) for name, title in TITLES.items()}
        what = rng.choice([runner, *(name for name, pids in alive.items() if pids)])
        if what == runner:
            kill_runner()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(alive[what]), signal.SIGKILL)
        return what

    return strike


def _write_input(arguments: argparse.Namespace, folder: Path, model: str) -> None:
    torn_every = 0 if arguments.processes == "service" else arguments.torn_every
    whole = lines(arguments.rows, torn_every).replace(b'"MODEL"', b'"%s"' % model.encode())
    (folder / "in.jsonl").write_bytes(whole)


def main() -> None:
    """Run the job and print the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", choices=("runner", "fleet", "service"), default="runner")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--torn-every", type=int, default=97, help="so many lines, one is torn")
    parser.add_argument("--outstanding", type=int, default=8, help="rows sent at once")
    parser.add_argument("--longest-s", type=float, default=0.4, help="longest answer, s")
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batch-crashes-") as name:
        run = _runner_only if arguments.processes == "runner" else _with_fleet
        try:
            trial, found = run(arguments, Path(name))
        except SystemExit:
            print((Path(name) / "log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
        files = count_files(Path(name))
    document = _document(arguments, trial, files, found) | {
        "took_s": round(time.monotonic() - began_s, 1)
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document))


def _document(
    arguments: argparse.Namespace, trial: Trial, files: FileCounts, found: Recomputed
) -> dict[str, Any]:
    stored = [len(kill.stored) for kill in trial.kills]
    return {
        "bench": "batch_crashes",
        "commit": source_commit(),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version()},
        "arguments": {key: value for key, value in vars(arguments).items() if key != "out"},
        "results": {
            "kills": dict(Counter(kill.what for kill in trial.kills)),
            "rows_stored_at_the_median_kill": statistics.median(stored) if stored else 0,
            "files": asdict(files),
            "recomputed": asdict(found),
        },
        "targets": [
            at_least("kills", len(trial.kills), "kills", arguments.kills),
            at_most("rows in neither output nor errors", files.missing, "rows", 0),
            at_most("rows there more than once", files.repeated, "rows", 0),
            at_most("torn lines in the files", files.torn, "lines", 0),
            at_most("sent again after their result", found.after_result or 0, "rows", 0),
            at_most("recomputed, and not running at a kill", found.unexplained, "rows", 0),
        ],
    }


if __name__ == "__main__":
    main()
