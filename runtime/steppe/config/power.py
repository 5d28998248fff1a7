"""Power supply and budget: supplies, battery, site."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from steppe.config.section import FilePath, NonNegative, Positive, Section, Share
from steppe.config.user_class import ClassPath


def _moment(value: Any) -> datetime:
    """Return the date and time of a YAML value; a date alone means midnight."""
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
"""A date and time."""


class ConstantSupply(Section):
    """A constant supply."""

    kind: Literal["constant"]
    """Selects a constant supply."""
    watts: NonNegative
    """Supply, W."""


class ShareOfRatedSupply(Section):
    """A constant share of what the GPUs of the run may draw at most: a first budget for any host.

    The site gets what it draws when its GPUs draw this share of the sum of their highest board
    power limits, so that `site` and its overhead are counted in.
    """

    kind: Literal["share_of_rated"]
    """Selects a share of the GPUs' rating."""
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the rating."""
    rated_w: Positive | None = None
    """The rating, W. If absent: the sum of the highest board power limits of the GPUs of the
    replicas, as the driver reports them when the run starts; in a simulation, those of the modelled
    or emulated GPUs."""


class TraceSupply(Section):
    """A supply recorded in a CSV or Parquet file (`.csv`, `.csv.gz`, `.parquet`)."""

    kind: Literal["trace"]
    """Selects a recorded supply."""
    path: FilePath
    """Path of the file; relative to this file."""
    time_column: str = "time_utc"
    """Column with the time, ISO 8601."""
    power_column: str = "p_kw"
    """Column with the power."""
    watts_per_unit: Positive = 1000.0
    """Unit of the power column, W."""
    rated_w: Positive | None = None
    """Scale the trace so that its largest value is this, W."""
    firm: bool = False
    """Whether it is bought power, such as that of the grid, and no surplus for batch work. A
    `constant` supply and a `share_of_rated` always are; wind and sun never are."""
    source: Literal["wind", "sun", "grid"] | None = None
    """What it is in the books of the ledger. If absent: `grid` if it is `firm`, else `other`, which
    is of unknown origin."""


class WindSupply(Section):
    """A wind turbine in the measured weather of a station that ships with pvlib."""

    kind: Literal["wind"]
    """Selects a wind turbine."""
    rated_w: Positive
    """Rated power of the turbine, W."""
    station: Literal["greensboro", "sand_point"] = "sand_point"
    """Weather station."""


class SolarSupply(Section):
    """A fixed photovoltaic plant in the measured weather of a station that ships with pvlib."""

    kind: Literal["solar"]
    """Selects a photovoltaic plant."""
    rated_w: Positive
    """Rated power of the plant, W."""
    station: Literal["greensboro", "sand_point"] = "greensboro"
    """Weather station."""


class SyntheticWindSupply(Section):
    """A wind turbine in wind that is drawn by chance: speeds are Weibull distributed, by hours.

    It is for simulations of several places: each seed gives another, independent wind.
    """

    kind: Literal["synthetic_wind"]
    """Selects synthetic wind."""
    rated_w: Positive
    """Rated power of the turbine, W."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the wind. The same seed gives the same year."""
    mean_mps: Annotated[float, Field(ge=1, le=20)] = 7.0
    """Mean wind speed at hub height, m/s."""
    memory_h: Annotated[float, Field(ge=1, le=240)] = 12.0
    """Time after which the wind is another one: its autocorrelation falls to 1/e, h."""


class ClearSkySupply(Section):
    """A fixed photovoltaic plant anywhere, under a clear sky or under clouds drawn by chance.

    `power.start` is UTC if it names no offset.
    """

    kind: Literal["clear_sky"]
    """Selects a photovoltaic plant by its place."""
    rated_w: Positive
    """Rated power of the plant, W."""
    latitude: Annotated[float, Field(ge=-65, le=65)]
    """Latitude, degrees north."""
    longitude: Annotated[float, Field(ge=-180, le=180)]
    """Longitude, degrees east."""
    cloud_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the clouds; none if absent."""


class SignalSupply(Section):
    """A live signal: a file that another program rewrites with one number, watts, and a newline.

    The signal is stale if the file is not rewritten for `power.stale_s`.
    """

    kind: Literal["signal"]
    """Selects a live signal."""
    path: FilePath
    """Path of the file; relative to this file."""
    firm: bool = False
    """Whether it is bought power and no surplus for batch work."""
    source: Literal["wind", "sun", "grid"] | None = None
    """What it is in the books of the ledger. If absent: `grid` if it is `firm`, else `other`, which
    is of unknown origin."""


class CustomSupply(Section):
    """A signal from your own Python class; see `steppe.Signal`."""

    kind: Literal["custom"]
    """Selects a class of your own."""
    signal: ClassPath
    """The class, `package.module:Class`; Python must be able to import it."""
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Keyword arguments of its constructor."""
    firm: bool = False
    """Whether it is bought power and no surplus for batch work."""
    source: Literal["wind", "sun", "grid"] | None = None
    """What it is in the books of the ledger. If absent: `grid` if it is `firm`, else `other`, which
    is of unknown origin."""


