"""Which jobs run next, when not all may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from steppe.batch.job import Job, JobState
from steppe.batch.service.expiry import expires_epoch_s


def next_jobs(
    waiting: Iterable[Job], running: Collection[Job], most: int, now_epoch_s: float
) -> list[Job]:
    """Return the jobs to start now.

    The tenants take turns: next is the oldest job of the tenant with the fewest that run. A job
    that only has to be ended, as it is late or cancelled, takes no place.

    Args:
        waiting: The open jobs that do not run.
        running: Those that run.
        most: Most that may run at the same time.
        now_epoch_s: The time, s.
    """
    jobs = sorted(waiting, key=lambda job: job.created_epoch_s)
    chosen = [job for job in jobs if _only_ends(job, now_epoch_s)]
    left = [job for job in jobs if not _only_ends(job, now_epoch_s)]
    places = most - sum(not _only_ends(job, now_epoch_s) for job in running)
    of_tenant = Counter(job.tenant for job in running)
    while left and places > 0:
        job = min(left, key=lambda each: of_tenant[each.tenant])
        of_tenant[job.tenant] += 1
        left.remove(job)
        chosen.append(job)
        places -= 1
    return chosen


def _only_ends(job: Job, now_epoch_s: float) -> bool:
    is_late = expires_epoch_s(job) <= now_epoch_s
    return is_late or job.state is JobState.CANCELLING or job.state.ended
