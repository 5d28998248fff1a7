"""Runners of batch jobs in virtual time: they declare their work, and keep so many rows open."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steppe.config import LoadSection
from steppe.control.admission import DEFERRABLE
from steppe.control.batch_work import BatchPace, BatchWork, When, outstanding_rows
from steppe.load.arrivals import Arrival
from steppe.sim.events import EventQueue
from steppe.sim.request import Request

TENANT = "batch"
PUT_BACK = ("shed", "rejected", "failed", "cancelled")
"""Ends of a request after which its row is sent again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job.

    Attributes:
        id: Its name.
        at_s: When its runner begins, s since the run began.
        rows: Number of rows.
        prompt_tokens: Mean prompt tokens of a row.
        output_tokens: Mean output tokens of a row.
        due_s: The deadline, s since the run began; None without one.
        when: When it may run.
        model: The model that it asks for; empty if there is only one.
        spread: Standard deviation of the logarithm of the lengths.
    """

    id: str
    at_s: float
    rows: int
    prompt_tokens: float
    output_tokens: float
    due_s: float | None = None
    when: When = When.SURPLUS
    model: str = ""
    spread: float = 0.4


def jobs_of(load: LoadSection, model: str = "") -> tuple[Job, ...]:
    """Return the jobs of a load, for one of several models if one is named."""
    return tuple(
        Job(
            id=f"{model or 'job'}-{number}",
            at_s=section.at_s,
            rows=section.rows,
            prompt_tokens=section.prompt_tokens,
            output_tokens=section.output_tokens,
            due_s=None if section.deadline_s is None else section.at_s + section.deadline_s,
            when=When(section.when),
            model=model,
        )
        for number, section in enumerate(load.jobs, 1)
    )


@dataclass(slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        job: The job.
        lengths: Prompt and output tokens of the rows that wait, the next one last.
        open: Rows at the gateway or a replica.
        finished: Rows that have ended.
        output_tokens: Output tokens of these.
        began_s: When its first row was sent, s; None before.
        ended_s: When its last row ended, s; None before.
    """

    job: Job
    lengths: list[tuple[int, int]]
    open: int = 0
    finished: int = 0
    output_tokens: int = 0
    began_s: float | None = None
    ended_s: float | None = None

    @property
    def rows_left(self) -> int:
        """Rows that have not ended."""
        return len(self.lengths) + self.open

    @property
    def mean_output(self) -> float:
        """Mean output tokens of a row: of those that have ended, once there are enough."""
        known = self.finished >= min(20, self.job.rows)
        return self.output_tokens / self.finished if known else self.job.output_tokens

    def is_late(self, end_s: float) -> bool | None:
        """Whether the deadline was missed by the end of a run, s; None if it is not known yet."""
        due_s = self.job.due_s
        if due_s is None:
            return False
        if self.ended_s is not None:
            return self.ended_s > due_s
        return True if due_s <= end_s else None

    def work(self, now_s: float) -> BatchWork:
        """Return what its runner declares."""
        job, rows = self.job, self.rows_left
        return BatchWork(
            id=job.id,
            tenant=TENANT,
            model=job.model,
            rows=rows,
            prompt_tokens=rows * job.prompt_tokens,
            output_tokens=rows * self.mean_output,
            due_in_s=None if job.due_s is None else job.due_s - now_s,
            when=job.when,
        )


Places = Callable[[str], tuple[int, int]]
"""Returns the places of the awake replicas of a model, and its open requests that are firm."""


@dataclass(slots=True)
class BatchJobs:
    """The runners of all jobs.

    Attributes:
        queue: Virtual time.
        next_number: Returns the number of the next request.
        send: Sends a request with this number.
        places: Places and firm requests of a model.
        progress: The jobs, by name.
    """

    queue: EventQueue
    next_number: Callable[[], int]
    send: Callable[[int, Arrival], None]
    places: Places
    progress: dict[str, JobProgress] = field(default_factory=dict)
    _paces: Mapping[str, BatchPace] = field(default_factory=dict)
    _rows: dict[int, tuple[str, tuple[int, int]]] = field(default_factory=dict)
    _sending: bool = False

    def expect(self, jobs: Iterable[Job], seed: int = 0) -> None:
        """Let jobs begin at their times."""
        for number, job in enumerate(jobs):
            lengths = _lengths(job, np.random.default_rng((seed, number)))
            self.queue.at(job.at_s, self._begin, JobProgress(job, lengths))

    def work(self, now_s: float) -> tuple[BatchWork, ...]:
        """Return what the runners declare."""
        return tuple([p.work(now_s) for p in self.progress.values() if p.rows_left])

    def set_paces(self, paces: Mapping[str, BatchPace]) -> None:
        """Take the paces of a plan, and send rows."""
        self._paces = paces
        self._send_all()

    def send_further(self, rows: int) -> None:
        """Send so many rows beyond the pace of the plan: another site serves them."""
        for progress in self.progress.values():
            while rows > 0 and progress.lengths:
                rows -= 1
                self._open_row(progress)

    def end(self, request: Request) -> None:
        """Take the end of a row, and send the next one."""
        found = self._rows.pop(request.number, None)
        if found is None:
            return
        id_, lengths = found
        progress = self.progress[id_]
        progress.open -= 1
        if request.finish in PUT_BACK:
            progress.lengths.append(lengths)
            return
        progress.finished += 1
        progress.output_tokens += lengths[1]
        if not progress.rows_left:
            progress.ended_s = self.queue.now_s
        self._send_rows(progress)

    def _begin(self, now_s: float, progress: JobProgress) -> None:
        self.progress[progress.job.id] = progress

    def _send_all(self) -> None:
        for progress in self.progress.values():
            if progress.lengths:
                self._send_rows(progress)

    def _send_rows(self, progress: JobProgress) -> None:
        pace = self._paces.get(f"{TENANT}/{progress.job.id}")
        if pace is None or not pace.runs or self._sending:
            return
        self._sending = True  # a row that is refused at once does not send another one
        places, firm = self.places(progress.job.model)
        most = outstanding_rows(progress.work(self.queue.now_s), pace, places, firm)
        for _ in range(min(len(progress.lengths), most - progress.open)):
            self._open_row(progress)
        self._sending = False

    def _open_row(self, progress: JobProgress) -> None:
        lengths = progress.lengths.pop()
        progress.open += 1
        if progress.began_s is None:
            progress.began_s = self.queue.now_s
        self._send_row(progress.job, lengths)

    def _send_row(self, job: Job, lengths: tuple[int, int]) -> None:
        arrival = Arrival(
            self.queue.now_s, *lengths, rank=DEFERRABLE, tenant=TENANT, model=job.model
        )
        number = self.next_number()
        self._rows[number] = (job.id, lengths)
        self.send(number, arrival)


def _lengths(job: Job, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return prompt and output tokens of each row."""
    means, spread = (job.prompt_tokens, job.output_tokens), job.spread
    found = [
        np.maximum(1, rng.lognormal(math.log(mean) - spread**2 / 2, spread, job.rows).round())
        for mean in means
    ]
    prompts, outputs = (column.astype(int).tolist() for column in found)
    return list(zip(prompts, outputs, strict=True))


def late_jobs(progress: Sequence[JobProgress], end_s: float) -> int:
    """Return how many jobs missed their deadline by the end of a run, s."""
    return sum(1 for each in progress if each.is_late(end_s))
