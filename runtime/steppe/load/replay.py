"""Send arrivals to a server at their due times, regardless of its answers."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import aiohttp
import numpy as np

from steppe.load.arrivals import Arrival, until
from steppe.load.client import ChatOptions, ServerTarget, open_session, stream_chat
from steppe.load.prompts import shared_prefix, write_prompt
from steppe.load.results import LoadResult, RequestResult
from steppe.load.stream import Cancelled, ChatStream, Completed, Failed, Outcome, RequestRefused

_LEAST_RETRY_S = 0.1
"""Shortest wait before a retry, s: a `Retry-After: 0` must not make a busy loop."""


def ignore(*_: object) -> None:
    """Do nothing with what a replay reports; a named function, because processes send it."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests start when they are due, regardless of answers, as with many independent users."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A fixed number of requests is always outstanding; arrival times are ignored.

    Attributes:
        concurrency: Requests outstanding at once.
        duration_s: How long requests start, s; the arrivals are then repeated from the first as
            often as needed, and requests outstanding at the end run to their own. If None, each
            arrival is sent once.
    """

    concurrency: int
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a replay behaves.

    Attributes:
        pacing: When requests start.
        chat: Sampling of every request.
        seed: Seed of the prompts' words; each prompt depends on it and its index alone.
        template_tokens: Tokens that the server's chat template adds to a prompt; the prompt has
            that many fewer words (SmolLM2-Instruct: 30, measured).
        deadline_s: When unfinished requests are cancelled, s after the start; never if None.
        retry_limit_s: Longest time over which a request is retried after 503s, s.
        request_timeout_s: Time limit of one try, s.
        max_connections: Most connections open at once.
        on_begin: Called when the replay's time begins.
        on_chunk: Called with the number of chunks with tokens that arrived: one for each on its
            arrival, or several at once if other processes send the requests.
        on_end: Called with each request's result when it ends.
    """

    pacing: OpenLoop | ClosedLoop = OpenLoop()
    chat: ChatOptions = field(default_factory=ChatOptions)
    seed: int = 0
    template_tokens: int = 0
    deadline_s: float | None = None
    retry_limit_s: float = 600.0
    request_timeout_s: float = 900.0
    max_connections: int = 2000
    on_begin: Callable[[], None] = ignore
    on_chunk: Callable[[int], None] = ignore
    on_end: Callable[[RequestResult], None] = ignore


@dataclass(frozen=True, slots=True)
class ReplayShare:
    """The part of a load that one of several processes sends: every so many-th arrival.

    Attributes:
        part: Which of them, from 0.
        parts: How many there are.
        begin_s: When the load begins, s of the monotonic clock, which all processes of a host
            share; now if None.
    """

    part: int = 0
    parts: int = 1
    begin_s: float | None = None

    def of_number(self, number: int) -> int:
        """Return the share of a number, so that the shares of all parts sum to it."""
        return (number + self.parts - 1 - self.part) // self.parts


