from __future__ import annotations

from steppe.batch.job import Job, JobState, When
from steppe.batch.service.expiry import expires_epoch_s, planned_end_epoch_s
from steppe.batch.service.turns import next_jobs

END_S = 1000.0


def job(id_: str, tenant: str, created_s: float, state: JobState = JobState.IN_PROGRESS) -> Job:
    return Job(
        id_,
        tenant,
        "m",
        "/v1/completions",
        When.DEADLINE,
        created_s,
        completion_window_s=END_S - created_s,
        state=state,
    )


def names(jobs: list[Job]) -> list[str]:
    return [each.id for each in jobs]


def test_tenants_take_turns_and_the_oldest_job_of_each_goes_first() -> None:
    waiting = [job("a2", "a", 2.0), job("a1", "a", 1.0), job("a3", "a", 3.0), job("b", "b", 9.0)]
    assert names(next_jobs(waiting, [], 3, 10.0)) == ["a1", "b", "a2"]
    running = [job("a0", "a", 0.0)]
    assert names(next_jobs(waiting, running, 2, 10.0)) == ["b"]
    assert names(next_jobs(waiting, running, 1, 10.0)) == []


def test_a_job_that_only_has_to_end_takes_no_place() -> None:
    cancelling = job("c", "a", 5.0, JobState.CANCELLING)
    waiting = [job("a", "a", 1.0), cancelling]
    assert names(next_jobs(waiting, [job("b", "b", 0.0)], 1, 10.0)) == ["c"]
    assert names(next_jobs(waiting, [cancelling], 1, 10.0)) == ["c", "a"]
    assert names(next_jobs(waiting, [job("b", "b", 0.0)], 1, END_S)) == ["a", "c"]


def test_a_job_is_planned_to_end_some_time_before_it_expires() -> None:
    assert planned_end_epoch_s(1000.0, 3600.0) == 1000.0 + 3600.0 - 180.0
    assert planned_end_epoch_s(1000.0, 86_400.0) == 1000.0 + 86_400.0 - 600.0
    assert expires_epoch_s(job("a", "a", 10.0)) == END_S
