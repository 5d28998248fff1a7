"""Supplies: power offered to the site at a time of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from steppe.config import (
    ClearSkySupply,
    ConstantSupply,
    CustomSupply,
    PowerSection,
    ShareOfRatedSupply,
    SignalSupply,
    SolarSupply,
    SupplySection,
    SyntheticWindSupply,
    TraceSupply,
    WindSupply,
)
from steppe.errors import ConfigError
from steppe.power.signal import CheckedSignal, Fresh, Missing, Reading, Stale, custom_signal
from steppe.power.signal_file import SignalFile, SignalReader
from steppe.power.solar import clear_sky_trace, solar_trace
from steppe.power.synthetic_weather import hourly_clearness, synthetic_wind_trace
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
    """Constant power, W."""

    watts: float
    name: str = "constant"


@dataclass(frozen=True, slots=True)
class RatedShare:
    """What the site draws when its GPUs draw `gpu_w`, W, whatever is drawn beside them."""

    gpu_w: float
    name: str = "share_of_rated"


@dataclass(frozen=True, slots=True)
class TraceReplay:
    """A recorded trace that starts at `offset_s`; after its end it becomes stale."""

    trace: SupplyTrace
    offset_s: float
    name: str = "trace"
    firm: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True)
class WeatherYear:
    """A year of supply that starts at `offset_s` and repeats."""

    trace: SupplyTrace
    offset_s: float
    name: str = "weather"


@dataclass(frozen=True, slots=True)
class Live:
    """A signal file, read at each call; it has no future, so its present value stands for that."""

    signal: SignalReader
    name: str = "signal"
    firm: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Custom:
    """A signal of the user's own class."""

    signal: CheckedSignal
    name: str
    firm: bool = False
    source: str | None = None


Supply = Steady | RatedShare | TraceReplay | WeatherYear | Live | Custom


SiteDraw = Callable[[float], float]
"""Returns the draw of the site at a draw of its GPUs, both W."""


def offered(
    supply: Supply, now_s: float, clock: TraceClock, stale_s: float, site_w: SiteDraw = float
) -> Reading:
    """Return the power that a supply offers at a time of the run."""
    trace_s = clock.since_start_s(now_s)
    match supply:
        case Steady(watts=watts):
            return Fresh(watts, 0.0)
        case RatedShare(gpu_w=gpu_w):
            return Fresh(site_w(gpu_w), 0.0)
        case TraceReplay(trace=trace, offset_s=offset_s):
            age_s = max(0.0, trace_s + offset_s - trace.end_s) / clock.speedup
            watts = trace.at(min(trace_s + offset_s, trace.end_s))
            return Stale(age_s) if age_s > stale_s else Fresh(watts, age_s)
        case WeatherYear(trace=trace, offset_s=offset_s):
            return Fresh(trace.at((trace_s + offset_s) % YEAR_S), 0.0)
        case Live(signal=signal):
            return signal.read()
        case Custom(signal=signal):
            return signal.at(trace_s, stale_s * clock.speedup)
        case _:
            assert_never(supply)


def ends_s(supply: Supply, clock: TraceClock) -> float:
    """Return the run time at which a supply ends, s; infinite without an end."""
    match supply:
        case TraceReplay(trace=trace, offset_s=offset_s):
            return clock.started_s + (trace.end_s - offset_s) / clock.speedup
        case Steady() | RatedShare() | WeatherYear() | Live() | Custom():
            return math.inf
        case _:
            assert_never(supply)


def most_w(supply: Supply, site_w: SiteDraw = float) -> float:
    """Return the most power that a supply can ever offer from the start of the run on, W.

    That of a live signal and of a class of the user's own is not known: infinite.
    """
    match supply:
        case Steady(watts=watts):
            return watts
        case RatedShare(gpu_w=gpu_w):
            return site_w(gpu_w)
        case TraceReplay(trace=trace, offset_s=offset_s):
            later = zip(trace.times_s, trace.watts, strict=True)
            return max(trace.at(offset_s), *(watts for t_s, watts in later if t_s >= offset_s))
        case WeatherYear(trace=trace):
            return max(trace.watts)
        case Live() | Custom():
            return math.inf
        case _:
            assert_never(supply)


def can_fail(supply: Supply) -> bool:
    """Whether a supply can become stale or missing, so that the fallback applies."""
    match supply:
        case TraceReplay() | Live() | Custom():
            return True
        case Steady() | RatedShare() | WeatherYear():
            return False
        case _:
            assert_never(supply)


def is_firm(supply: Supply) -> bool:
    """Whether it is bought power, and no surplus."""
    match supply:
        case Steady() | RatedShare():
            return True
        case WeatherYear():
            return False
        case TraceReplay(firm=firm) | Live(firm=firm) | Custom(firm=firm):
            return firm
        case _:
            assert_never(supply)


