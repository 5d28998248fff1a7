"""What one source offers at a moment of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from steppe.config import (
    ConstantSupply,
    PowerSection,
    SignalSupply,
    SolarSupply,
    SupplySection,
    TraceSupply,
    WindSupply,
)
from steppe.errors import ConfigError
from steppe.power.signal import Fresh, HeldSignal, Missing, Reading, SignalFile, Stale
from steppe.power.solar import solar_trace
from steppe.power.trace import YEAR_S, SupplyTrace, load_trace
from steppe.power.wind import wind_trace


@dataclass(frozen=True, slots=True)
class TraceClock:
    """Turns run time into trace time.

    Attributes:
        started_s: Run time at which the run began, s.
        speedup: Trace seconds in a second of the run.
    """

    started_s: float
    speedup: float

    def since_start_s(self, now_s: float) -> float:
        """Return the trace time since the run began, s; 0 before that."""
        return max(0.0, now_s - self.started_s) * self.speedup


@dataclass(frozen=True, slots=True)
class Steady:
    """The same watts for ever."""

    watts: float
    name: str = "constant"


@dataclass(frozen=True, slots=True)
class TraceReplay:
    """A recorded trace, entered at `offset_s`; it ends, and then grows stale."""

    trace: SupplyTrace
    offset_s: float
    name: str = "trace"


@dataclass(frozen=True, slots=True)
class WeatherYear:
    """A year of supply, entered at `offset_s`; after its end it begins again."""

    trace: SupplyTrace
    offset_s: float
    name: str = "weather"


@dataclass(frozen=True, slots=True)
class Live:
    """A signal that is read whenever it is asked for."""

    signal: HeldSignal
    name: str = "signal"


Supply = Steady | TraceReplay | WeatherYear | Live


def offered(supply: Supply, now_s: float, clock: TraceClock, stale_s: float) -> Reading:
    """Return what a source offers at `now_s`; a live one says what it offers at present."""
    trace_s = clock.since_start_s(now_s)
    match supply:
        case Steady(watts=watts):
            return Fresh(watts, 0.0)
        case TraceReplay(trace=trace, offset_s=offset_s):
            age_s = max(0.0, trace_s + offset_s - trace.end_s) / clock.speedup
            if age_s > stale_s:
                return Stale(age_s)
            return Fresh(trace.at(min(trace_s + offset_s, trace.end_s)), age_s)
        case WeatherYear(trace=trace, offset_s=offset_s):
            return Fresh(trace.at((trace_s + offset_s) % YEAR_S), 0.0)
        case Live(signal=signal):
            return signal.read()
        case _:
            assert_never(supply)


def ends_s(supply: Supply, clock: TraceClock) -> float:
    """Return the run time of the last thing that a source says, s; infinite without an end."""
    match supply:
        case TraceReplay(trace=trace, offset_s=offset_s):
            return clock.started_s + (trace.end_s - offset_s) / clock.speedup
        case Steady() | WeatherYear() | Live():
            return math.inf
        case _:
            assert_never(supply)


def total(readings: Iterable[Reading]) -> Reading:
    """Return the sum of what sources offer; it is no fresher than its worst part."""
    watts = 0.0
    age_s = 0.0
    for reading in readings:
        match reading:
            case Fresh():
                watts += reading.watts
                age_s = max(age_s, reading.age_s)
            case Stale() | Missing():
                return reading
    return Fresh(watts, age_s)


def supply_from_config(
    section: SupplySection, power: PowerSection, wall_s: Callable[[], float]
) -> Supply:
    """Return the source that a section describes, entered at `power.start`.

    Raises:
        TraceError: A trace cannot be read.
        ConfigError: `power.start` does not lie in a trace, or lacks an offset that it needs.
    """
    match section:
        case ConstantSupply():
            return Steady(section.watts)
        case TraceSupply():
            trace = load_trace(section)
            return TraceReplay(trace, _replay_offset_s(trace, power.start, str(section.path)))
        case WindSupply():
            trace = wind_trace(section.station, section.rated_w)
            return WeatherYear(trace, _year_offset_s(power.start), section.kind)
        case SolarSupply():
            trace = solar_trace(section.station, section.rated_w)
            return WeatherYear(trace, _year_offset_s(power.start), section.kind)
        case SignalSupply():
            return Live(HeldSignal(SignalFile(section.path, power.stale_s, wall_s)))
        case _:
            assert_never(section)


def _replay_offset_s(trace: SupplyTrace, start: datetime | None, name: str) -> float:
    """Return where in a recorded trace the run begins, s; no zone means the trace's own."""
    if start is None:
        return 0.0
    if trace.start is None:
        raise ConfigError(f"power.start: asked for {start}, {name} has plain seconds, no dates")
    if start.tzinfo is None and trace.zone is None:
        raise ConfigError(
            f"power.start: asked for {start} without an offset, the rows of {name} have several"
        )
    moment = start if start.tzinfo else start.replace(tzinfo=trace.zone)
    offset_s = (moment - trace.start).total_seconds()
    if not 0.0 <= offset_s <= trace.end_s:
        covered = f"{trace.start} to {trace.end}"
        raise ConfigError(f"power.start: asked for {start}, {name} covers {covered}")
    return offset_s


def _year_offset_s(start: datetime | None) -> float:
    """Return where in a weather year the run begins, s; year and zone are ignored.

    Weather years keep each station's local standard time, so noon is noon everywhere.
    """
    if start is None:
        return 0.0
    if (start.month, start.day) == (2, 29):
        raise ConfigError("power.start: weather years have no 29 February")
    moment = start.replace(year=1990, tzinfo=None)
    return (moment - datetime(1990, 1, 1)).total_seconds()
