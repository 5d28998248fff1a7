from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.batch.job import ExportMark, Job, JobState, RowCounts, When
from steppe.batch.row import BadRow, Row, RowResult, make_row
from steppe.batch.store.job_store import JobStore
from steppe.errors import InputChangedError, JobBusyError, StoreBusyError, UsageError

CHAT = "/v1/chat/completions"
JOB = Job(
    "batch_1",
    "a",
    "m",
    CHAT,
    When.DEADLINE,
    100.0,
    86_400.0,
    86_500.0,
    input="in.jsonl",
    metadata={"project": "x"},
    settings={"limit": 3},
    entered={JobState.VALIDATING: 100.0},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = JobStore(str(tmp_path / "jobs.db"))
    found.add_job(JOB)
    yield found
    found.close()


def row(number: int, text: str = "hello", run_order: str = "") -> Row:
    return make_row(number, f"id-{number}", CHAT, {"model": "m", "prompt": text}, run_order)


def answer(number: int, energy_j: float = 0.0) -> RowResult:
    name = f"id-{number}"
    return RowResult(number, name, 200, body=b"{}", output_tokens=2, energy_j=energy_j, attempts=1)


def numbers(store: JobStore, *, in_order: bool = False, after: int = 0) -> list[int]:
    found = store.results("batch_1", in_order=in_order, after=after)
    return [stored.result.number for stored in found]


def test_a_job_is_read_as_it_was_added(store: JobStore) -> None:
    assert store.job("batch_1") == JOB
    assert store.job("batch_2") is None
    with pytest.raises(UsageError, match="found it already"):
        store.add_job(JOB)


def test_a_job_moves_only_from_the_states_named(store: JobStore) -> None:
    open_states = [JobState.VALIDATING]
    assert store.change_state("batch_1", JobState.IN_PROGRESS, 101.0, open_states)
    assert not store.change_state("batch_1", JobState.FAILED, 102.0, open_states)
    found = store.job("batch_1")
    assert found is not None
    assert found.state is JobState.IN_PROGRESS
    assert found.entered == {JobState.VALIDATING: 100.0, JobState.IN_PROGRESS: 101.0}


def test_rows_are_claimed_in_run_order_and_once(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0, run_order="b"), row(1, run_order="a"), row(2, run_order="b")])
    first = store.claim("batch_1", 2, "runner")
    assert [claim.row for claim in first] == [row(1, run_order="a"), row(0, run_order="b")]
    assert [claim.row.number for claim in store.claim("batch_1", 9, "runner")] == [2]
    assert store.claim("batch_1", 9, "runner") == []
    assert store.counts("batch_1") == RowCounts(3, 0, 3, 0, 0)


def test_the_first_result_of_a_row_counts(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), row(1)])
    store.claim("batch_1", 2, "runner")
    assert store.finish("batch_1", [answer(1, energy_j=2.0), answer(1), answer(9)]) == 1
    assert store.finish("batch_1", [answer(1), answer(0)]) == 1
    assert numbers(store) == [1, 0]
    assert numbers(store, after=1) == [0]
    assert store.counts("batch_1") == RowCounts(2, 0, 0, 2, 0)
    assert store.totals("batch_1").output_tokens == 4
    assert store.totals("batch_1").energy_j == 2.0


def test_a_row_that_failed_remembers_where(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0)])
    for replica in ("r1", "r2", "r1"):
        store.claim("batch_1", 1, "runner")
        store.put_back("batch_1", [0], replica, counts_as_attempt=True, wasted_j=1.5)
    (claim,) = store.claim("batch_1", 1, "runner")
    assert (claim.attempts, claim.failed_replicas, claim.wasted_j) == (3, ("r1", "r2"), 4.5)
    store.put_back("batch_1", [0], counts_as_attempt=False)
    assert store.claim("batch_1", 1, "runner")[0].attempts == 3


def test_rows_of_a_lost_runner_wait_again(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), row(1)])
    store.claim("batch_1", 1, "first")
    store.claim("batch_1", 1, "second")
    assert store.release("batch_1", "first") == 1
    assert [claim.row.number for claim in store.claim("batch_1", 9, "third")] == [0]
    assert store.release("batch_1") == 2


def test_a_bad_row_is_finished_as_failed(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), BadRow(1, "row-1", "line 2: no JSON"), row(2)])
    store.finish("batch_1", [answer(0)])
    assert store.counts("batch_1") == RowCounts(3, 1, 0, 1, 1)
    bad, _ = store.results("batch_1")
    assert (bad.result.error_code, bad.result.error) == ("invalid_row", "line 2: no JSON")
    assert bad.result.failed


def test_the_first_row_of_a_custom_id_counts(store: JobStore) -> None:
    twin = make_row(2, "id-0", CHAT, {"model": "m", "prompt": "other"})
    rows = [row(0), row(1), twin]
    assert store.add_rows("batch_1", rows) == 3
    assert store.add_rows("batch_1", rows) == 0
    assert store.counts("batch_1") == RowCounts(3, 2, 0, 0, 1)
    (failed,) = store.results("batch_1")
    assert failed.result.number == 2
    assert "'id-0' a second time" in failed.result.error


def test_a_load_that_was_cut_short_is_repeated(store: JobStore) -> None:
    assert store.add_rows("batch_1", [row(0), row(1)]) == 2
    store.claim("batch_1", 1, "runner")
    store.finish("batch_1", [answer(0)])
    assert store.add_rows("batch_1", [row(0), row(1), row(2)]) == 1
    assert store.counts("batch_1") == RowCounts(3, 2, 0, 1, 0)


