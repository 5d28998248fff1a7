"""A load that several processes share, put together from what each reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from steppe.errors import LoadError
from steppe.load.generator_messages import Ended, LoadPrepared, Report
from steppe.load.replay import ReplayOptions, ReplayProgress
from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Cancelled, Completed


class SharedLoad:
    """A load under way; one reader thread for each process hands over its answers."""

    def __init__(
        self,
        number: int,
        parts: int,
        options: ReplayOptions,
        on_progress: Callable[[ReplayProgress], None],
        stop: Callable[[int], None],
    ) -> None:
        """Prepare.

        Args:
            number: Number of the load.
            parts: How many processes share it.
            options: Their callbacks are called here.
            on_progress: Takes the progress of all shares together.
            stop: Sends the processes the command to stop the load with this number.
        """
        self._number, self._options, self._on_progress, self._stop = (
            number,
            options,
            on_progress,
            stop,
        )
        self._lock = threading.Lock()
        self._prepared, self._done = threading.Event(), threading.Event()
        self._unprepared = self._running = parts
        self._progress = [ReplayProgress()] * parts
        self._requests: list[RequestResult] = []
        self._results: list[LoadResult] = []
        self._error = ""

    def stop(self) -> None:
        """Cancel what is outstanding and end the load; `wait` for its result."""
        self._stop(self._number)

    def wait_prepared(self, timeout_s: float) -> None:
        """Wait until every process has the load.

        Raises:
            LoadError: One has ended, or does not answer.
        """
        if not self._prepared.wait(timeout_s):
            raise LoadError(f"asked load generators to begin, found no answer in {timeout_s:g} s")
        if self._error:
            raise LoadError(self._error)

    def wait(self, timeout_s: float | None = None) -> LoadResult | None:
        """Wait until the load has ended, and return its result; None if it has not.

        Raises:
            LoadError: A process failed.
        """
        if not self._done.wait(timeout_s):
            return None
        if self._error:
            raise LoadError(self._error)
        return self._result()

    def take(self, answer: LoadPrepared | Report | Ended) -> bool:
        """Take what a process answers; return whether the load has ended."""
        with self._lock:
            match answer:
                case LoadPrepared():
                    self._unprepared -= 1
                    if not self._unprepared:
                        self._prepared.set()
                case Report():
                    self._take_report(answer)
                case Ended(result=result, error=error):
                    self._error = self._error or error
                    self._results += [] if result is None else [result]
                    self._running -= 1
            if not self._running:
                self._done.set()
            return not self._running

    def fail(self, error: str) -> None:
        """End the load with an error."""
        with self._lock:
            self._error = self._error or error
            self._prepared.set()
            self._done.set()

    def _take_report(self, report: Report) -> None:
        self._progress[report.part] = report.progress
        if report.chunks:
            self._options.on_chunk(report.chunks)
        for result in report.ended:
            self._requests.append(result)
            self._options.on_end(result)
        self._on_progress(_total(self._progress))

    def _result(self) -> LoadResult:
        """Return the result of all shares."""
        requests = sorted(self._requests, key=lambda request: request.index)
        return LoadResult(
            model=self._results[0].model,
            began_epoch_s=min(result.began_epoch_s for result in self._results),
            duration_s=max(result.duration_s for result in self._results),
            max_running=most_at_once(requests),
            requests=tuple(requests),
            not_sent=sum(result.not_sent for result in self._results),
            overdue=sum(result.overdue for result in self._results),
        )


def most_at_once(requests: Sequence[RequestResult]) -> int:
    """Return the most requests that were outstanding at once; one that failed ended as it began."""
    edges: list[tuple[float, int]] = []
    for request in requests:
        match request.outcome:
            case Completed(last_s=end_s) | Cancelled(end_s=end_s):
                pass
            case _:
                end_s = request.sent_s
        edges += [(request.sent_s, 1), (end_s, -1)]
    most = running = 0
    for _, change in sorted(edges, key=lambda edge: (edge[0], -edge[1])):
        running += change
        most = max(most, running)
    return most


def _total(parts: Sequence[ReplayProgress]) -> ReplayProgress:
    return ReplayProgress(
        elapsed_s=max(part.elapsed_s for part in parts),
        sent=sum(part.sent for part in parts),
        running=sum(part.running for part in parts),
        completed=sum(part.completed for part in parts),
        unserved=sum(part.unserved for part in parts),
        retries=sum(part.retries for part in parts),
        output_tokens=sum(part.output_tokens for part in parts),
    )
