"""Files and jobs as OpenAI's API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steppe.batch.job import Job, JobState, JobTotals, RowCounts, StoredFile
from steppe.batch.service.expiry import expires_epoch_s

_ENTERED = {
    "in_progress_at": JobState.IN_PROGRESS,
    "finalizing_at": JobState.FINALIZING,
    "completed_at": JobState.COMPLETED,
    "failed_at": JobState.FAILED,
    "expired_at": JobState.EXPIRED,
    "cancelling_at": JobState.CANCELLING,
    "cancelled_at": JobState.CANCELLED,
}
_BEFORE_FILES = {
    JobState.COMPLETED: JobState.FINALIZING,
    JobState.EXPIRED: JobState.FINALIZING,
    JobState.CANCELLED: JobState.CANCELLING,
}
"""What a job that has ended is shown as until its files are there."""


def shown_file(file: StoredFile) -> dict[str, Any]:
    """Return a file as JSON values."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_epoch_s),
        "expires_at": None if file.expires_epoch_s is None else int(file.expires_epoch_s),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def shown_job(
    job: Job, counts: RowCounts, totals: JobTotals, waits_for: str = ""
) -> dict[str, Any]:
    """Return a job as JSON values."""
    has_files = bool(job.settings.get("has_files"))
    state = job.state if has_files else _BEFORE_FILES.get(job.state, job.state)
    times = {name: _time(job, of) for name, of in _ENTERED.items()}
    if state is not job.state:
        times[f"{job.state}_at"] = None
    has_failed = job.state is JobState.FAILED
    return {
        "id": job.id,
        "object": "batch",
        "endpoint": job.endpoint,
        "model": job.model or None,
        "errors": {"object": "list", "data": job.settings.get("errors", [])}
        if has_failed
        else None,
        "input_file_id": job.input,
        "completion_window": job.settings.get("window", ""),
        "status": str(state),
        "output_file_id": job.output or None if has_files else None,
        "error_file_id": job.error_output or None if has_files else None,
        "created_at": int(job.created_epoch_s),
        "expires_at": int(expires_epoch_s(job)),
        **times,
        "request_counts": {
            "total": 0 if has_failed else counts.total,
            "completed": 0 if has_failed else counts.completed,
            "failed": 0 if has_failed else counts.failed,
        },
        "usage": _usage(totals),
        "metadata": dict(job.metadata) or None,
        "when": str(job.when),
        "waits_for": waits_for or None,
        "energy": {"joules": totals.energy_j, "wasted_joules": totals.wasted_j},
    }


def shown_list(entries: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Return a page of a list.

    Args:
        entries: The entries, one more than the limit if there are more.
        limit: Most entries of the page.
    """
    data = entries[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(entries) > limit,
    }


def _time(job: Job, state: JobState) -> int | None:
    entered_s = job.entered.get(state)
    return None if entered_s is None else int(entered_s)


def _usage(totals: JobTotals) -> dict[str, Any]:
    return {
        "input_tokens": totals.prompt_tokens,
        "input_tokens_details": {"cached_tokens": totals.cached_tokens},
        "output_tokens": totals.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": totals.prompt_tokens + totals.output_tokens,
    }
