"""The shared file between one engine and its node: limits go in, telemetry comes out.

A file of 8-byte words, mapped by both sides; no call crosses between them. Layout, in words:

    0        version of the limits, odd while they are being written
    1..3     batch limit, tokens per step, hold
    4        deadline: until when the limits hold, CLOCK_MONOTONIC, ns; 0 for none
    5..6     process ids of the engine and of the replica that hosts it; 0 before they are there
    8..15    counters of the engine (see `Telemetry`)
    16       words ever written to the ring
    32..     ring of step records (see `StepRecord`)

One process writes the limits and their deadline, the engine writes the rest. An engine whose
deadline has passed must not begin a step until it is moved on: nothing controls it. A word is
stored whole and x86 keeps the order of stores; on other processors the version word still rejects
a torn read of the limits, and a torn step record is counted as lost.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

NS_PER_S = 1e9
WORD_BYTES = 8
RING_AT = 32
RING_WORDS = 1 << 20
"""6 s of 50 steps/s with 1024 requests each; the file is sparse until they come."""
GUARD_WORDS = 1 << 14
"""Words of the oldest records that a write in progress may already have overwritten."""
FILE_BYTES = (RING_AT + RING_WORDS) * WORD_BYTES

_LIMITS_AT = 1
_DEADLINE_AT = 4
_ENGINE_AT, _HOST_AT = 5, 6
_TELEMETRY_AT = 8
_RING_HEAD = 16
_STEP_MARK = 0x57E9
_HEADER_WORDS = 5
_SHARE_WORDS = 3


def request_key(request_id: str) -> int:
    """Return the number that stands for a request in step records, 63 bits."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits that the controller sets; they apply from the next step on.

    Attributes:
        batch_limit: Most sequences decoded at once; 0: the engine's own limit.
        tokens_per_step: Most tokens in one step; 0: the engine's own limit.
        hold: Whether the batch limit also applies to running requests: those beyond it keep
            their KV cache and wait, in turns.
    """

    batch_limit: int = 0
    tokens_per_step: int = 0
    hold: bool = True


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Counters of one engine since it started.

    Attributes:
        steps: Steps that ran.
        running: Requests with KV cache, held ones included, and those in a step under way.
        waiting: Requests not yet admitted.
        prompt_tokens: Prompt tokens computed.
        output_tokens: Tokens sampled.
        busy_ns: Time in which a step was running, ns.
        now_ns: When the counters were written, CLOCK_MONOTONIC, ns.
        scheduled: Requests stepped in the latest step.
    """

    steps: int = 0
    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    busy_ns: int = 0
    now_ns: int = 0
    scheduled: int = 0

    def after(self, step: StepRecord) -> Telemetry:
        """Return the counters after a step; running and waiting requests are unchanged."""
        return replace(
            self,
            steps=self.steps + 1,
            prompt_tokens=self.prompt_tokens + sum(w.prompt_tokens for w in step.work),
            output_tokens=self.output_tokens + sum(w.output_tokens for w in step.work),
            busy_ns=self.busy_ns + step.end_ns - step.start_ns,
            now_ns=step.end_ns,
            scheduled=len(step.work),
        )


@dataclass(frozen=True, slots=True)
class RequestWork:
    """The work of one step for one request.

    Attributes:
        key: `request_key` of its id.
        prompt_tokens: Prompt tokens computed.
        decode_tokens: Tokens computed after the prompt (speculated ones included).
        output_tokens: Tokens sampled.
    """

    key: int
    prompt_tokens: int
    decode_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One engine step: its time (CLOCK_MONOTONIC, ns) and its requests.

    Attributes:
        start_ns: When it began, ns.
        end_ns: When it ended, ns.
        work: Its requests.
        context_tokens: Tokens of context of the decoding sequences, cached prefixes and the tokens
            of this step included.
    """

    start_ns: int
    end_ns: int
    work: tuple[RequestWork, ...]
    context_tokens: int = 0

    @property
    def start_s(self) -> float:
        """When it began, s."""
        return self.start_ns / NS_PER_S

    @property
    def end_s(self) -> float:
        """When it ended, s."""
        return self.end_ns / NS_PER_S


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Step records read in one go.

    Attributes:
        steps: The steps, in the order in which they ended.
        lost: Whether some were overwritten before they were read.
        has_later: Whether later steps were left in the ring.
    """

    steps: tuple[StepRecord, ...]
    lost: bool
    has_later: bool = False


