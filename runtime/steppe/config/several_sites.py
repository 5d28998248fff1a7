"""Several sites in one simulation: one YAML file for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from steppe.config import RunConfig, load_config, parse_config
from steppe.config.error_message import first_error
from steppe.config.section import FilePath, NonNegative, Positive, Section, Share
from steppe.config.sites import (
    GENERAL,
    HOURS,
    DataClass,
    Region,
    SiteName,
    SitesPlanSection,
)
from steppe.config.tenants import TenantName
from steppe.config.yaml_file import has_list_of_sites, read_mapping
from steppe.errors import ConfigError

RoutingName = Literal["local", "nearest", "round_robin", "least_queue", "greenest", "steppe"]


class SimulatedSiteSection(Section):
    """One site of a simulation of several."""

    name: SiteName
    """Its name."""
    region: Region
    """Where it lies in law: what the `regions` of tenants name."""
    data_classes: Annotated[tuple[DataClass, ...], Field(strict=False, min_length=1)] = (GENERAL,)
    """Classes of data that it may process."""
    config: FilePath | None = None
    """A run configuration of its own in the place of `each`; relative to this file."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Keys of a run configuration that differ from `each`, or from `config`: mappings are merged,
    other values are replaced."""
    load_shift_h: Annotated[float, Field(ge=-24, le=24)] = 0.0
    """How much later than `load.daily_peak_hour` its clients are busiest, h."""
    price_per_kwh: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (0.1,)
    """Price of energy from the grid here: one, or one for each hour of a day, `currency` per
    kilowatt-hour. Hours are those of `power.start`."""
    gco2_per_kwh: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (500.0,)
    """Carbon of energy from the grid here: one, or one for each hour of a day, grams of CO2 per
    kilowatt-hour."""

    @model_validator(mode="after")
    def _one_or_each_hour(self) -> SimulatedSiteSection:
        for name in ("price_per_kwh", "gco2_per_kwh"):
            count = len(getattr(self, name))
            if count not in (1, HOURS):
                raise ValueError(f"{name}: asked for 1 or {HOURS} numbers, found {count}")
        return self


class RoundTripSection(Section):
    """The round trip between two sites."""

    between: Annotated[tuple[SiteName, SiteName], Field(strict=False)]
    """Names of the two."""
    rtt_s: NonNegative
    """Round trip, s."""


class SimulatedTenantSection(Section):
    """A tenant of all sites of a simulation."""

    name: TenantName
    """Its name."""
    share: Share
    """Its share of the requests of each site."""
    regions: Annotated[tuple[Region, ...] | None, Field(strict=False, min_length=1)] = None
    """Regions that its requests may go to; only that of the site to which they come if absent."""
    data_class: DataClass = GENERAL
    """Class of its data."""


class _Fault(Section):
    from_s: NonNegative
    """When it begins, s since the run began."""
    to_s: Positive
    """When it ends, s."""


class SiteDownFault(_Fault):
    """A site is gone: its gateway, its engines and its beats."""

    kind: Literal["site_down"]
    """Selects a site that is down."""
    site: SiteName
    """The site."""


class WanCutFault(_Fault):
    """Nothing passes between two sites."""

    kind: Literal["wan_cut"]
    """Selects a cut."""
    between: Annotated[tuple[SiteName, SiteName], Field(strict=False)]
    """The two sites."""


class OneWayFault(_Fault):
    """Nothing passes from a site to another one, only back."""

    kind: Literal["one_way"]
    """Selects a loss on one way."""
    origin: SiteName
    """From where nothing passes."""
    target: SiteName
    """To where."""


class FlappingFault(_Fault):
    """The beats of a site come and go."""

    kind: Literal["flapping_beats"]
    """Selects beats that come and go."""
    site: SiteName
    """The site."""
    half_s: Positive = 4.0
    """How long they are lost, and how long they then come, s."""


class StaleFault(_Fault):
    """A site goes on showing what it was when this began."""

    kind: Literal["stale_beats"]
    """Selects beats that do not change."""
    site: SiteName
    """The site."""


class FalseSurplusFault(_Fault):
    """A site shows a surplus that it does not have."""

    kind: Literal["false_surplus"]
    """Selects a false surplus."""
    site: SiteName
    """The site."""
    surplus_w: Positive
    """How much it adds, W."""


FaultSection = Annotated[
    SiteDownFault | WanCutFault | OneWayFault | FlappingFault | StaleFault | FalseSurplusFault,
    Field(discriminator="kind"),
]


class SeveralSitesConfig(Section):
    """Several sites in one simulation (`steppe simulate`)."""

    each: dict[str, Any] = Field(default_factory=dict)
    """A run configuration that all sites share."""
    sites: Annotated[tuple[SimulatedSiteSection, ...], Field(strict=False, min_length=2)]
    """The sites."""
    rtt: Annotated[tuple[RoundTripSection, ...], Field(strict=False)]
    """Round trips between them. Two sites without one send each other nothing."""
    tenants: Annotated[tuple[SimulatedTenantSection, ...], Field(strict=False)] = ()
    """Tenants. Requests of all others may go to any of the sites."""
    routing: RoutingName = "steppe"
    """How the site of a request is chosen. `local`: always its own. `nearest`: the nearest one with
    room. `round_robin`: all in turn. `least_queue`: where the fewest requests wait. `greenest`:
    where the last beat showed the most surplus. `steppe`: the decision of live gateways."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "EUR"
    """Currency of the prices, ISO 4217."""
    period_s: Positive = 1.0
    """Time between two heartbeats, s."""
    max_wait_s: Positive = 1.0
    """Longest wait of a request of another site for a place in a batch, s."""
    plan: SitesPlanSection = SitesPlanSection()
    """How often quotas between the sites are planned, and for how long they hold."""
    faults: Annotated[tuple[FaultSection, ...], Field(strict=False)] = ()
    """What fails."""

    @model_validator(mode="after")
    def _names_are_known(self) -> SeveralSitesConfig:
        names = [site.name for site in self.sites]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"sites: asked for each site once, found {double} twice")
        found = {name for trip in self.rtt for name in trip.between}
        for fault in self.faults:
            values = fault.model_dump()
            found |= {values[key] for key in ("site", "origin", "target") if key in values}
            found |= set(values.get("between", ()))
        if unknown := sorted(found - set(names)):
            raise ValueError(f"asked for sites of {', '.join(names)}, found {unknown[0]}")
        if sum(tenant.share for tenant in self.tenants) > 1.0 + 1e-9:
            raise ValueError("tenants: asked for shares of at most 1 together")
        return self


