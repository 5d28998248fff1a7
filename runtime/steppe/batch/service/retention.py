"""Deletes files and jobs that have been kept long enough, and what a killed process left."""

from __future__ import annotations

import logging
from pathlib import Path

from steppe.batch.job import ENDED, JobState
from steppe.batch.service.job_run import timeline_path
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection

_log = logging.getLogger(__name__)


def delete_old(store: JobStore, batch: BatchSection, now_epoch_s: float) -> tuple[int, int]:
    """Delete what is old enough; return the number of files and of jobs.

    The input of a job that is being read stays, and a job whose files are not made yet.

    Args:
        store: Files and jobs.
        batch: How long they are kept.
        now_epoch_s: The time, s.
    """
    reading = {job.input for job in store.jobs(states=[JobState.VALIDATING])}
    files = [
        file.id
        for file in store.files(expired_by_epoch_s=now_epoch_s)
        if file.id not in reading and store.delete_file(file.id)
    ]
    jobs = [
        job.id
        for job in store.jobs(states=ENDED)
        if job.state is JobState.FAILED or job.settings.get("has_files")
        if job.entered.get(job.state, now_epoch_s) + batch.keep_jobs_s <= now_epoch_s
        and store.delete_job(job.id)
    ]
    for job_id in jobs:
        timeline_path(batch.folder, job_id).unlink(missing_ok=True)
    if files or jobs:
        _log.info("deleted %d files and %d jobs, which were old enough", len(files), len(jobs))
    return len(files), len(jobs)


def delete_leftovers(store: JobStore, folder: Path) -> int:
    """Delete what a killed process left; return how much. Nothing may be written now.

    Contents that the store does not know stay if it knows no file at all: it may be a new one,
    and the contents those of another.

    Args:
        store: Knows the files.
        folder: Has their contents.
    """
    known = {file.id for file in store.files()}
    contents = list(folder.glob("file-*"))
    leftovers = [path for path in contents if path.suffix == ".part"]
    unknown = [path for path in contents if path.suffix != ".part" and path.name not in known]
    if unknown and not known:
        _log.warning("%s: found %d files, of which the store has none", folder, len(unknown))
    elif unknown:
        leftovers += unknown
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