class ControlBlock:
    """One side's view of the shared file."""

    def __init__(self, path: Path) -> None:
        """Map an existing file.

        Raises:
            OSError: There is no such file, or it is too short.
        """
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), FILE_BYTES)
            self.id = os.fstat(file.fileno()).st_ino
            """Distinguishes the file from a later one at its path, while it is mapped."""
        # A word of a cast view is stored whole; struct.pack_into stores byte by byte.
        self._words = memoryview(self._map).cast("q")
        self.read_to = self._words[_RING_HEAD]
        """Position in the ring up to which this side has read, words; set it to read again."""

    @classmethod
    def create(cls, path: Path) -> ControlBlock:
        """Make the file, zeroed, and map it."""
        with path.open("wb") as file:
            file.truncate(FILE_BYTES)
        return cls(path)

    def close(self) -> None:
        """Unmap the file; the block cannot be used afterwards."""
        self._words.release()
        self._map.close()

    def write_limits(self, limits: EngineLimits) -> None:
        """Publish new limits."""
        words, at = self._words, _LIMITS_AT
        writing = words[0] | 1  # odd already where a writer died halfway
        words[0] = writing
        words[at], words[at + 1] = limits.batch_limit, limits.tokens_per_step
        words[at + 2] = int(limits.hold)
        words[0] = writing + 1

    def read_limits(self, known_version: int) -> tuple[int, EngineLimits] | None:
        """Return version and limits; None if they have not changed."""
        words, at = self._words, _LIMITS_AT
        version = words[0]
        if version == known_version or version % 2:
            return None
        limits = EngineLimits(words[at], words[at + 1], bool(words[at + 2]))
        return (version, limits) if words[0] == version else None

    def renew(self, until_s: float) -> None:
        """Let the limits hold until a time on the monotonic clock of this host, s.

        A file without a deadline sets none: the engine then steps for ever.
        """
        self._words[_DEADLINE_AT] = max(1, round(until_s * NS_PER_S))

    @property
    def deadline_s(self) -> float | None:
        """Until when the limits hold, s on the monotonic clock of this host; None: for ever."""
        deadline_ns = self._words[_DEADLINE_AT]
        return deadline_ns / NS_PER_S if deadline_ns else None

    @property
    def has_lapsed(self) -> bool:
        """Whether the limits no longer hold, so that the engine must not begin a step."""
        deadline_ns = self._words[_DEADLINE_AT]
        return 0 < deadline_ns < time.monotonic_ns()

    def note_engine(self, process: int) -> None:
        """Note the id of the process that steps."""
        self._words[_ENGINE_AT] = process

    def note_host(self, process: int) -> None:
        """Note the id of the process that answers HTTP; it may be that of the engine."""
        self._words[_HOST_AT] = process

    @property
    def processes(self) -> tuple[int, ...]:
        """The process that steps and, if it is another one, its host; as far as they are known."""
        numbers = dict.fromkeys((self._words[_ENGINE_AT], self._words[_HOST_AT]))
        return tuple(number for number in numbers if number)

    def write_telemetry(self, telemetry: Telemetry) -> None:
        """Publish the counters: when a step begins or ends, and when a request ends."""
        self._words[_TELEMETRY_AT : _TELEMETRY_AT + 8] = memoryview(
            array(
                "q",
                (
                    telemetry.steps,
                    telemetry.running,
                    telemetry.waiting,
                    telemetry.prompt_tokens,
                    telemetry.output_tokens,
                    telemetry.busy_ns,
                    telemetry.now_ns,
                    telemetry.scheduled,
                ),
            )
        )

    def read_telemetry(self) -> Telemetry:
        """Return the counters; they may mix two consecutive steps."""
        return Telemetry(*self._words[_TELEMETRY_AT : _TELEMETRY_AT + 8].tolist())

    def append_step(self, step: StepRecord) -> None:
        """Add a step to the ring, over the oldest ones when it is full."""
        flat = [_STEP_MARK, step.start_ns, step.end_ns, len(step.work), step.context_tokens]
        for work in step.work:
            flat += (work.key, work.prompt_tokens << 32 | work.decode_tokens, work.output_tokens)
        head = self._words[_RING_HEAD]
        self._copy_in(head % RING_WORDS, array("q", flat))
        self._words[_RING_HEAD] = head + len(flat)

    def read_steps(self, until_s: float = math.inf) -> StepBatch:
        """Return the steps added since the last call, or those of them that ended by `until_s`.

        Later ones stay in the ring for another call, as long as they are not written over.
        """
        head, at = self._words[_RING_HEAD], self.read_to
        self.read_to = head
        if head < at:
            at = 0  # a restarted engine began a new file
        if head - at > RING_WORDS - GUARD_WORDS:
            return StepBatch((), lost=True)
        flat = self._copy_out(at % RING_WORDS, head - at)
        if self._words[_RING_HEAD] - at > RING_WORDS - GUARD_WORDS:
            return StepBatch((), lost=True)
        batch, taken = _parse(flat, until_s)
        if batch.has_later:
            self.read_to = at + taken
        return batch

    def _copy_in(self, at: int, values: array[int]) -> None:
        first = min(len(values), RING_WORDS - at)
        view = memoryview(values)
        self._words[RING_AT + at : RING_AT + at + first] = view[:first]
        self._words[RING_AT : RING_AT + len(values) - first] = view[first:]

    def _copy_out(self, at: int, count: int) -> list[int]:
        first = min(count, RING_WORDS - at)
        head = self._words[RING_AT + at : RING_AT + at + first].tolist()
        return head + self._words[RING_AT : RING_AT + count - first].tolist()


def _parse(flat: Sequence[int], until_s: float) -> tuple[StepBatch, int]:
    """Return the steps that ended by `until_s`, and how many words they take."""
    steps: list[StepRecord] = []
    at = 0
    while at < len(flat):
        end = at + _HEADER_WORDS + flat[at + 3] * _SHARE_WORDS if at + 3 < len(flat) else 0
        if flat[at] != _STEP_MARK or end > len(flat) or end <= at:
            return StepBatch(tuple(steps), lost=True), len(flat)
        if flat[at + 2] / NS_PER_S > until_s:
            return StepBatch(tuple(steps), lost=False, has_later=True), at
        work = tuple(
            RequestWork(flat[i], flat[i + 1] >> 32, flat[i + 1] & 0xFFFFFFFF, flat[i + 2])
            for i in range(at + _HEADER_WORDS, end, _SHARE_WORDS)
        )
        steps.append(StepRecord(flat[at + 1], flat[at + 2], work, flat[at + 4]))
        at = end
    return StepBatch(tuple(steps), lost=False), at
