"""The joules of a load while it runs, read again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from steppe.energy.span import span_error_j
from steppe.energy.window import EnergyReading
from steppe.errors import DeviceError, SteppeError
from steppe.load.results import LoadResult
from steppe.load.stream import Completed
from steppe.measure.serving import LoadEnergy, slices_of


class JouleReader(Protocol):
    """Whatever counts joules."""

    def read_at(self, at_s: float) -> EnergyReading:
        """Return the energy since the meter began, up to an instant just past."""
        ...


@dataclass(slots=True)
class EnergyLog:
    """Reads a meter again and again while a load runs.

    One that fails in between is left out, and the next has its joules; without the first or the
    last the load has no energy.

    Attributes:
        meter: The meter.
        every_s: Time between two readings, s.
        clock: Tells the time, s.
        cuts: Each reading.
    """

    meter: JouleReader
    every_s: float
    clock: Callable[[], float] = time.monotonic
    cuts: list[EnergyReading] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _end_error: SteppeError | None = None

    def begin(self) -> None:
        """Read from now on, for the load begins; a thread waits for the meter."""
        work = partial(self._work, self.clock())
        self._thread = threading.Thread(target=work, daemon=True, name="energy-log")
        self._thread.start()

    @contextmanager
    def running(self) -> Generator[None]:
        """Read from `begin`, which is called inside the block, to the block's end."""
        try:
            yield
        finally:
            self._stop.set()
            end_s = self.clock()
            if self._thread is not None:
                self._thread.join()
                try:
                    self._cut(end_s)
                except SteppeError as error:  # what the clients saw must not be lost for it
                    self._end_error = error

    def energy(self, result: LoadResult) -> LoadEnergy:
        """Return the energy of the load, with the tokens that each slice brought.

        Raises:
            DeviceError: The meter gave no reading when it began or when it ended.
        """
        if self._end_error is not None:
            raise DeviceError(
                f"asked for the energy of a load, found none at its end: {self._end_error}"
            ) from self._end_error
        if len(self.cuts) < 2:
            raise DeviceError("asked for the energy of a load, found no reading at its beginning")
        first, last = self.cuts[0], self.cuts[-1]
        answers = [r.outcome for r in result.requests if isinstance(r.outcome, Completed)]
        tokens = [(a.first_s, a.last_s, a.output_tokens) for a in answers]
        cuts = [(cut.time_s - first.time_s, cut.energy_j - first.energy_j) for cut in self.cuts]
        error_j = span_error_j((cut.error_j, cut.quality) for cut in self.cuts[1:])
        return LoadEnergy(last.energy_j - first.energy_j, error_j, slices_of(cuts, tokens))

    def _work(self, begin_s: float) -> None:
        with suppress(SteppeError):
            self._cut(begin_s)
        while self.cuts and not self._stop.wait(self.every_s):  # without the first none counts
            now_s = self.clock()
            if not self._stop.is_set():  # the end is not earlier than any cut
                with suppress(SteppeError):
                    self._cut(now_s)

    def _cut(self, at_s: float) -> None:
        self.cuts.append(self.meter.read_at(at_s))
