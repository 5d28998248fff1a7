"""Asks the witnesses of a log to sign its heads, beside the publisher and never in its way.

Each witness is asked by a task of its own, for the newest head only: a slow one holds up neither
the log nor the others. The newest head that all witnesses that answer have signed is the file
`checkpoint.cosigned`, beside `checkpoint`; proofs are made with it as far as it reaches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from steppe.errors import SteppeError
from steppe.ledger.log.checkpoint import Checkpoint, is_number
from steppe.ledger.log.log import COSIGNED, LogReader, publish_note
from steppe.ledger.log.witness import SIZE_TYPE, AddCheckpoint, check_cosignatures
from steppe.ledger.signing import Note, PublicKey
from steppe.services.threads import in_thread

ASK_TIMEOUT_S = 10.0
"""Longest wait for the answer of a witness, s."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Waits before a witness that did not sign is asked again, s: doubled each time."""
MOST_BYTES = 1 << 16
"""Longest answer that is read, bytes."""
_LOOK_S = 0.02
_HEADS = 64
"""Heads that are kept while some witnesses have signed them and others have not."""

_log = logging.getLogger(__name__)


class NotCosignedError(SteppeError):
    """A witness did not sign a head; the line says why."""


@dataclass(frozen=True, slots=True)
class WitnessPlace:
    """A witness that is asked.

    Attributes:
        url: Its submission prefix; `/add-checkpoint` is added.
        key: Its public key.
    """

    url: str
    key: PublicKey


@dataclass(slots=True)
class WitnessState:
    """How it goes with one witness.

    Attributes:
        size: Size of the last head that it signed; 0 before.
        signed: Heads that it signed.
        failed: Times that it did not sign one.
        problem: Why it did not the last time; empty if it did.
    """

    size: int = 0
    signed: int = 0
    failed: int = 0
    problem: str = ""