def source_of(supply: Supply) -> str:
    """Return what a supply is in the books: `wind`, `sun`, `grid` (bought power) or `other`."""
    match supply:
        case WeatherYear(name=name):
            return "sun" if name == "solar" else name
        case TraceReplay(source=str(name)) | Live(source=str(name)) | Custom(source=str(name)):
            return name
        case _:
            return "grid" if is_firm(supply) else "other"


def total(readings: Iterable[Reading]) -> Reading:
    """Return the sum of readings, as old as the oldest; stale or missing if one of them is."""
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
    """Return the supply that a section describes, starting at `power.start`.

    Raises:
        TraceError: A trace cannot be read.
        ConfigError: `power.start` is outside a trace, or lacks an offset that it needs; or the
            class of a signal cannot be used.
    """
    match section:
        case ConstantSupply():
            return Steady(section.watts)
        case ShareOfRatedSupply(share=share, rated_w=rated_w):
            # 0 W for the GPUs until `with_rating` has put in those of the run.
            return RatedShare(share * (rated_w or 0.0))
        case TraceSupply():
            trace = load_trace(section)
            offset_s = _replay_offset_s(trace, power.start, str(section.path))
            return TraceReplay(trace, offset_s, firm=section.firm, source=section.source)
        case WindSupply() | SolarSupply() | SyntheticWindSupply() | ClearSkySupply():
            return _weather_year(section, power.start)
        case SignalSupply():
            reader = SignalReader(SignalFile(section.path, power.stale_s, wall_s))
            return Live(reader, firm=section.firm, source=section.source)
        case CustomSupply():
            signal = custom_signal(section.signal, section.settings)
            return Custom(signal, section.signal, section.firm, section.source)
        case _:
            assert_never(section)


def _weather_year(
    section: WindSupply | SolarSupply | SyntheticWindSupply | ClearSkySupply,
    start: datetime | None,
) -> WeatherYear:
    """Return a year of wind or sun; that of a place by its longitude is in UTC."""
    match section:
        case WindSupply(station=station, rated_w=rated_w):
            name, trace = "wind", wind_trace(station, rated_w)
        case SolarSupply(station=station, rated_w=rated_w):
            name, trace = "solar", solar_trace(station, rated_w)
        case SyntheticWindSupply(rated_w=rated_w, mean_mps=mean_mps, memory_h=memory_h, seed=seed):
            name, trace = "wind", synthetic_wind_trace(rated_w, mean_mps, memory_h, seed)
        case ClearSkySupply(latitude=latitude, longitude=longitude, rated_w=rated_w):
            start, clouds = _in_utc(start), section.cloud_seed
            clearness = None if clouds is None else hourly_clearness(clouds)
            name, trace = "solar", clear_sky_trace(latitude, longitude, rated_w, clearness)
    return WeatherYear(trace, _year_offset_s(start), name)


def needs_rating(power: PowerSection) -> bool:
    """Whether a source is a share of the GPUs' rating, and that is not given."""
    sources = (*power.supply, *power.limits)
    return any(isinstance(s, ShareOfRatedSupply) and s.rated_w is None for s in sources)


def with_rating(power: PowerSection, rated_w: float | None) -> PowerSection:
    """Return the section with the rating of the GPUs of a run where it gives none.

    Args:
        power: The section.
        rated_w: Sum of the highest board power limits of the GPUs, W; None if one is not known.

    Raises:
        ConfigError: A source needs a rating that is not known.
    """
    if not needs_rating(power):
        return power
    if rated_w is None:
        raise ConfigError(
            "power.supply: asked for a share_of_rated, found a GPU that reports no highest board "
            "power limit: give rated_w"
        )
    rated = {
        key: tuple(
            source.model_copy(update={"rated_w": source.rated_w or rated_w})
            if isinstance(source, ShareOfRatedSupply)
            else source
            for source in sources
        )
        for key, sources in (("supply", power.supply), ("limits", power.limits))
    }
    return power.model_copy(update=rated)


def _replay_offset_s(trace: SupplyTrace, start: datetime | None, name: str) -> float:
    """Return the trace time at which the run begins, s; a start without offset is in its zone."""
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
    """Return the time in a weather year at which the run begins, s; year and zone are ignored.

    Weather years are in each station's local standard time.
    """
    if start is None:
        return 0.0
    if (start.month, start.day) == (2, 29):
        raise ConfigError("power.start: weather years have no 29 February")
    moment = start.replace(year=1990, tzinfo=None)
    return (moment - datetime(1990, 1, 1)).total_seconds()


def _in_utc(start: datetime | None) -> datetime | None:
    return start if start is None or start.tzinfo is None else start.astimezone(UTC)
