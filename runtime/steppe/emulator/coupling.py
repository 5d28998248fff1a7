"""Couple a real engine to an emulated GPU, so that each sets the pace of the other.

The engine's steps set the load of the emulated GPU; the emulated clock sets how long a step
takes at least. Every number that follows from this is modelled, never measured.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.errors import EngineError

POLL_S = 0.005
"""A change of the clock acts on a waiting step within this time, s."""
LEASE_S = 2.0
"""The load of an engine that sends no update falls to 0 after this time, s."""
_DONE_S = 1e-6


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a step takes on the emulated GPU; modelled, never measured.

    A step lasts `weights_s + (decode_s n + prefill_s p) / speed` with `n` decoding sequences,
    `p` prompt tokens and `speed` the clock relative to the highest. The first part is
    bound by memory and does not depend on the SM clock, as in the roofline model of decode.

    Attributes:
        weights_s: Streaming the weights from memory once, s.
        decode_s: Computing one decoding sequence at the full clock, s.
        prefill_s: Computing one prompt token at the full clock, s.
    """

    weights_s: float
    decode_s: float
    prefill_s: float

    def compute_s(self, prefill_tokens: int, decode_sequences: int) -> float:
        """Return the compute time of a step at the full clock, s."""
        return self.decode_s * decode_sequences + self.prefill_s * prefill_tokens


@dataclass(frozen=True, slots=True)
class _Step:
    begun_s: float
    compute_s: float


class StepCoupling:
    """The steps of one engine on its emulated GPUs.

    Steps may overlap as in an asynchronous engine: one may begin before the last has ended;
    the GPU runs them one after another, and `end` ends the oldest.
    """

    def __init__(
        self,
        emulator: Emulator,
        gpu_indices: Sequence[int],
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Couple an engine to its GPUs and register this process on them.

        Args:
            emulator: The emulated GPUs.
            gpu_indices: The engine's GPUs; the slowest sets the pace.
            pace: How long a step takes.
            clock: Returns the time, s.
            sleep: Waits, s.
        """
        self._emulator = emulator
        self._gpus = tuple(gpu_indices)
        self._pace = pace
        self._clock = clock
        self._sleep = sleep
        self._steps: deque[_Step] = deque()
        self._at_s = 0.0
        self._left = 0.0
        self._duration_s = 0.0
        for index in self._gpus:
            emulator.set_context(index, os.getpid(), 0)

    def begin(self, prefill_tokens: int, decode_sequences: int) -> None:
        """Start a step: set the load of each of its GPUs.

        Args:
            prefill_tokens: Prompt tokens that the step computes.
            decode_sequences: Sequences that it decodes one token of.
        """
        compute_s = self._pace.compute_s(prefill_tokens, decode_sequences)
        self._steps.append(_Step(self._clock(), compute_s))
        if len(self._steps) == 1:
            self._start(self._steps[0].begun_s)

    def end(self) -> None:
        """End the oldest step: wait until the emulated GPU would have finished it.

        Does not wait when the real step took longer than the emulated one.

        Raises:
            EngineError: No step has begun.
        """
        if not self._steps:
            raise EngineError("asked to end a step of the emulated GPU, but none has begun")
        while (left_s := self._advance()) > _DONE_S:
            self._sleep(min(POLL_S, left_s))
        self._steps.popleft()
        if self._steps:
            self._start(max(self._at_s + left_s, self._steps[0].begun_s))

    def idle(self) -> None:
        """Drop unfinished steps and set the load to 0."""
        self._steps.clear()
        for index in self._gpus:
            self._emulator.set_load(index, core=0.0, mem=0.0, valid_s=0.0)

    def _start(self, now_s: float) -> None:
        """Start the oldest step on the GPU, at a time, s."""
        self._at_s = now_s
        self._left = 1.0
        self._duration_s = self._apply_load()

    def _advance(self) -> float:
        """Advance the oldest step to now; return the time that is left, s.

        A negative value means that it ended that long ago. Between two clock readings, the
        duration of the step is the mean of both.
        """
        now_s = self._clock()
        duration_s = self._apply_load()
        mean_s = (duration_s + self._duration_s) / 2
        self._left = self._left - (now_s - self._at_s) / mean_s if mean_s > 0 else 0.0
        self._at_s = now_s
        self._duration_s = duration_s
        return self._left * duration_s

    def _apply_load(self) -> float:
        """Set the load of the oldest step at the present clock; return its duration, s."""
        memory_s = self._pace.weights_s
        core_s = self._steps[0].compute_s / min(map(self._emulator.speed, self._gpus))
        duration_s = memory_s + core_s
        mem = memory_s / duration_s if duration_s > 0 else 0.0
        core = core_s / duration_s if duration_s > 0 else 0.0
        lease_s = max(LEASE_S, 2 * duration_s)
        for index in self._gpus:
            self._emulator.set_load(index, core=core, mem=mem, valid_s=lease_s)
        return duration_s


def couple(
    state: str, gpu_indices: list[int], weights_s: float, decode_s: float, prefill_s: float
) -> StepCoupling:
    """Couple this process's engine to emulated GPUs that exist already.

    Args:
        state: The state file of the emulated GPUs.
        gpu_indices: The engine's GPUs, in PCI order.
        weights_s: As in `Pace`, s.
        decode_s: As in `Pace`, s.
        prefill_s: As in `Pace`, s.

    Raises:
        InstallError: The emulated library cannot be built.
        BackendUnavailableError: The state file is missing or not usable.
        OutOfRangeError: There is no such GPU.
    """
    emulator = Emulator.attach(build_library(), Path(state))
    return StepCoupling(emulator, gpu_indices, Pace(weights_s, decode_s, prefill_s))
