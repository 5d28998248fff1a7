"""What a folder such as `configs/east_west` says of the sites beside their own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from steppe.config import RunConfig, SitesPlanSection, load_config
from steppe.config.error_message import first_error
from steppe.config.section import Count, NonNegative, Positive, Section
from steppe.config.sites import Region, SiteName
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError

SITES_FILE = "sites.yaml"


class PlaceSection(Section):
    """One site."""

    region: Region
    """Where it lies in law."""
    customers: Positive
    """Share of the requests that are asked here; any scale."""
    price_per_kwh: NonNegative
    """Price of energy from the grid there, `currency` per kilowatt-hour."""
    gco2_per_kwh: NonNegative
    """Carbon of energy from the grid there, grams of CO2 per kilowatt-hour."""


class CustomersSection(Section):
    """What the customers of all sites ask for."""

    rate_rps: Positive
    """Mean rate of all together, requests/s."""
    length_scale: Positive = 0.125
    """Factor on the prompt and output lengths of the conversation trace."""
    seed: int = Field(default=0, ge=0)
    """Seed of times, lengths, sites and prompts."""


class EastWestSection(Section):
    """The sites, and what lies between them. Each has a file `NAME.yaml` in the same folder."""

    sites: dict[SiteName, PlaceSection] = Field(min_length=2)
    """The sites by their names."""
    rtt_s: dict[str, NonNegative]
    """Round trip of each pair, `A-B` in the order of `sites`, s."""
    currency: str = Field(default="EUR", pattern="^[A-Z]{3}$")
    """Currency of the prices, ISO 4217."""
    settle_s: Count = 30
    """Length of the periods that the sites settle, s."""
    plan: SitesPlanSection = SitesPlanSection()
    """How often quotas are planned, and for how long they hold."""
    load: CustomersSection
    """What the customers ask for."""

    @model_validator(mode="after")
    def _each_pair_once(self) -> EastWestSection:
        names = list(self.sites)
        asked = {f"{a}-{b}" for at, a in enumerate(names) for b in names[at + 1 :]}
        if asked != set(self.rtt_s):
            known = ", ".join(sorted(self.rtt_s)) or "none"
            raise ValueError(f"rtt_s: asked for {', '.join(sorted(asked))}, found {known}")
        return self

    def rtt_between(self, site: str, other: str) -> float:
        """Return the round trip between two sites, s."""
        return self.rtt_s.get(f"{site}-{other}", self.rtt_s.get(f"{other}-{site}", 0.0))


def read_east_west(folder: Path) -> tuple[EastWestSection, Mapping[str, RunConfig]]:
    """Return what a folder says of its sites, and the configuration of each.

    Raises:
        ConfigError: A file is missing or malformed, a site has sources that do not fit the demo, or
            the sites do not all serve one model.
    """
    path = folder / SITES_FILE
    try:
        section = EastWestSection.model_validate(read_mapping(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, EastWestSection)}") from error
    configs = {name: load_config(folder / f"{name}.yaml") for name in section.sites}
    models = {config.model.client_name for config in configs.values()}
    if len(models) != 1:
        raise ConfigError(f"{folder}: asked for one model at all sites, found {sorted(models)}")
    for name, config in configs.items():
        if config.ledger is None:
            raise ConfigError(f"{folder / name}.yaml: ledger: asked for one at each site")
        if config.sites is not None or config.tenants.list:
            raise ConfigError(f"{folder / name}.yaml: sites, tenants: the demo writes them")
    return section, configs
