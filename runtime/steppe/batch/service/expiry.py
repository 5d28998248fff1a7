"""When a job expires, and by when it is planned to be done."""

from __future__ import annotations

from steppe.batch.job import Job
from steppe.batch.runner.progress import RunProgress

MARGIN_SHARE, MOST_MARGIN_S = 0.05, 600.0
"""Share of its window, and most time, s, that a job is planned to end before the window does: the
last rows take their time, too."""


def planned_end_epoch_s(created_epoch_s: float, window_s: float) -> float:
    """Return the deadline for the plan of a job, s since the Unix epoch.

    Args:
        created_epoch_s: When it was made, s since the Unix epoch.
        window_s: Its completion window, s.
    """
    return created_epoch_s + window_s - min(MARGIN_SHARE * window_s, MOST_MARGIN_S)


def expires_epoch_s(job: Job) -> float:
    """Return when the completion window of a job ends, s since the Unix epoch."""
    assert job.completion_window_s is not None, "every job of the API has one"
    return job.created_epoch_s + job.completion_window_s


def is_behind(progress: RunProgress, deadline_epoch_s: float | None, now_epoch_s: float) -> bool:
    """Return whether the last row of a job is expected after its deadline.

    Args:
        progress: How far the job is. While no end is expected, the job is behind once it is due.
        deadline_epoch_s: Its deadline, s since the Unix epoch; None without one.
        now_epoch_s: The present time, s since the Unix epoch.
    """
    if deadline_epoch_s is None or not progress.left:
        return False
    expected_epoch_s = progress.finish.at_epoch_s
    return (now_epoch_s if expected_epoch_s is None else expected_epoch_s) > deadline_epoch_s
