"""A job at the Batch API of a live fleet, and what the run's record says of it.

For `batch_crashes.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai

from batch_verdict import Recomputed, recomputed_from
from fault_fleet import Fleet
from steppe.batch.job import ENDED
from steppe.batch.row import RowResult
from steppe.batch.store.job_store import JobStore
from steppe.errors import UsageError

TITLE = "ray::ServiceActor"
"""The process of the batch service, by the begin of its title."""
HELD_S = 5.0
"""An answer is held for its energy, and its result written, at most so long after its end, s."""


@dataclass
class ServiceJob:
    """A job of the Batch API; `kill_runner` kills the service that runs it."""

    folder: Path
    fleet: Fleet
    rows: int
    id: str = ""
    runs: list[int] = field(default_factory=list)
    _client: openai.OpenAI = field(init=False)

    def __post_init__(self) -> None:
        """Make the client."""
        self._client = openai.OpenAI(base_url=f"{self.fleet.url}/v1", api_key="-", timeout=30.0)

    def start(self) -> None:
        """Send the file and make the job, once."""
        if self.id:
            return
        given = self._client.files.create(file=self.folder / "in.jsonl", purpose="batch")
        made = self._client.batches.create(
            input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        self.id = made.id

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended; then its files are fetched."""
        with self.store() as store:
            job = store.job(self.id)
        if job is None or job.state not in ENDED:
            return False
        found = self._client.with_options(max_retries=20).batches.retrieve(self.id)
        if found.status != job.state:
            return False
        files = {"out.jsonl": found.output_file_id, "out.errors.jsonl": found.error_file_id}
        for name, id_ in files.items():
            if id_ is not None:
                (self.folder / name).write_bytes(self._client.files.content(id_).read())
        self.runs.append(0 if found.status == "completed" else 1)
        return True

    def kill_runner(self) -> None:
        """Kill the service."""
        for pid in self.fleet.pids(TITLE)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def answered(self) -> int:
        """Return how many rows have a result."""
        with contextlib.suppress(UsageError), self.store() as store:
            return store.counts(self.id).finished
        return 0

    def results(self) -> list[RowResult]:
        """Return the results so far."""
        with self.store() as store:
            return [stored.result for stored in store.results(self.id)]

    def stored(self) -> frozenset[int]:
        """Return the rows that have a result in the store."""
        return frozenset(result.number for result in self.results())

    @contextlib.contextmanager
    def store(self) -> Iterator[JobStore]:
        """Open the store of the service beside it."""
        store = JobStore(str(self.folder / "batch" / "jobs.db"))
        try:
            yield store
        finally:
            store.close()


def recorded(job: ServiceJob, fleet: Fleet, kills_s: Sequence[float], began_s: float) -> Recomputed:
    """Compare the requests that the run recorded with the results of the store.

    Args:
        job: The job.
        fleet: The fleet; its record is read.
        kills_s: When something was killed, s on the monotonic clock.
        began_s: When the run began, s on the monotonic clock.
    """
    used = {result.request_id for result in job.results()}
    ages_s = []
    for line in (fleet.record / "requests.jsonl").read_text().splitlines():
        request = json.loads(line)
        if request["finish"] not in ("stop", "length") or request["id"] in used:
            continue
        begun_s = began_s + request["arrival_s"]
        ended_s = begun_s + request["e2e_s"]
        after_s = [at_s - ended_s for at_s in kills_s if at_s >= begun_s]
        ages_s.append(max(0.0, min(after_s, default=float("inf"))))
    return recomputed_from(ages_s, HELD_S, None)


def run_began_s(fleet: Fleet) -> float:
    """Return when the time of the run began, s on the monotonic clock of this process."""
    status = httpx.get(f"{fleet.url}/steppe/v1/status", timeout=10.0).json()
    return time.monotonic() - (time.time() - float(status["at"])) - float(status["t_s"])
