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
from steppe.emulator.pace import Pace, StepParts
from steppe.errors import EngineError

POLL_S = 0.005
"""A change of the clock acts on a waiting step within this time, s."""
LEASE_S = 2.0
"""The load of an engine that sends no update falls to 0 after this time, s."""
_DONE_S = 1e-6


@dataclass(frozen=True, slots=True)
class _Step:
    begun_s: float
    parts: StepParts


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

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int = 0) -> None:
        """Start a step: set the load of each of its GPUs.

        Args:
            prefill_tokens: Prompt tokens that the step computes.
            decode_sequences: Sequences that it decodes one token of.
            context_tokens: Tokens that these attend to, summed over them.
        """
        parts = self._pace.parts(prefill_tokens, decode_sequences, context_tokens)
        self._steps.append(_Step(self._clock(), parts))
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
        step = self._steps[0].parts.at(min(map(self._emulator.speed, self._gpus)))
        lease_s = max(LEASE_S, 2 * step.duration_s)
        for index in self._gpus:
            self._emulator.set_load(index, core=step.core, mem=step.mem, valid_s=lease_s)
        return step.duration_s


def couple(state: str, gpu_indices: list[int], **pace: float) -> StepCoupling:
    """Couple this process's engine to emulated GPUs that exist already.

    Args:
        state: The state file of the emulated GPUs.
        gpu_indices: The engine's GPUs, in PCI order.
        **pace: The attributes of `Pace`.

    Raises:
        InstallError: The emulated library cannot be built.
        BackendUnavailableError: The state file is missing or not usable.
        OutOfRangeError: There is no such GPU.
    """
    emulator = Emulator.attach(build_library(), Path(state))
    return StepCoupling(emulator, gpu_indices, Pace(**pace))
