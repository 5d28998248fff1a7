"""How many watts there are: supplies, battery, site."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from steppe.config.section import FilePath, NonNegative, Positive, Section, Share


def _moment(value: Any) -> datetime:
    """Return what YAML made of a date, with or without a time; a number is none."""
    match value:
        case datetime():
            return value
        case date():
            return datetime.combine(value, time())
        case str():
            with suppress(ValueError):
                return datetime.fromisoformat(value)
    raise ValueError("asked for a date and time in ISO 8601")


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A moment of the calendar."""


class ConstantSupply(Section):
    """The same watts for ever."""

    kind: Literal["constant"]
    watts: NonNegative


class TraceSupply(Section):
    """Watts from a CSV or Parquet file (`.csv`, `.csv.gz`, `.parquet`)."""

    kind: Literal["trace"]
    path: FilePath
    time_column: str = "time_utc"
    power_column: str = "p_kw"
    watts_per_unit: Positive = 1000.0
    """Watts in one unit of the power column."""
    rated_w: Positive | None = None
    """Scale the trace so that its largest value is this, W."""


class WindSupply(Section):
    """A wind turbine in the measured weather of one of pvlib's stations."""

    kind: Literal["wind"]
    rated_w: Positive
    station: Literal["greensboro", "sand_point"] = "sand_point"


class SolarSupply(Section):
    """A fixed photovoltaic plant in the measured weather of one of pvlib's stations."""

    kind: Literal["solar"]
    rated_w: Positive
    station: Literal["greensboro", "sand_point"] = "greensboro"


class SignalSupply(Section):
    """A file that another program rewrites: one number, watts, and a newline.

    It is stale when not rewritten.
    """

    kind: Literal["signal"]
    path: FilePath


SupplySection = Annotated[
    ConstantSupply | TraceSupply | WindSupply | SolarSupply | SignalSupply,
    Field(discriminator="kind"),
]


SUSTAIN_S = 3600.0
"""A battery offers by itself what it can give for so long, s of trace time."""


class BatterySection(Section):
    """A battery between supply and site.

    It takes what the site leaves. By itself it offers what it can sustain for an hour of trace
    time; with `control.horizon` it gives and takes what the plan of the day says.
    """

    capacity_wh: Positive
    max_charge_w: NonNegative
    max_discharge_w: NonNegative
    charge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    discharge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    initial_share: Share = 0.5
    """Charge at the start, share of the capacity."""


class PowerSection(Section):
    """How many watts may be drawn, at the site boundary."""

    supply: Annotated[tuple[SupplySection, ...], Field(min_length=1, strict=False)]
    """Sources; their watts add up."""
    battery: BatterySection | None = None
    reserve_w: NonNegative = 0.0
    """Kept back from the supply at all times, W."""
    start: Moment | None = None
    """Trace time at which the run begins, ISO 8601; the trace's own start when absent, its
    own zone where no offset is given. Weather stations ignore year and zone: the time is their
    local standard time."""
    speedup: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Seconds of trace per second of run; with a battery, at most an hour of trace in a tick."""
    stale_s: Positive = 60.0
    """A live signal older than this is not believed, s of run time."""
    fallback_w: NonNegative = 0.0
    """Budget while the signal is stale or missing, W."""


class SiteSection(Section):
    """What the site needs beside the GPUs: site watts = GPU watts x pue + overhead_w."""

    pue: Annotated[float, Field(ge=1, le=100)] = 1.0
    overhead_w: NonNegative = 0.0
