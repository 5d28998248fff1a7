"""Sends the event of each receipt to an HTTP sink, in order, until the sink has it.

The store says how far the sink is; its place moves when the sink has answered. A crash between the
two sends some events again: they are the same bytes with the same `source` and `id`, and a sink
that drops such, as OpenMeter does, counts each receipt once. Sources:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md,
https://openmeter.io/docs (`POST /api/v1/events`)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from steppe.disk import disk_errors
from steppe.errors import SteppeError
from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.events import BATCH_MEDIA_TYPE, batch_of
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.sinks import (
    RefusedEvent,
    count_to_send,
    note_refused,
    note_sent,
    receipts_to_send,
)
from steppe.services.threads import in_thread

SEND_TIMEOUT_S = 30.0
"""Longest wait for the answer of a sink, s."""
FIRST_WAIT_S = 1.0
"""Wait before events are sent again, s: doubled each time."""
LOOK_S = 10.0
"""Time between two looks for receipts that nothing has announced, s."""
REFUSALS = {400, 413, 422}
"""Answers that say that the events are at fault, not the sink: a smaller part may be taken."""
_SHOWN, _DRAIN_LOOK_S = 400, 0.05

_log = logging.getLogger(__name__)
_Rows = Sequence[tuple[int, bytes]]


class NotTakenError(SteppeError):
    """A sink did not take events now; they are sent again."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        """Keep how long the sink asks to wait, s."""
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Sink:
    """Where events go.

    Attributes:
        url: Address that takes batches of CloudEvents.
        token_file: File of the token that is sent as `Authorization: Bearer`; None for none.
        most_events: Most events of one call.
        longest_wait_s: Longest wait before a call that failed is made again, s.
    """

    url: str
    token_file: Path | None = None
    most_events: int = 100
    longest_wait_s: float = 30.0


@dataclass(slots=True)
class SentCounts:
    """What was sent since the start.

    Attributes:
        events: Events that the sink has taken.
        refused: Events that it does not take; the store has them.
        failed: Calls that failed and were made again.
        problem: Why the last call failed; empty if it did not.
    """

    events: int = 0
    refused: int = 0
    failed: int = 0
    problem: str = ""


class Outbox:
    """Sends the events of a store to one sink; start and stop it on one event loop.

    Attributes:
        sent: What was sent since the start.
    """

    def __init__(
        self, store: LedgerStore, sink: Sink, *, first_wait_s: float = FIRST_WAIT_S
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            store: The store.
            sink: The sink.
            first_wait_s: Wait before events are sent again, s.
        """
        self._store, self._sink, self._first_wait_s = store, sink, first_wait_s
        self.sent = SentCounts()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Go on where the sink is."""
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SEND_TIMEOUT_S))
        self._task = asyncio.create_task(self._run())

    async def drain(self, timeout_s: float) -> None:
        """Wait until the sink has all receipts or takes none, or for `timeout_s`."""
        if self._task is None:
            return
        self.wake()
        url = self._sink.url
        try:
            async with asyncio.timeout(timeout_s):
                while await in_thread(count_to_send, self._store, url) > 0:
                    if self.sent.problem:
                        break
                    await asyncio.sleep(_DRAIN_LOOK_S)
        except (TimeoutError, SteppeError) as error:
            _log.warning("sink %s: the last events are sent after the next start: %s", url, error)

    async def stop(self) -> None:
        """Send no more; what was not sent is sent after the next start."""
        self._loop = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._session is not None:
            await self._session.close()
        self._task = self._session = None

    def wake(self) -> None:
        """Say that there are new receipts; for any thread, and it does not wait."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._news.set)

    async def _run(self) -> None:
        wait_s = 0.0
        while True:
            self._news.clear()
            try:
                rows = await in_thread(
                    receipts_to_send, self._store, self._sink.url, self._sink.most_events
                )
                await self._deliver(rows)
                wait_s, self.sent.problem = 0.0, ""
            except (SteppeError, aiohttp.ClientError, TimeoutError) as error:
                self._note_problem(str(error) or type(error).__name__)
                doubled_s = min(self._sink.longest_wait_s, 2 * wait_s or self._first_wait_s)
                asked_s = error.wait_s if isinstance(error, NotTakenError) else 0.0
                wait_s = max(doubled_s, min(asked_s, self._sink.longest_wait_s))
                await asyncio.sleep(wait_s)
                continue
            if len(rows) < self._sink.most_events:
                await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
        except TimeoutError:
            return

    async def _deliver(self, rows: _Rows) -> None:
        """Send events until the sink has all of them or does not take them.

        Those that it calls wrong are halved, until one is left, which is set aside.

        Raises:
            NotTakenError: It takes none now.
            SteppeError: The store cannot be read or written.
        """
        parts = [rows] if rows else []
        while parts:
            part = parts.pop()
            problem = await self._post(part)
            if not problem:
                await in_thread(note_sent, self._store, self._sink.url, part[-1][0])
                self.sent.events += len(part)
            elif len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                refused = RefusedEvent(part[0][0], problem)
                await in_thread(note_refused, self._store, self._sink.url, refused)
                self.sent.refused += 1
                _log.error("sink %s: does not take entry %d: %s", self._sink.url, *_row(refused))

    async def _post(self, rows: _Rows) -> str:
        """Send events; return why the sink calls them wrong, or nothing if it has them.

        Raises:
            NotTakenError: It takes none now.
        """
        assert self._session is not None, "started"
        body = batch_of(Receipt.read(entry) for _, entry in rows)
        headers = {"content-type": BATCH_MEDIA_TYPE, **await in_thread(self._token)}
        async with self._session.post(
            self._sink.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if 200 <= response.status < 300:
                return ""
            text = (await response.content.read(_SHOWN)).decode("utf-8", "replace")
            found = f"found status {response.status}: {' '.join(text.split())}"
            if response.status in REFUSALS:
                return found
            raise NotTakenError(found, _retry_after_s(response.headers.get("retry-after", "")))

    def _token(self) -> dict[str, str]:
        """Return the header with the token, which is read each time, for it may change."""
        path = self._sink.token_file
        if path is None:
            return {}
        with disk_errors(path):
            return {"authorization": f"Bearer {path.read_text('ascii', 'replace').strip()}"}

    def _note_problem(self, problem: str) -> None:
        self.sent.failed += 1
        if problem != self.sent.problem:
            _log.warning("sink %s: %s", self._sink.url, problem)
        self.sent.problem = problem


def _row(refused: RefusedEvent) -> tuple[int, str]:
    return refused.place, refused.problem


def _retry_after_s(text: str) -> float:
    """Return the seconds of a header `Retry-After`; 0 without one, or for a date."""
    return float(text) if text.isascii() and text.isdecimal() else 0.0