def test_a_changed_input_is_refused(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), row(1)])
    with pytest.raises(InputChangedError, match="found row 2 \\('id-1'\\) changed"):
        store.add_rows("batch_1", [row(0), row(1, "other")])


def test_answers_of_unchanged_rows_are_adopted(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), row(1), row(2)])
    store.finish("batch_1", [answer(0), answer(1), RowResult(2, "id-2", 500)])
    store.add_job(Job("batch_2", "a", "m", CHAT, When.NOW, 200.0))
    moved = make_row(3, "id-1", CHAT, {"model": "m", "prompt": "hello"})
    store.add_rows("batch_2", [row(0, "other"), row(1), row(2), moved])
    assert store.adopt("batch_2", "batch_1") == 1
    (adopted,) = [stored.result for stored in store.results("batch_2") if not stored.result.failed]
    assert (adopted.number, adopted.custom_id) == (1, "id-1")
    assert store.counts("batch_2").waiting == 2


def test_in_the_order_of_the_input_results_end_at_the_first_gap(store: JobStore) -> None:
    store.add_rows("batch_1", map(row, range(6)))
    store.finish("batch_1", [answer(4), answer(1), answer(0), answer(2)])
    assert numbers(store, in_order=True) == [0, 1, 2]
    store.finish("batch_1", [answer(3)])
    assert numbers(store, in_order=True, after=3) == [3, 4]


def test_what_is_left_is_failed_when_a_job_expires(store: JobStore) -> None:
    store.add_rows("batch_1", map(row, range(1200)))
    store.claim("batch_1", 10, "runner")
    store.finish("batch_1", [answer(0)])
    assert store.fail_rest("batch_1", "batch_expired", "the window is over", 900.0) == 1199
    assert store.fail_rest("batch_1", "batch_expired", "the window is over", 901.0) == 0
    assert store.finish("batch_1", [answer(7)]) == 0
    assert store.counts("batch_1") == RowCounts(1200, 0, 0, 1, 1199)
    assert sorted(numbers(store)) == list(range(1200))


def test_only_one_runner_has_the_lease(store: JobStore) -> None:
    store.lease("batch_1", "first", 1000.0, 30.0)
    store.lease("batch_1", "first", 1010.0, 30.0)
    with pytest.raises(JobBusyError, match="found it run by first until 1970-01-01T00:17:20"):
        store.lease("batch_1", "second", 1039.0, 30.0)
    assert store.lease_owner("batch_1", 1039.0) == "first"
    store.lease("batch_1", "second", 1040.0, 30.0)
    assert not store.end_lease("batch_1", "first")
    assert store.end_lease("batch_1", "second")
    assert store.lease_owner("batch_1", 1041.0) is None


def test_how_far_an_output_is_is_kept(store: JobStore) -> None:
    assert store.export_mark("batch_1", "output") == ExportMark()
    for mark in (ExportMark(3, 400, 3), ExportMark(5, 700, 5)):
        store.mark_exports("batch_1", {"output": mark, "errors": ExportMark(5)})
        assert store.export_mark("batch_1", "output") == mark
        assert store.export_mark("batch_1", "errors") == ExportMark(5)


def test_jobs_of_a_tenant_come_newest_first(store: JobStore) -> None:
    for number, tenant in ((2, "a"), (3, "b"), (4, "a")):
        store.add_job(Job(f"batch_{number}", tenant, "m", CHAT, When.NOW, 200.0))
    assert [job.id for job in store.jobs("a")] == ["batch_4", "batch_2", "batch_1"]
    assert [job.id for job in store.jobs("a", after="batch_4", limit=1)] == ["batch_2"]
    assert store.jobs(states=[JobState.FAILED]) == []
    assert len(store.jobs(states=[JobState.VALIDATING])) == 4


def test_a_deleted_job_leaves_nothing(store: JobStore) -> None:
    store.add_rows("batch_1", [row(0), BadRow(1, "row-1", "bad")])
    assert store.delete_job("batch_1")
    assert not store.delete_job("batch_1")
    store.add_job(JOB)
    assert store.counts("batch_1") == RowCounts()
    assert numbers(store) == []


def test_another_process_sees_what_was_finished(store: JobStore, tmp_path: Path) -> None:
    store.add_rows("batch_1", [row(0)])
    store.finish("batch_1", [answer(0)])
    other = JobStore(str(tmp_path / "jobs.db"))
    assert numbers(other) == [0]
    other.close()


def test_a_job_that_does_not_exist_is_named(store: JobStore) -> None:
    with pytest.raises(UsageError, match="asked for job batch_9, found none"):
        store.claim("batch_9", 1, "runner")


def test_a_row_may_have_the_name_that_a_bad_line_got(store: JobStore) -> None:
    named = make_row(2, "row-1", CHAT, {"model": "m"})
    store.add_rows("batch_1", [row(0), BadRow(1, "row-1", "bad"), named])
    assert [claim.row for claim in store.claim("batch_1", 9, "runner")] == [row(0), named]


def test_a_store_has_one_service_at_a_time(store: JobStore) -> None:
    store.lease_store("first", 1000.0, 40.0)
    store.lease_store("first", 1010.0, 30.0)
    with pytest.raises(StoreBusyError, match=r"batch\.store: .*another run until 1970-01-01T00:17"):
        store.lease_store("second", 1039.0, 40.0)
    store.lease_store("second", 1040.0, 40.0)
    assert not store.end_store_lease("first")
    assert store.end_store_lease("second")
    store.lease_store("first", 1041.0, 40.0)
