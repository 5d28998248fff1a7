"""Runs one job: takes rows from the store, sends them to a gateway, writes their results down.

The store is the truth. A runner that is killed leaves rows that were at the gateway; the next one
sends those again, and no others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from steppe.batch.job import Job, JobState, RowCounts
from steppe.batch.row import CANCELLED, EXPIRED, Claim, RowResult
from steppe.batch.runner.answer import LIMITED, Answered, Failed, Lost, Refused
from steppe.batch.runner.claims import ClaimQueue
from steppe.batch.runner.commit import GroupCommit
from steppe.batch.runner.observer import Observer
from steppe.batch.runner.pace import Pace
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.sender import RowSender, open_session
from steppe.batch.runner.settings import RunnerSettings
from steppe.batch.runner.tally import Tally
from steppe.batch.runner.work import pause
from steppe.batch.store.job_store import JobStore
from steppe.errors import SteppeError, UsageError

T = TypeVar("T")

_log = logging.getLogger(__name__)

MOST_LOST = 16
"""Connections that a row may lose; then it is an error, for it may be the cause."""
_LOST_BACKOFF_S = 5.0
"""Longest pause of a row whose connection broke, s."""
_LOOK_S = 0.5
"""Longest time between two looks for rows to send, s."""
_LEAST_AHEAD, _MOST_AHEAD = 16, 2_000
"""Rows that are taken from the store before there is room for them."""
_TRIES_USED_UP, _CONNECTIONS_LOST = "attempts_exhausted", "connection_lost"


class Output(Protocol):
    """Files that are made from the store."""

    def advance(self) -> int:
        """Write the results that the store has and the files have not; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a runner ended.

    Attributes:
        state: The state of the job: `completed`, `expired`, `cancelled`; or `in_progress` if the
            runner was stopped, so that the job can be resumed.
        counts: Its rows.
    """

    state: JobState
    counts: RowCounts


class Runner:
    """Runs one job until its rows are done, or until it is stopped, expired or cancelled."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        settings: RunnerSettings,
        *,
        output: Output | None = None,
        on_progress: Callable[[RunProgress], None] = lambda progress: None,
        now_s: Callable[[], float] = time.monotonic,
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            store: Has the job. While its state is `validating`, rows may be added to it.
            job_id: The job.
            settings: Where its rows go.
            output: Output files; they follow the store about once a second. None for none.
            on_progress: Gets the state about once a second, in the event loop.
            now_s: Reads the monotonic clock, s.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._store, self._id, self._settings = store, job_id, settings
        self._output, self._on_progress = output, on_progress
        self._now_s, self._epoch_s = now_s, epoch_s
        self._threads = ThreadPoolExecutor(1, "batch-store")
        self._writers = ThreadPoolExecutor(1, "batch-output")  # long files delay no commit
        self._queue, self._pace = ClaimQueue(), Pace.begin(settings.most_outstanding)
        self._at_gateway: dict[int, tuple[Claim, asyncio.Task[None]]] = {}
        self._retried: dict[int, Claim] = {}
        self._lost: dict[int, int] = {}
        self._may_have_more = True
        self._ending: JobState | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._look, self._energy_wait_s = asyncio.Event(), asyncio.Event(), 0.0
        self._is_loading, self._was_loading, self._is_stopped = True, True, False

    def stop(self) -> None:
        """End soon and leave the job so that it can be resumed; safe from any thread."""
        self._is_stopped = True
        self._call(self._end_as, JobState.IN_PROGRESS)

    def notice(self) -> None:
        """Look at the state of the job now, not within a second; safe from any thread."""
        self._call(self._look.set)

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call something in the loop of `run`, from any thread; nothing if that has ended."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed meanwhile
                self._loop.call_soon_threadsafe(callback, *arguments)

    async def run(self) -> RunEnd:
        """Run the job.

        Raises:
            JobBusyError: Another runner has it.
            GatewayRefusedError: The gateway would refuse every row.
            DiskFullError: Store or output found no space; the job can be resumed.
            UsageError: There is no such job, or the store cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        if self._is_stopped:
            self._end_as(JobState.IN_PROGRESS)
        lease_s = self._settings.lease_s
        owner = self._settings.owner
        await self._db(self._store.lease, self._id, owner, self._epoch_s(), lease_s)
        try:
            await self._db(self._store.release, self._id)
            job = await self._job()
            if job.state.ended:
                return RunEnd(job.state, await self._db(self._store.counts, self._id))
            return await self._run(job)
        finally:
            self._writers.shutdown()  # the files may be closed now
            await self._db(self._store.end_lease, self._id, owner)
            self._threads.shutdown(wait=False)

    async def _run(self, job: Job) -> RunEnd:
        self._tally = Tally(
            await self._db(self._store.counts, self._id),
            await self._db(self._store.totals, self._id),
        )
        self._note_state(job)
        self._commit = GroupCommit(self._write)
        async with open_session(self._settings) as session:
            self._sender = RowSender(session, self._settings, self._epoch_s)
            observer = Observer(session, self._settings, job, self._now_s, self._epoch_s)
            self._observer = observer
            await self._take_ahead()
            await self._declare_once()  # so that no row goes before the gateway takes it
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    loops = (self._commit.run(), self._watch(), self._observe(), self._declare())
                    background = [tasks.create_task(each) for each in loops]
                    await self._feed()
                    await self._drain()
                    await self._commit.flush()
                    for task in background:
                        task.cancel()
            except BaseExceptionGroup as group:
                with suppress(SteppeError):  # the first error is the one that counts
                    await self._commit.flush()
                    await self._put_back_all()
                raise _first(group) from group
            await self._commit.flush()  # of rows whose energy was waited for meanwhile
            await self._put_back_all()
            await observer.work.withdraw()
            end = await self._end()
            self._show(is_last=True)
        return end

    async def _feed(self) -> None:
        """Send rows while there are any."""
        while self._ending is None:
            self._wake.clear()
            self._send_some()
            await self._take_ahead()
            self._send_some()
            if self._is_done:
                return
            await pause(self._wake, _LOOK_S)

    @property
    def _is_done(self) -> bool:
        """Whether every row has a result."""
        open_rows = len(self._queue) + len(self._at_gateway) + len(self._retried)
        return not (open_rows or self._may_have_more or self._is_loading)

    def _send_some(self) -> None:
        room = self._pace.room(self._now_s(), len(self._at_gateway))
        while room > 0 and (claim := self._queue.next()) is not None:
            task = self._tasks.create_task(self._send(claim))
            self._at_gateway[claim.row.number] = claim, task
            room -= 1

    async def _take_ahead(self) -> None:
        """Take rows from the store, so that a place that becomes free gets one at once."""
        ahead = min(_MOST_AHEAD, max(_LEAST_AHEAD, self._pace.limit))
        if not self._may_have_more or self._queue.sendable > ahead // 2:
            return
        self._may_have_more = False  # a row that is put back meanwhile makes it true again
        owner = self._settings.owner
        claims = await self._db(self._store.claim, self._id, ahead, owner)
        self._may_have_more = self._may_have_more or len(claims) == ahead
        self._tally.see(claims)
        self._queue.add(claims)

    async def _send(self, claim: Claim) -> None:
        """Send a row once, and note what came of it."""
        try:
            outcome = await self._sender.send(claim)
        finally:
            self._at_gateway.pop(claim.row.number, None)
            self._queue.ended(claim)
            self._wake.set()
        now_s = self._now_s()
        match outcome:
            case Answered(result, energy_wait_s):
                self._pace = self._pace.answered()
                weight = 0.05 if self._energy_wait_s else 1.0
                self._energy_wait_s += weight * ((energy_wait_s or 0.0) - self._energy_wait_s)
                if outcome.lacks_energy:
                    self._retried[claim.row.number] = claim
                    self._tasks.create_task(self._settle(claim, result))
                else:
                    self._finish(claim, result)
            case Refused():
                self._note_refusal(outcome, now_s)
                self._queue.back(claim)
            case Lost(was_sent=False):
                self._pace = self._pace.lost(now_s, self._settings.most_backoff_s)
                self._queue.back(claim)
            case Lost() | Failed():
                self._retried[claim.row.number] = claim
                self._tasks.create_task(self._retry(claim, outcome))

    def _note_refusal(self, refused: Refused, now_s: float) -> None:
        is_limit, unpaid = refused.status == LIMITED, refused.unpaid
        if unpaid and unpaid != self._pace.unpaid:
            _log.warning("job %s waits: %s", self._id, refused.reason)
        self._pace = self._pace.refused(
            now_s, refused.retry_after_s, is_limit=is_limit, unpaid=unpaid
        )

    async def _settle(self, claim: Claim, result: RowResult) -> None:
        """Finish a row whose energy was not known in time, with its energy if it is known now."""
        found = await self._sender.energy(result.request_id)
        metered = replace(
            result,
            energy_j=found.energy_j,
            energy_source=found.source,
            boundary=found.boundary,
        )
        self._finish(claim, metered)
        del self._retried[claim.row.number]
        self._wake.set()

    async def _retry(self, claim: Claim, outcome: Lost | Failed) -> None:
        """Put a row back after a pause, unless it has failed too often."""
        number, wasted_j = claim.row.number, 0.0
        if isinstance(outcome, Lost):
            self._lost[number] = lost = self._lost.get(number, 0) + 1
            await asyncio.sleep(min(_LOST_BACKOFF_S, 0.1 * 2.0**lost))
            code = _CONNECTIONS_LOST if lost >= MOST_LOST else ""
        else:
            if outcome.request_id:
                wasted_j = (await self._sender.energy(outcome.request_id)).energy_j
            tried = claim.attempts + 1
            code = _TRIES_USED_UP if tried >= self._settings.most_attempts else ""
        if code:
            self._finish(claim, self._given_up(claim, outcome, code, wasted_j))
        elif isinstance(outcome, Lost):
            self._queue.back(claim)
        else:
            await self._put_back(claim, outcome.replica, wasted_j)
        del self._retried[number]
        self._wake.set()

    async def _put_back(self, claim: Claim, replica: str, wasted_j: float) -> None:
        def put_back() -> None:
            self._store.put_back(
                self._id,
                [claim.row.number],
                replica or None,
                counts_as_attempt=True,
                wasted_j=wasted_j,
            )

        await self._db(put_back)
        self._may_have_more = True

    def _given_up(
        self, claim: Claim, outcome: Lost | Failed, code: str, wasted_j: float
    ) -> RowResult:
        now_epoch_s, tried = self._epoch_s(), claim.attempts + isinstance(outcome, Failed)
        times = self._lost.get(claim.row.number, 0) if isinstance(outcome, Lost) else tried
        return RowResult(
            claim.row.number,
            claim.row.custom_id,
            status=outcome.status if isinstance(outcome, Failed) else 0,
            error_code=code,
            error=f"tried {times} times, the last one ended with: {outcome.reason}",
            wasted_j=claim.wasted_j + wasted_j,
            started_epoch_s=now_epoch_s,
            ended_epoch_s=now_epoch_s,
            attempts=tried,
            replica=outcome.replica if isinstance(outcome, Failed) else "",
        )

    def _finish(self, claim: Claim, result: RowResult) -> None:
        self._lost.pop(claim.row.number, None)
        self._observer.rates.add(self._now_s(), result)
        self._commit.add(result)

    async def _write(self, results: Sequence[RowResult]) -> None:
        """Write results in one transaction."""
        await self._db(self._store.finish, self._id, results)
        self._tally.add(results)

    async def _drain(self) -> None:
        """Let rows at the gateway end; cancel what takes longer than the grace."""
        grace_s = self._settings.stop_grace_s if self._ending is not None else None
        tasks = [task for _, task in self._at_gateway.values()]
        if tasks and grace_s is not None:
            await asyncio.wait(tasks, timeout=grace_s)
        for claim, task in list(self._at_gateway.values()):
            self._queue.back(claim)
            task.cancel()

    async def _put_back_all(self) -> None:
        """Let rows wait again that this runner has taken and not finished."""
        self._queue.clear()
        await self._db(self._store.release, self._id, self._settings.owner)

    async def _end(self) -> RunEnd:
        """Move the job on to the state in which it ends."""
        ending = self._ending
        if ending is JobState.EXPIRED:
            await self._fail_rest(EXPIRED, "the completion window ended before this row ran")
        if ending is JobState.CANCELLED:
            await self._fail_rest(CANCELLED, "the batch was cancelled before this row ran")
        counts = await self._db(self._store.counts, self._id)
        if ending is JobState.IN_PROGRESS and (counts.finished < counts.total or self._is_loading):
            await self._advance()
            return RunEnd(JobState.IN_PROGRESS, counts)
        if ending is None or ending is JobState.IN_PROGRESS:
            ending = JobState.COMPLETED
            await self._move(JobState.FINALIZING, JobState.IN_PROGRESS)
        await self._advance()
        await self._move(ending, *JobState)
        return RunEnd(ending, counts)

    async def _fail_rest(self, code: str, error: str) -> None:
        await self._db(self._store.fail_rest, self._id, code, error, self._epoch_s())

    async def _move(self, state: JobState, *from_states: JobState) -> None:
        at_epoch_s = self._epoch_s()
        await self._db(self._store.change_state, self._id, state, at_epoch_s, from_states)

    async def _watch(self) -> None:
        """Keep the lease, and see whether the job was cancelled, or is late."""
        settings, renewed_s = self._settings, self._now_s()
        while True:
            await pause(self._look, 1.0)
            self._look.clear()
            self._note_state(await self._job())
            if self._was_loading:
                self._tally.counts = await self._db(self._store.counts, self._id)
            if self._now_s() - renewed_s >= settings.lease_s / 3:
                renewed_s, now_epoch_s = self._now_s(), self._epoch_s()
                lease = self._store.lease
                await self._db(lease, self._id, settings.owner, now_epoch_s, settings.lease_s)

    def _note_state(self, job: Job) -> None:
        self._was_loading, self._is_loading = self._is_loading, job.state is JobState.VALIDATING
        if self._was_loading:
            self._may_have_more = True  # rows may have come since the store was asked
        if job.state is JobState.CANCELLING:
            self._end_as(JobState.CANCELLED)
        expires_s = self._settings.expires_epoch_s
        if expires_s is not None and self._epoch_s() >= expires_s:
            self._end_as(JobState.EXPIRED)
        self._wake.set()

    def _end_as(self, state: JobState) -> None:
        self._ending = self._ending or state
        self._wake.set()

    async def _observe(self) -> None:
        """Show how far the job is, in the output files too, about once a second."""
        while True:
            await self._advance()
            await self._observer.look()
            held = self._observer.rates.rates(self._now_s()).rows_per_s * self._energy_wait_s
            self._pace = self._pace.holding(held)
            self._show()
            await asyncio.sleep(1.0)

    async def _advance(self) -> None:
        if self._output is not None:
            assert self._loop is not None, "the runner runs"
            await self._loop.run_in_executor(self._writers, self._output.advance)

    def _show(self, *, is_last: bool = False) -> None:
        outstanding, self._observer.unpaid = len(self._at_gateway), self._pace.unpaid
        self._observer.write_line(self._tally, outstanding, now=is_last)
        self._on_progress(self._observer.progress(self._tally, outstanding))

    async def _declare(self) -> None:
        """Declare the work, about once a second."""
        while True:
            await asyncio.sleep(self._observer.work.every_s)
            await self._declare_once()

    async def _declare_once(self) -> None:
        wanted = await self._observer.declare(self._tally, len(self._at_gateway))
        self._pace = self._pace.told(wanted.outstanding)
        self._wake.set()

    async def _job(self) -> Job:
        job = await self._db(self._store.job, self._id)
        if job is None:
            raise UsageError(f"asked to run job {self._id}, found none of this id")
        return job

    async def _db(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call the store in its thread."""
        assert self._loop is not None, "the runner runs"
        return await self._loop.run_in_executor(self._threads, call, *arguments)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is meant for people, or else the first one."""
    flat = list(_flat(group))
    return next((error for error in flat if isinstance(error, SteppeError)), flat[0])


def _flat(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error
