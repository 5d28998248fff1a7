"""Batch jobs of one user, from input to report: run, resume, cancel, status, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from steppe.batch.api_client import ApiClient
from steppe.batch.job import Job, JobState, JobTotals, RowCounts
from steppe.batch.local.folder import (
    JobFolder,
    JobSpec,
    create_folder,
    folder_of,
    open_folder,
    spec_of,
)
from steppe.batch.local.loading import load_rows
from steppe.batch.local.local_run import LocalRun
from steppe.batch.output.files import OutputFiles
from steppe.batch.row import CANCELLED
from steppe.batch.rows.read import open_rows
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import UsageError
from steppe.run.batch_progress import batch_progress
from steppe.run.signals import restore_handlers, set_handler

_FIRST = 100
"""Results in which the source of the energy is looked for."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What is known of a job.

    Attributes:
        job: The job.
        counts: Its rows.
        totals: Tokens and joules of its finished rows.
        energy_source: Where the joules are from; empty if unknown.
        is_running: Whether a process runs it now.
        folder: Its folder.
    """

    job: Job
    counts: RowCounts
    totals: JobTotals
    energy_source: str
    is_running: bool
    folder: Path

    @property
    def tokens_per_joule(self) -> float | None:
        """Output tokens per joule, wasted ones included; None if no energy is known."""
        energy_j = self.totals.energy_j + self.totals.wasted_j
        return self.totals.output_tokens / energy_j if energy_j > 0 else None

    def shown(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        job, counts, totals = self.job, self.counts, self.totals
        return {
            "job": job.id,
            "state": str(job.state),
            "is_running": self.is_running,
            "model": job.model or None,
            "rows": {
                "total": counts.total,
                "completed": counts.completed,
                "failed": counts.failed,
                "left": counts.total - counts.finished,
            },
            "prompt_tokens": totals.prompt_tokens,
            "cached_tokens": totals.cached_tokens,
            "output_tokens": totals.output_tokens,
            "energy_j": totals.energy_j,
            "wasted_j": totals.wasted_j,
            "energy_source": self.energy_source or None,
            "output_tokens_per_joule": self.tokens_per_joule,
            "created_epoch_s": job.created_epoch_s,
            "deadline_epoch_s": job.deadline_epoch_s,
            "output": job.output,
            "errors": job.error_output,
            "folder": str(self.folder),
        }


def read_key(path: Path | None) -> Headers:
    """Return the header with the key in a file; none without a file.

    Raises:
        UsageError: The file cannot be read, or is empty.
    """
    if path is None:
        return ()
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: asked for a file with a key, found: {error}") from error
    if not key:
        raise UsageError(f"{path}: asked for a key, found an empty file")
    return (("Authorization", f"Bearer {key}"),)


def at_gateway(spec: JobSpec, settings: RunnerSettings) -> JobSpec:
    """Return what to do, with the first model of the gateway for rows that name none.

    Raises:
        UsageError: The gateway cannot be reached, or does not serve the model that was asked for.
    """
    models, asked = ApiClient(settings.url, settings.headers).models(), spec.options.model
    if asked and asked not in models:
        known = ", ".join(models) or "none"
        raise UsageError(f"{settings.url}: asked for model {asked}, found {known}")
    return spec if asked or not models else spec.with_usual_model(models[0])


def check_spec(spec: JobSpec) -> None:
    """Check what can be checked before anything starts.

    Raises:
        UsageError: The input cannot be read or has no rows, or an output is there already.
    """
    if next(iter(open_rows(spec.input, spec.options)), None) is None:
        raise UsageError(f"{spec.input}: asked for rows, found none")
    folder = folder_of(spec.output)
    if folder.exists():
        found = f"found {folder}; `steppe batch resume {folder}` goes on with it"
        raise UsageError(f"{spec.output}: asked for a new job, {found}")


def run_at(spec: JobSpec, settings: RunnerSettings, console: Console) -> JobSummary:
    """Run a new job at a gateway.

    Raises:
        UsageError: The gateway cannot be reached, or input or output are not fit.
        SteppeError: The job cannot go on; it can be resumed.
    """
    check_spec(spec)
    with create_folder(at_gateway(spec, settings)) as folder:
        return run_here(folder, settings, console)


def resume_at(path: Path, settings: RunnerSettings, console: Console) -> JobSummary:
    """Go on with the job of a folder at a gateway."""
    with open_folder(path) as folder:
        if not folder.job().state.ended:
            ApiClient(settings.url, settings.headers).models()
        return run_here(folder, settings, console)


def run_here(folder: JobFolder, settings: RunnerSettings, console: Console) -> JobSummary:
    """Run the job of a folder in this thread; a signal stops it so that it can be resumed."""
    with batch_progress(console) as show:
        run = LocalRun(folder, replace(settings, timeline=folder.timeline), show)
        with _stopping_on_signals(run.stop):
            run.run()
    return summary_of(folder)


def begin_again(path: Path) -> None:
    """Let the job of a folder have its changed input: answers of rows that are the same stay.

    Raises:
        UsageError: The folder has no job, or its input cannot be read.
    """
    with open_folder(path) as folder, folder.locked():
        old = folder.job()
        spec = spec_of(old)
        check_rows = next(iter(open_rows(spec.input, spec.options)), None)
        if check_rows is None:
            raise UsageError(f"{spec.input}: asked for rows, found none")
        new = folder.add_job(spec)
        load_rows(folder.store, new)
        folder.store.adopt(new.id, old.id)
        for file in (spec.output, spec.errors):
            file.unlink(missing_ok=True)


def cancel(path: Path) -> JobSummary:
    """Cancel the job of a folder; rows without an answer become errors.

    A process that runs it ends within seconds; without one, this call ends the job.

    Raises:
        UsageError: The folder has no job, or it has ended.
    """
    with open_folder(path) as folder:
        job, store = folder.job(), folder.store
        if job.state.ended:
            raise UsageError(f"{path}: asked to cancel a job, found it {job.state}")
        open_states = [state for state in JobState if not state.ended]
        store.change_state(job.id, JobState.CANCELLING, time.time(), open_states)
        if not folder.is_locked():
            with folder.locked():
                _end_cancelled(folder, job)
        return summary_of(folder)


def _end_cancelled(folder: JobFolder, job: Job) -> None:
    store, now_s, spec = folder.store, time.time(), spec_of(job)
    store.fail_rest(job.id, CANCELLED, "the batch was cancelled before this row ran", now_s)
    output = OutputFiles(store, job.id, spec.output, spec.errors, in_order=spec.in_order)
    try:
        output.advance()
    finally:
        output.close()
    store.change_state(job.id, JobState.CANCELLED, now_s, (JobState.CANCELLING,))


def status(path: Path) -> JobSummary:
    """Return what is known of the job of a folder.

    Raises:
        UsageError: It has none.
    """
    with open_folder(path) as folder:
        return summary_of(folder)


def summary_of(folder: JobFolder) -> JobSummary:
    """Return what is known of the job of an open folder."""
    job, store = folder.job(), folder.store
    counts, totals = store.counts(job.id), store.totals(job.id)
    first = (stored.result.energy_source for stored in islice(store.results(job.id), _FIRST))
    source = next((each for each in first if each), "")
    return JobSummary(job, counts, totals, source, folder.is_locked(), folder.path)


@contextmanager
def _stopping_on_signals(stop: Callable[[], None]) -> Generator[None]:
    """Call a function on the first signals inside the block, in place of ending the process."""
    before = set_handler(lambda number, frame: stop())
    try:
        yield
    finally:
        restore_handlers(before)