def has_several_sites(path: Path) -> bool:
    """Return whether a file is of several sites.

    Raises:
        ConfigError: It cannot be read.
    """
    return has_list_of_sites(read_mapping(path))


def load_several_sites(path: Path) -> tuple[SeveralSitesConfig, dict[str, RunConfig]]:
    """Read a file of several sites; return it, and the run configuration of each site.

    Raises:
        ConfigError: The file, or the configuration of a site, is malformed. The message is one line
            and names the key.
    """
    values = read_mapping(path)
    if not has_list_of_sites(values):
        raise ConfigError(f"{path}: asked for a list of sites, found one run configuration")
    try:
        config = SeveralSitesConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, SeveralSitesConfig)}") from error
    return config, {site.name: _run_of(config, site, path) for site in config.sites}


def _run_of(config: SeveralSitesConfig, site: SimulatedSiteSection, path: Path) -> RunConfig:
    source = f"{path}: site {site.name}"
    if site.config is not None:
        own = path.parent / site.config
        load_config(own)  # its own errors name its file
        base, folder = read_mapping(own), own.parent
    else:
        base, folder = config.each, path.parent
    return parse_config(merged(base, site.run), source, folder)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with other values over it: mappings are merged, the rest is replaced."""
    found = dict(base)
    for key, value in over.items():
        below = found.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        found[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return found
