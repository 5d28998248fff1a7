"""The joules of a load while it runs, read again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from steppe.load.results import LoadResult
from steppe.load.stream import Completed
from steppe.measure.serving import LoadEnergy, slices_of


class Meter(Protocol):
    """Whatever counts joules."""

    def read_at(self, at_s: float) -> tuple[float, float, str]:
        """Return energy from the beginning until now, J; error since the last call, J; quality."""
        ...


@dataclass(slots=True)
class EnergyLog:
    """Reads a meter again and again while a load runs.

    Attributes:
        meter: The meter.
        every_s: Time between two readings, s.
        cuts: Time, energy since the beginning and error of each reading.
        quality: Of the last reading.
    """

    meter: Meter
    every_s: float
    cuts: list[tuple[float, float, float]] = field(default_factory=list)
    quality: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Generator[None]:
        """Read at both ends of the block and meanwhile."""
        self._cut()
        thread = threading.Thread(target=self._work, daemon=True, name="energy-log")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._cut()

    def energy(self, result: LoadResult) -> LoadEnergy:
        """Return the energy of the load, with the tokens that each slice brought."""
        (first_s, first_j, _), (_, last_j, _) = self.cuts[0], self.cuts[-1]
        answers = [r.outcome for r in result.requests if isinstance(r.outcome, Completed)]
        tokens = [(a.first_s, a.last_s, a.output_tokens) for a in answers]
        cuts = [(at_s - first_s, energy_j - first_j) for at_s, energy_j, _ in self.cuts]
        errors_j = [error_j for _, _, error_j in self.cuts[1:]]
        # Inner ends cancel in the sum, see `measure.point`.
        error_j = errors_j[0] + (errors_j[-1] if len(errors_j) > 1 else 0.0)
        return LoadEnergy(last_j - first_j, error_j, slices_of(cuts, tokens))

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            self._cut()

    def _cut(self) -> None:
        at_s = time.monotonic()
        energy_j, error_j, self.quality = self.meter.read_at(at_s)
        self.cuts.append((at_s, energy_j, error_j))