SupplySection = Annotated[
    ConstantSupply
    | ShareOfRatedSupply
    | TraceSupply
    | WindSupply
    | SolarSupply
    | SyntheticWindSupply
    | ClearSkySupply
    | SignalSupply
    | CustomSupply,
    Field(discriminator="kind"),
]


SUSTAIN_S = 3600.0
"""Without `control.horizon`, a battery offers the power it can sustain for this long, s of trace
time."""


class BatterySection(Section):
    """A battery between supply and site.

    It charges from the supply that the site leaves unused. Without `control.horizon` it offers
    the power it can sustain for an hour of trace time; with it, it follows the day-ahead plan.
    """

    capacity_wh: Positive
    """Usable capacity, Wh."""
    max_charge_w: NonNegative
    """Highest charging power, W."""
    max_discharge_w: NonNegative
    """Highest discharging power, W."""
    charge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Stored energy as a share of the energy taken."""
    discharge_efficiency: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Delivered energy as a share of the energy drawn from the store."""
    initial_share: Share = 0.5
    """State of charge at the start, share of the capacity."""


class PowerSection(Section):
    """The power budget at the site boundary."""

    supply: Annotated[tuple[SupplySection, ...], Field(min_length=1, strict=False)]
    """Supplies; their watts add up."""
    limits: Annotated[tuple[SupplySection, ...], Field(strict=False)] = ()
    """Sources that cap the site budget, such as a grid connection; the lowest applies. One that is
    stale or missing counts as `fallback_w`."""
    battery: BatterySection | None = None
    """A battery between supply and site; none if absent."""
    reserve_w: NonNegative = 0.0
    """Part of the supply that is never used, W."""
    start: Moment | None = None
    """Trace time at which the run begins, ISO 8601. If absent: the start of the trace. Without an
    offset it is in the time zone of the trace. Weather stations ignore year and zone and use their
    local standard time."""
    speedup: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Seconds of trace per second of run; with a battery, at most an hour of trace per tick."""
    stale_s: Positive = 60.0
    """Age at which a live signal counts as stale, s of run time."""
    fallback_w: NonNegative = 0.0
    """Budget while a signal is stale or missing, W."""


class NodeMeterSection(Section):
    """What a node draws, from a Prometheus server that collects its BMC, PDU or DCMI exporter."""

    url: str
    """Address of the server, such as `http://prometheus:9090`."""
    query: str
    """PromQL that gives the watts of one node as one value. `{node}` stands for the host name of
    the node, `{address}` for the address by which Ray knows it."""
    measures: Literal["node", "rest"] = "node"
    """What the value encloses: the whole `node`, from which the draw of its GPUs is deducted, or
    its `rest` beside the GPUs."""
    period_s: Positive = 10.0
    """Time between two queries, s."""
    delay_s: NonNegative = 10.0
    """Mean age of what a value shows, s: the time that sensor, exporter and scrape take."""
    error: Share = 0.05
    """Error of a value, share of it. What the meter may read too low is not given to the GPUs."""
    stale_s: Positive = 60.0
    """A node whose last value is older counts with `node_rest_w`, s."""


class SiteSection(Section):
    """Power beside the GPUs: site watts = (GPU watts + rest of the nodes) x pue + overhead_w."""

    boundary: Literal["gpu", "node", "site"] = "gpu"
    """What the joules of requests and of the run enclose: the `gpu` boards; the `node`, with CPU,
    memory, fans and power supplies; or the `site`. The budget holds at the site in any case."""
    node_rest_w: NonNegative = 0.0
    """Draw of a node beside its GPUs, W: a stated figure, so joules with it are `estimated`. With
    `node_meter` it counts while the meter is stale; with `rapl` it is what CPU and memory leave."""
    rapl: bool = False
    """Measure CPU and memory of every node with RAPL, beside `node_rest_w`."""
    node_meter: NodeMeterSection | None = None
    """A meter of the nodes; none if absent."""
    pue: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Power usage effectiveness: site watts per node watt."""
    overhead_w: NonNegative = 0.0
    """Constant draw of the site beside the nodes, W."""

    @model_validator(mode="after")
    def _has_a_figure(self) -> Self:
        if self.node_meter is not None and not self.node_rest_w:
            raise ValueError("node_rest_w: asked for the draw while node_meter is stale, found 0")
        if self.node_meter is not None and self.rapl:
            raise ValueError("rapl: asked for it beside node_meter, which encloses CPU and memory")
        if self.boundary == "node" and not (self.node_rest_w or self.rapl):
            raise ValueError("node_rest_w: asked for the boundary node, found 0 W beside the GPUs")
        return self
