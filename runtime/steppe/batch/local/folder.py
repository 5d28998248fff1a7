"""The folder of a job beside its output: store, lock and timeline."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steppe.batch.job import Job, JobState, When, new_job_id
from steppe.batch.rows.options import RowOptions
from steppe.batch.store.job_store import JobStore
from steppe.disk import disk_errors, sync_folder
from steppe.errors import JobBusyError, UsageError

STORE, LOCK, TIMELINE = "jobs.sqlite", "lock", "timeline.jsonl"
RUNNING = "running"
"""A second lock, which says that the first one is held: a look at it never refuses a runner."""


def folder_of(output: Path) -> Path:
    """Return the folder of the job that writes an output."""
    return output.with_name(output.name + ".job")


def errors_of(output: Path) -> Path:
    """Return the error file of an output: `out.jsonl` has `out.errors.jsonl`."""
    name, ending = output.name, ""
    for suffix in (".gz", ".zst"):
        if name.endswith(suffix):
            name, ending = name.removesuffix(suffix), suffix
    stem = Path(name)
    return output.with_name(f"{stem.stem}.errors{stem.suffix or '.jsonl'}{ending}")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job should do.

    Attributes:
        input: File or folder of its rows.
        output: File of the answers.
        errors: File of the rows without one.
        options: How the records of the input become requests.
        in_order: Whether the output is in the order of the input.
        when: When its rows may run.
        window_s: Time until the job should be done, s; None for no deadline.
    """

    input: Path
    output: Path
    errors: Path
    options: RowOptions
    in_order: bool = False
    when: When = When.DEADLINE
    window_s: float | None = None

    def settings(self) -> dict[str, Any]:
        """Return what a later runner needs, as JSON."""
        return {"rows": asdict(self.options), "in_order": self.in_order}

    def with_usual_model(self, model: str) -> JobSpec:
        """Return the same with a model for rows that name none."""
        return replace(self, options=replace(self.options, usual_model=model))


def spec_of(job: Job, **changes: Any) -> JobSpec:
    """Return what a job was asked to do."""
    settings: Mapping[str, Any] = job.settings
    values = {
        "input": Path(job.input),
        "output": Path(job.output),
        "errors": Path(job.error_output),
        "options": RowOptions(**settings["rows"]),
        "in_order": settings["in_order"],
        "when": job.when,
        "window_s": job.completion_window_s,
    }
    return JobSpec(**{**values, **changes})


class JobFolder:
    """The folder of a job; its newest job counts.

    Attributes:
        path: The folder.
        store: Its store.
    """

    def __init__(self, path: Path, store: JobStore) -> None:
        """Take an open store; see `create_folder` and `open_folder`."""
        self.path, self.store = path, store

    @property
    def timeline(self) -> Path:
        """The file of the timeline."""
        return self.path / TIMELINE

    def job(self) -> Job:
        """Return the newest job.

        Raises:
            UsageError: There is none.
        """
        found = self.store.jobs(limit=1)
        if not found:
            raise UsageError(f"{self.path}: asked for a job, found none in its store")
        return found[0]

    def add_job(self, spec: JobSpec) -> Job:
        """Add a job without rows."""
        now_s = time.time()
        job = Job(
            id=new_job_id(),
            tenant="",
            model=spec.options.model or spec.options.usual_model,
            endpoint=spec.options.endpoint,
            when=spec.when,
            created_epoch_s=now_s,
            completion_window_s=spec.window_s,
            deadline_epoch_s=None if spec.window_s is None else now_s + spec.window_s,
            input=str(spec.input.absolute()),
            output=str(spec.output.absolute()),
            error_output=str(spec.errors.absolute()),
            settings=spec.settings(),
            entered={JobState.VALIDATING: now_s},
        )
        self.store.add_job(job)
        return job

    @contextmanager
    def locked(self) -> Generator[None]:
        """Let no other process run the job inside the block; a lease from before is void.

        Raises:
            JobBusyError: Another process runs it.
        """
        path = self.path / LOCK
        with disk_errors(path), path.open("ab") as file, ExitStack() as stack:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                found = "found another process that runs it"
                raise JobBusyError(f"{self.path}: asked to run the job, {found}") from error
            running = stack.enter_context((self.path / RUNNING).open("ab"))
            fcntl.flock(running, fcntl.LOCK_EX)  # a look ends at once
            job = self.job()
            owner = self.store.lease_owner(job.id, time.time())
            if owner is not None:
                self.store.end_lease(job.id, owner)
            yield

    def is_locked(self) -> bool:
        """Return whether a process runs the job."""
        try:
            with (self.path / RUNNING).open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        """Close the store."""
        self.store.close()


@contextmanager
def create_folder(spec: JobSpec) -> Generator[JobFolder]:
    """Make the folder of a new job, and its job.

    Raises:
        UsageError: An output or a job is there already, or the folder cannot be made.
    """
    path = folder_of(spec.output)
    if path.exists():
        found = f"found {path}; `steppe batch resume {path}` goes on with it"
        raise UsageError(f"{spec.output}: asked for a new job, {found}")
    for file in (spec.output, spec.errors):
        if file.exists():
            raise UsageError(f"{file}: asked for a new file, found one that exists")
    draft = path.with_name(path.name + ".draft")  # a killed process leaves no half a folder
    with disk_errors(path):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        with open_folder(draft, is_new=True) as folder:
            folder.add_job(spec)
        draft.rename(path)
        sync_folder(path.parent)
    with open_folder(path) as folder:
        yield folder


@contextmanager
def open_folder(path: Path, *, is_new: bool = False) -> Generator[JobFolder]:
    """Open the folder of a job.

    Raises:
        UsageError: It is none.
    """
    store = path / STORE
    if not is_new and not store.is_file():
        raise UsageError(
            f"{path}: asked for the folder of a job, such as out.jsonl.job, found none"
        )
    folder = JobFolder(path, JobStore(str(store)))
    try:
        yield folder
    finally:
        folder.close()