WHOLE = ReplayShare()


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Progress of a replay.

    Attributes:
        elapsed_s: Time since it began, s.
        sent: Requests sent.
        running: Requests outstanding, including those waiting to retry after a 503.
        completed: Requests whose whole answer arrived.
        unserved: Requests that failed, or were rejected or shed and not retried.
        retries: Retries after a 503.
        output_tokens: Tokens of the completed requests.
    """

    elapsed_s: float = 0.0
    sent: int = 0
    running: int = 0
    completed: int = 0
    unserved: int = 0
    retries: int = 0
    output_tokens: int = 0


async def replay(
    target: ServerTarget,
    arrivals: Sequence[Arrival],
    options: ReplayOptions = ReplayOptions(),
    on_progress: Callable[[ReplayProgress], None] = ignore,
    stop: asyncio.Event | None = None,
    *,
    share: ReplayShare = WHOLE,
) -> LoadResult:
    """Send the arrivals of a share, wait for the answers, and return the results.

    The part of a prompt that a prefix cache is to hold is the beginning of one text, which is the
    same for all prompts; the first request to send it finds no hit, and an engine may drop it.

    When `stop` is set or the deadline passes, nothing more is sent, and outstanding requests are
    cancelled and counted as such. Cancelling the caller's task cancels every request.
    """
    async with open_session(options.max_connections, options.request_timeout_s) as session:
        prefix = shared_prefix(options.seed, arrivals)
        run = _Replay(session, target, options, on_progress, prefix, share)
        options.on_begin()
        work = asyncio.ensure_future(run.send_all(arrivals))
        stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait(
                (work, stopped),
                timeout=options.deadline_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.wait((work, stopped))
        if not work.cancelled():
            work.result()
        return run.result(arrivals)


@dataclass(slots=True)
class _Replay:
    """The state of one replay."""

    session: aiohttp.ClientSession
    target: ServerTarget
    options: ReplayOptions
    on_progress: Callable[[ReplayProgress], None]
    prefix: list[str]
    share: ReplayShare
    start_s: float = 0.0
    began_epoch_s: float = 0.0
    progress: ReplayProgress = ReplayProgress()
    max_running: int = 0
    results: list[RequestResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        now_s, begin_s = asyncio.get_running_loop().time(), self.share.begin_s
        self.start_s = now_s if begin_s is None else begin_s
        self.began_epoch_s = time.time() + self.start_s - now_s

    def now_s(self) -> float:
        """Time since the replay began, s."""
        return asyncio.get_running_loop().time() - self.start_s

    def result(self, arrivals: Sequence[Arrival]) -> LoadResult:
        """Return the results so far, in the order of the arrivals."""
        in_order = tuple(sorted(self.results, key=lambda result: result.index))
        unsent = [arrival for _, arrival in self._shared(arrivals)][self.progress.sent :]
        overdue = 0
        match self.options.pacing:
            case OpenLoop():
                overdue = len(until(unsent, self.now_s()))
            case ClosedLoop(duration_s=float()):  # it has no fixed number of requests
                unsent = []
        return LoadResult(
            model=self.target.model,
            began_epoch_s=self.began_epoch_s,
            duration_s=self.progress.elapsed_s,
            max_running=self.max_running,
            requests=in_order,
            not_sent=len(unsent),
            overdue=overdue,
        )

    async def send_all(self, arrivals: Sequence[Arrival]) -> None:
        """Send the arrivals at the pace of the options and wait for all answers."""
        match self.options.pacing:
            case OpenLoop():
                await self._send_when_due(arrivals)
            case ClosedLoop(concurrency, None):
                await self._send_in_loop(arrivals, min(concurrency, len(arrivals)), math.inf)
            case ClosedLoop(concurrency, float(duration_s)):
                await self._send_in_loop(itertools.cycle(arrivals), concurrency, duration_s)

    def _shared(self, arrivals: Iterable[Arrival]) -> Iterator[tuple[int, Arrival]]:
        """Yield index and arrival of those that this share sends."""
        return itertools.islice(enumerate(arrivals), self.share.part, None, self.share.parts)

    async def _send_when_due(self, arrivals: Sequence[Arrival]) -> None:
        async with asyncio.TaskGroup() as group:
            for index, arrival in self._shared(arrivals):
                await asyncio.sleep(max(0.0, arrival.at_s - self.now_s()))
                group.create_task(self._send(index, arrival, arrival.at_s))

    async def _send_in_loop(
        self, arrivals: Iterable[Arrival], concurrency: int, duration_s: float
    ) -> None:
        """Keep `concurrency` requests outstanding until the arrivals or the duration end.

        Those are of all shares together.
        """
        queue = self._shared(arrivals)

        async def send_next() -> None:
            while self.now_s() < duration_s and (entry := next(queue, None)) is not None:
                index, arrival = entry
                await self._send(index, arrival, self.now_s())

        await asyncio.sleep(max(0.0, -self.now_s()))
        async with asyncio.TaskGroup() as group:
            for _ in range(self.share.of_number(concurrency)):
                group.create_task(send_next())

    async def _send(self, index: int, arrival: Arrival, due_s: float) -> None:
        """Send one request, retry it after 503s, and record its result."""
        sent_s = self.now_s()
        self._note_sent()
        stream = ChatStream(self.options.on_chunk)
        outcome: Outcome | None = None
        retries = 0
        try:
            body, tenant = self._body(index, arrival), arrival.tenant
            outcome = await self._request(body, tenant, stream)
            while (delay_s := self._retry_delay_s(outcome, sent_s)) is not None:
                outcome, retries = None, retries + 1
                await asyncio.sleep(delay_s)
                outcome = await self._request(body, tenant, stream)
        finally:
            outcome = outcome or Cancelled(self.now_s(), stream.first_s)
            result = RequestResult(index, arrival, due_s, sent_s, retries, outcome)
            self.results.append(result)
            self._note_end(result)
            self.options.on_end(result)

    async def _request(self, body: bytes, tenant: str, stream: ChatStream) -> Outcome:
        return await stream_chat(self.session, self.target, body, self.now_s, stream, tenant=tenant)

    def _body(self, index: int, arrival: Arrival) -> bytes:
        words = arrival.prompt_tokens - self.options.template_tokens
        rng = np.random.default_rng((self.options.seed, index))
        prompt = write_prompt(rng, words, self.prefix[: arrival.cached_tokens])
        return self.options.chat.body(self.target.model, prompt, arrival.output_tokens)

    def _retry_delay_s(self, outcome: Outcome, sent_s: float) -> float | None:
        """Return the wait before the next try, s; None if the outcome stands."""
        match outcome:
            case RequestRefused(
                status=HTTPStatus.SERVICE_UNAVAILABLE, retry_after_s=float(retry_after_s)
            ):
                delay_s = max(_LEAST_RETRY_S, retry_after_s)
                total_s = self.now_s() + delay_s - sent_s
                return delay_s if total_s <= self.options.retry_limit_s else None
            case _:
                return None

    def _note_sent(self) -> None:
        now = self.progress
        self.max_running = max(self.max_running, now.running + 1)
        self._report(replace(now, sent=now.sent + 1, running=now.running + 1))

    def _note_end(self, result: RequestResult) -> None:
        now = self.progress
        now = replace(now, running=now.running - 1, retries=now.retries + result.retries)
        match result.outcome:
            case Completed(output_tokens=tokens):
                tokens += now.output_tokens
                now = replace(now, completed=now.completed + 1, output_tokens=tokens)
            case RequestRefused() | Failed():
                now = replace(now, unserved=now.unserved + 1)
            case Cancelled():
                pass
        self._report(now)

    def _report(self, progress: ReplayProgress) -> None:
        self.progress = replace(progress, elapsed_s=self.now_s())
        self.on_progress(self.progress)
