"""A store of jobs does what a simple model of it does, whatever is asked and in which order."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as check
from tests.fixtures.postgresql import postgresql

from steppe.batch.job import Job, RowCounts, When
from steppe.batch.row import BadRow, Row, RowResult, make_row
from steppe.batch.store.job_store import JobStore
from steppe.errors import StoreBusyError

JOB, PATH = "batch_1", "/v1/completions"
MOST = 12
NUMBERS = st.lists(st.integers(0, MOST + 1), max_size=6)
OWNERS = st.sampled_from(["first", "second"])


@dataclass
class ModelRow:
    """What the model knows of a row."""

    row: Row | BadRow
    owner: str | None = None
    attempts: int = 0
    replicas: list[str] = field(default_factory=list)
    wasted_j: float = 0.0
    result: RowResult | None = None


def row(number: int, name: int) -> Row:
    return make_row(number, f"id-{name}", PATH, {"n": number}, run_order=str(number % 3))


class StoreAndModel(RuleBasedStateMachine):
    """Calls the store and the model alike."""

    place = ""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="steppe-test-"))
        self.store = JobStore(self.place or str(self.folder / "jobs.db"))
        self.store.delete_job(JOB)
        self.store.add_job(Job(JOB, "a", "m", PATH, When.NOW, 0.0))
        self.input: list[Row | BadRow] = []
        self.rows: dict[int, ModelRow] = {}
        self.finished: list[int] = []

    def end(self, known: ModelRow, result: RowResult) -> None:
        known.result, known.owner = result, None
        self.finished.append(result.number)

    @rule(names=st.lists(st.integers(0, MOST), max_size=4), bad=st.booleans())
    def load(self, names: list[int], bad: bool) -> None:
        """Load the whole input again, with more rows at its end."""
        for name in names[: MOST - len(self.input)]:
            number = len(self.input)
            made = BadRow(number, f"row-{number}", "no") if bad else row(number, name)
            self.input.append(made)
        added = self.store.add_rows(JOB, self.input, 5.0)
        ids = {known.row.custom_id for known in self.rows.values() if isinstance(known.row, Row)}
        new = self.input[len(self.rows) :]
        assert added == len(new)
        for made in new:
            known = self.rows[made.number] = ModelRow(made)
            if isinstance(made, BadRow) or made.custom_id in ids:
                self.end(known, RowResult(made.number, made.custom_id, error_code="bad"))
            ids |= {made.custom_id} if isinstance(made, Row) else set()

    @rule(count=st.integers(0, 5), owner=OWNERS)
    def claim(self, count: int, owner: str) -> None:
        waiting = [
            known
            for known in self.rows.values()
            if known.owner is None and known.result is None and isinstance(known.row, Row)
        ]
        waiting.sort(key=lambda known: (getattr(known.row, "run_order", ""), known.row.number))
        claims = self.store.claim(JOB, count, owner)
        assert [claim.row for claim in claims] == [known.row for known in waiting[:count]]
        for claim, known in zip(claims, waiting, strict=False):
            assert claim.attempts == known.attempts
            assert claim.failed_replicas == tuple(known.replicas)
            assert claim.wasted_j == known.wasted_j
            known.owner = owner

    @rule(numbers=NUMBERS, status=st.sampled_from([200, 200, 400]), energy_j=st.integers(0, 9))
    def finish(self, numbers: list[int], status: int, energy_j: int) -> None:
        results = [
            RowResult(number, f"id-{number}", status, energy_j=energy_j, attempts=1)
            for number in numbers
        ]
        new = self.unfinished(numbers)
        assert self.store.finish(JOB, results) == len(new)
        for number in new:
            self.end(self.rows[number], results[numbers.index(number)])

    def unfinished(self, numbers: Sequence[int]) -> list[int]:
        known = [number for number in dict.fromkeys(numbers) if number in self.rows]
        return [number for number in known if self.rows[number].result is None]

    @rule(numbers=NUMBERS, replica=st.sampled_from([None, "r1", "r2"]), counts=st.booleans())
    def put_back(self, numbers: list[int], replica: str | None, counts: bool) -> None:
        running = [n for n in self.unfinished(numbers) if self.rows[n].owner is not None]
        done = self.store.put_back(
            JOB, numbers, replica, counts_as_attempt=counts, wasted_j=float(counts)
        )
        assert done == len(running)
        for number in running:
            known = self.rows[number]
            known.owner = None
            known.attempts += counts
            known.wasted_j += counts
            if replica is not None and replica not in known.replicas:
                known.replicas.append(replica)

    @rule(owner=st.one_of(st.none(), OWNERS))
    def release(self, owner: str | None) -> None:
        running = [known for known in self.rows.values() if known.owner is not None]
        of_owner = [known for known in running if owner in (None, known.owner)]
        assert self.store.release(JOB, owner) == len(of_owner)
        for known in of_owner:
            known.owner = None

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = JobStore(self.place or str(self.folder / "jobs.db"))

    @rule()
    def fail_rest(self) -> None:
        left = self.unfinished(list(self.rows))
        assert self.store.fail_rest(JOB, "batch_expired", "too late", 9.0) == len(left)
        order = [stored.result.number for stored in self.store.results(JOB)]
        assert sorted(order[len(self.finished) :]) == sorted(left)
        for number in order[len(self.finished) :]:
            known = self.rows[number]
            assert known.row.custom_id
            expired = RowResult(
                number, known.row.custom_id, error_code="x", wasted_j=known.wasted_j
            )
            self.end(known, expired)

    @invariant()
    def counts_and_results_are_those_of_the_model(self) -> None:
        if not hasattr(self, "store"):
            return
        results = [known.result for known in self.rows.values() if known.result is not None]
        running = sum(known.owner is not None for known in self.rows.values())
        failed = sum(result.failed for result in results)
        waiting = len(self.rows) - running - len(results)
        total = len(self.rows)
        expected = RowCounts(total, waiting, running, len(results) - failed, failed)
        assert self.store.counts(JOB) == expected
        stored = list(self.store.results(JOB))
        assert [one.result.number for one in stored] == self.finished
        assert [one.sequence for one in stored] == list(range(1, len(stored) + 1))
        for one in stored:
            known = self.rows[one.result.number].result
            assert known is not None
            assert (one.result.status, one.result.failed) == (known.status, known.failed)
        totals = self.store.totals(JOB)
        assert totals.energy_j == sum(result.energy_j for result in results)
        assert totals.wasted_j == sum(result.wasted_j for result in results)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
def test_sqlite_does_what_a_simple_model_does() -> None:
    check(StoreAndModel, settings=SETTINGS)


@pytest.mark.slow
def test_one_of_the_services_that_start_at_once_gets_postgresql() -> None:
    with postgresql() as url:
        stores = [JobStore(url) for _ in range(4)]
        got, busy = list[str](), list[StoreBusyError]()

        def start(number: int) -> None:
            try:
                stores[number].lease_store(f"{number}", 0.0, 40.0)
                got.append(f"{number}")
            except StoreBusyError as error:
                busy.append(error)

        threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(busy)) == (1, 3)
        assert stores[0].end_store_lease(got[0])
        for store in stores:
            store.close()


@pytest.mark.slow
def test_postgresql_does_what_a_simple_model_does() -> None:
    with postgresql() as url:
        machine = type("OnPostgresql", (StoreAndModel,), {"place": url})
        check(machine, settings=SETTINGS)
