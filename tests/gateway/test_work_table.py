"""What runners have declared, and how many rows may be open."""

from __future__ import annotations

import pytest

from steppe.control.batch_work import BatchPace, BatchWork, PaceReason, outstanding_rows
from steppe.gateway.work_table import (
    MOST_PER_TENANT,
    TooMuchWorkError,
    WorkTable,
)


def work(id_: str = "j", tenant: str = "a", *, rows: int = 100) -> BatchWork:
    return BatchWork(id_, tenant, "m", rows, 1000, 500, due_in_s=60.0)


def test_work_that_is_not_declared_again_is_forgotten() -> None:
    table = WorkTable()
    table.declare(work(), now_s=0.0, ttl_s=30.0)
    assert [each.due_in_s for each in table.alive(20.0)] == [40.0]
    assert table.alive(30.0) == ()


def test_a_declaration_replaces_the_one_before_of_the_same_tenant_only() -> None:
    table = WorkTable()
    for each in (work(rows=100), work(rows=90), work(tenant="b", rows=7)):
        table.declare(each, now_s=0.0, ttl_s=30.0)
    assert sorted(each.rows for each in table.alive(1.0)) == [7, 90]
    assert table.withdraw("a/j", 1.0)
    assert not table.withdraw("a/j", 1.0)
    assert [each.tenant for each in table.alive(1.0)] == ["b"]


def test_a_tenant_may_not_declare_any_number_of_jobs() -> None:
    table = WorkTable()
    for number in range(MOST_PER_TENANT):
        table.declare(work(str(number)), now_s=0.0, ttl_s=30.0)
    with pytest.raises(TooMuchWorkError, match="of a, found one more"):
        table.declare(work("another"), now_s=0.0, ttl_s=30.0)
    table.declare(work("another", "b"), now_s=0.0, ttl_s=30.0)
    table.declare(work("3"), now_s=0.0, ttl_s=30.0)


@pytest.mark.parametrize(
    ("share", "places", "firm", "rows", "expected"),
    [
        (1.0, 100, 0, 1000, 110),  # every place, and a tenth that waits
        (1.0, 100, 60, 1000, 50),  # firm requests keep their places
        (0.5, 100, 60, 1000, 25),
        (1.0, 100, 300, 1000, 10),
        (1.0, 0, 0, 1000, 2),  # all replicas sleep: rows that wait wake one
        (1.0, 100, 0, 5, 5),
        (0.0, 100, 0, 1000, 0),
    ],
)
def test_rows_fill_the_places_that_firm_requests_leave(
    share: float, places: int, firm: int, rows: int, expected: int
) -> None:
    pace = BatchPace(10.0, share, PaceReason.SURPLUS)
    assert outstanding_rows(work(rows=rows), pace, places, firm) == expected
