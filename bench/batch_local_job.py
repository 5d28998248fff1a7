"""A job of `steppe batch run` in a process of its own, for `batch_crashes.py`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from steppe.batch.store.job_store import JobStore


@dataclass
class LocalJob:
    """A job of `steppe batch run`, and what was killed so far."""

    folder: Path
    url: str
    rows: int
    outstanding: int
    runs: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        """Where the answers go."""
        return self.folder / "out.jsonl"

    @property
    def job_folder(self) -> Path:
        """The folder of the job, beside its output."""
        return self.folder / "out.jsonl.job"

    def start(self) -> None:
        """Start the runner: a new job, or the one that is there."""
        new = ("run", str(self.folder / "in.jsonl"), "-o", str(self.output), "--when", "now")
        old = ("resume", str(self.job_folder))
        command = [sys.executable, "-m", "steppe.cli", "batch"]
        command += old if self.job_folder.exists() else new
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--url", self.url, "--json", "--outstanding", str(self.outstanding)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the runner has ended by itself."""
        assert self.process is not None
        if self.process.poll() is None:
            return False
        self.runs.append(self.process.returncode)
        return True

    def kill_runner(self) -> None:
        """Kill the runner."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stored(self) -> frozenset[int]:
        """Return the rows that have a result in the store."""
        place = self.job_folder / "jobs.sqlite"
        if not place.exists():
            return frozenset()
        store = JobStore(str(place))
        try:
            return frozenset(
                stored.result.number for job in store.jobs() for stored in store.results(job.id)
            )
        finally:
            store.close()
