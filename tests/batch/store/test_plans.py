"""No statement reads all rows of a job to find some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy import event

from steppe.batch.job import Job, When
from steppe.batch.row import RowResult, make_row
from steppe.batch.store.job_store import JobStore

PATH = "/v1/completions"


class Plans:
    """SQLite's plan of each statement, without those that read an index from end to end."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def before(
        self, connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")) and "sqlite_" not in statement:
            raw = connection.connection.driver_connection
            plan = raw.execute(f"EXPLAIN QUERY PLAN {statement}", values[0] if many else values)
            self.found[statement] = [row[3] for row in plan]


@pytest.fixture
def plans() -> Iterator[Plans]:
    found = Plans()
    event.listen(sql.Engine, "before_cursor_execute", found.before)
    yield found
    event.remove(sql.Engine, "before_cursor_execute", found.before)


def test_rows_are_found_by_an_index(tmp_path: Path, plans: Plans) -> None:
    store = JobStore(str(tmp_path / "jobs.db"))
    for name in ("batch_1", "batch_2"):
        store.add_job(Job(name, "a", "m", PATH, When.NOW, 0.0))
    store.add_rows("batch_1", [make_row(number, f"{number}", PATH, {}) for number in range(9)])
    plans.found.clear()
    store.add_rows("batch_2", [make_row(0, "0", PATH, {})])
    store.claim("batch_1", 5, "runner")
    store.put_back("batch_1", [0, 1], counts_as_attempt=True)
    store.finish("batch_1", [RowResult(2, "2", 200, attempts=1)])
    store.counts("batch_1")
    store.totals("batch_1")
    store.release("batch_1")
    store.adopt("batch_2", "batch_1")
    assert list(store.results("batch_1", in_order=True)) == []
    assert len(list(store.results("batch_1"))) == 1
    store.fail_rest("batch_1", "batch_expired", "too late", 9.0)
    store.close()
    assert len(plans.found) > 15
    # A part of the rows: two columns of an index, or an index of only those that wait or run.
    parts = ("_waiting", "_running", "job=? AND")
    steps = [step for plan in plans.found.values() for step in plan if "(job=?" in step]
    assert [step for step in steps if not any(part in step for part in parts)] == []
    assert not any(step.startswith("SCAN") for plan in plans.found.values() for step in plan)
    assert not any("TEMP B-TREE" in step for plan in plans.found.values() for step in plan)
