"""What a measurement needs of a replica: its limits, its counters, its sensors and its load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from steppe.device.gpu import LimitReason
from steppe.load.arrivals import Arrival
from steppe.measure.sweep.saturate import Saturation


@dataclass(frozen=True, slots=True)
class SubjectTotals:
    """Running totals and present state of a replica at one instant.

    Attributes:
        time_s: The instant up to which the energy is known, s.
        energy_j: Energy of its GPUs since the first reading, J.
        error_j: Bound of the error of the energy since the last reading, J.
        quality: How the energy was found: counter, integrated, estimated or emulated.
        steps: Engine steps; 0 where they are not counted.
        prompt_tokens: Prompt tokens computed.
        output_tokens: Tokens sampled.
        running: Requests in the batch.
        waiting: Requests that wait for a place in it.
    """

    time_s: float
    energy_j: float
    error_j: float
    quality: str
    steps: int
    prompt_tokens: int
    output_tokens: int
    running: int
    waiting: int


class SweepSubject(Protocol):
    """One replica with its knobs and counters."""

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the limits; a clock of 0 leaves the clock alone."""
        ...

    def reading(self) -> SubjectTotals:
        """Return totals and state now."""
        ...


@dataclass(frozen=True, slots=True)
class SensorReading:
    """One reading of the sensors of a replica's GPUs.

    Attributes:
        clock_mhz: SM clock of the slowest, MHz.
        temperature_c: Temperature of the warmest, degrees Celsius; None where unknown.
        reasons: Why a clock is not at its highest.
        processes: Most processes on one GPU; None where unknown.
    """

    clock_mhz: int
    temperature_c: int | None
    reasons: frozenset[LimitReason]
    processes: int | None


@dataclass(frozen=True, slots=True)
class Rig:
    """Everything that is needed to measure one replica.

    Attributes:
        name: Name of the replica.
        subject: Its knobs and counters.
        read_sensors: Reads the sensors of its GPUs; None where they cannot be read from here.
        saturate: Holds so many requests outstanding at it inside a block; the last argument is
            the seed of their words, new for each point, so that no prefix cache holds them.
        expected_processes: Processes that belong on each of its GPUs.
    """

    name: str
    subject: SweepSubject
    read_sensors: Callable[[], SensorReading | None]
    saturate: Callable[[Sequence[Arrival], int, int], AbstractContextManager[Saturation]]
    expected_processes: int = 1