class WitnessAsker:
    """Collects the cosignatures of the heads of a log; start and stop it on one event loop.

    Attributes:
        asked: How it goes with each witness, by the name of its key.
    """

    def __init__(
        self,
        log: LogReader,
        places: Sequence[WitnessPlace],
        *,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            log: A reader of the log that nothing else uses.
            places: The witnesses.
            first_wait_s: Wait before a witness that did not sign is asked again, s.
        """
        self._log, self._places, self._first_wait_s = log, tuple(places), first_wait_s
        self.asked = {place.key.name: WitnessState() for place in self._places}
        self._newest = ""
        self._heads: dict[int, Note] = {}
        self._written, self._written_size = Note(""), 0
        self._news = {place.key.name: asyncio.Event() for place in self._places}
        self._disk = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to ask, for the last head of the log first.

        Raises:
            UsageError: The log cannot be read.
        """
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S))
        note = await in_thread(self._log.note)
        if note:
            self._take(note)
        self._tasks = [asyncio.create_task(self._serve(place)) for place in self._places]

    async def drain(self, timeout_s: float) -> None:
        """Wait until all witnesses that answer have signed the newest head, or for `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._waits():
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            _log.warning("the last head of the log has not all its cosignatures")

    async def stop(self) -> None:
        """Ask no more."""
        self._loop = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._session is not None:
            await self._session.close()
        self._tasks, self._session = [], None

    def take(self, note: str) -> None:
        """Have a new head signed, soon; for any thread, and it does not wait.

        Args:
            note: The checkpoint that was published.
        """
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._take, note)

    def _waits(self) -> bool:
        """Whether a witness that answers has not signed the newest head yet."""
        if not self._newest or not self._tasks:
            return False
        size = Checkpoint.read(Note.read(self._newest).text).head.size
        well = [state for state in self.asked.values() if not state.problem]
        return any(state.size < size for state in well) or (
            bool(well) and self._written_size < size
        )

    def _take(self, note: str) -> None:
        self._newest = note
        for news in self._news.values():
            news.set()

    async def _serve(self, place: WitnessPlace) -> None:
        """Have one witness sign each newest head."""
        news, state, wait_s = self._news[place.key.name], self.asked[place.key.name], 0.0
        while True:
            await news.wait()
            news.clear()
            try:
                await self._cosign(place, state, self._newest)
                state.problem, wait_s = "", 0.0
            except (SteppeError, aiohttp.ClientError, TimeoutError) as error:
                self._note_problem(place, state, str(error) or type(error).__name__)
                wait_s = min(LONGEST_WAIT_S, 2 * wait_s or self._first_wait_s)
            await self._publish()
            if wait_s:
                await asyncio.sleep(wait_s)
                news.set()

    async def _cosign(self, place: WitnessPlace, state: WitnessState, note: str) -> None:
        """Have a witness sign a head.

        Raises:
            NotCosignedError: It does not.
            SteppeError: Its answer is none, or the log cannot be read.
        """
        size = Checkpoint.read(Note.read(note).text).head.size
        answer = await self._ask(place, state.size, size, note)
        if isinstance(answer, int):
            state.size = answer
            answer = await self._ask(place, answer, size, note)
        if isinstance(answer, int):
            raise NotCosignedError(f"asked to go on from {state.size} entries, found {answer}")
        asked, signed = Note.read(note), Note.read(note + answer)
        if signed.text != asked.text:
            raise NotCosignedError("asked for lines of signatures, found another text")
        check_cosignatures(signed.whole, [place.key], 1)
        line = signed.of(place.key)
        assert line is not None, "its cosignature was checked"
        self._heads[size] = self._heads.get(size, asked).with_signatures([line])
        if len(self._heads) > _HEADS:
            del self._heads[min(self._heads)]
        state.size, state.signed = size, state.signed + 1

    async def _ask(self, place: WitnessPlace, old: int, new: int, note: str) -> str | int:
        """Return the lines of signatures of a witness, or the size that it knows instead of `old`.

        Raises:
            NotCosignedError: It answers with another error, or knows a longer log.
            SteppeError: The log cannot be read.
        """
        if old > new:
            raise NotCosignedError(f"asked for {new} entries, found {old} signed: a longer log")
        proof = list[bytes]()
        if 0 < old < new:
            async with self._disk:
                proof = await in_thread(self._log.consistency, old, new)
        assert self._session is not None, "started"
        url = f"{place.url.rstrip('/')}/add-checkpoint"
        body = AddCheckpoint(old, tuple(proof), note).text.encode()
        async with self._session.post(url, data=body) as response:
            text = (await response.content.read(MOST_BYTES)).decode("utf-8", "replace")
            if response.status == 200:
                return text
            is_size = response.content_type == SIZE_TYPE and is_number(text.strip())
            if response.status == 409 and is_size:
                return int(text)
            raise NotCosignedError(f"found status {response.status}: {text[:500].strip()}")

    async def _publish(self) -> None:
        """Write the newest head that all witnesses that answer have signed."""
        least = max(1, sum(not state.problem for state in self.asked.values()))
        names = {place.key.name for place in self._places}
        ready = [
            size
            for size, note in self._heads.items()
            if len({each.name for each in note.signatures} & names) >= least
        ]
        newest = max(ready, default=0)
        if newest < self._written_size or not ready or self._heads[newest] == self._written:
            return
        note = self._heads[newest]
        self._heads = {size: each for size, each in self._heads.items() if size >= newest}
        self._written, self._written_size = note, newest
        try:
            async with self._disk:
                await in_thread(publish_note, self._log.folder / COSIGNED, note)
        except SteppeError as error:  # the next head is another chance
            _log.warning("cosigned checkpoint: %s", error)

    def _note_problem(self, place: WitnessPlace, state: WitnessState, problem: str) -> None:
        state.failed += 1
        if problem != state.problem:
            _log.warning("witness %s at %s: %s", place.key.name, place.url, problem)
        state.problem = problem
