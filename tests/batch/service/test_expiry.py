from __future__ import annotations

import pytest

from steppe.batch.job import RowCounts
from steppe.batch.runner.progress import Finish, RunProgress
from steppe.batch.service.expiry import is_behind
from steppe.batch.service.metrics import BatchMetrics

GAUGE = "steppe_batch_jobs_behind"


def progress(done: int, expected_epoch_s: float | None) -> RunProgress:
    return RunProgress(10, done, 0, 0, 0, 0, 0.0, 0.0, finish=Finish(expected_epoch_s))


@pytest.mark.parametrize(
    ("done", "expected_epoch_s", "now_epoch_s", "late"),
    [
        (5, 99.0, 10.0, False),
        (5, 101.0, 10.0, True),
        (5, None, 10.0, False),
        (5, None, 101.0, True),
    ],
)
def test_a_job_is_behind_if_its_last_row_is_expected_after_the_deadline(
    done: int, expected_epoch_s: float | None, now_epoch_s: float, late: bool
) -> None:
    assert is_behind(progress(done, expected_epoch_s), 100.0, now_epoch_s) is late


def test_a_job_without_a_deadline_or_without_rows_left_is_not_behind() -> None:
    assert not is_behind(progress(5, 101.0), None, 10.0)
    assert not is_behind(progress(10, 101.0), 100.0, 10.0)


def test_jobs_that_are_behind_count_while_they_are_open() -> None:
    metrics = BatchMetrics()
    metrics.note_behind("a", True)
    metrics.note_behind("b", True)
    assert f"{GAUGE} 2.0" in metrics.exposition({"a": RowCounts(), "b": RowCounts()}, ()).decode()
    metrics.note_behind("a", False)
    assert f"{GAUGE} 1.0" in metrics.exposition({"a": RowCounts(), "b": RowCounts()}, ()).decode()
    assert f"{GAUGE} 0.0" in metrics.exposition({"a": RowCounts()}, ()).decode()
