"""Other sites that serve the same models: where they are, and what is sent to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import Count, FilePath, NonNegative, Positive, Section

GENERAL = "general"
"""The class of data that is under no special rule."""
HOURS = 24


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError("asked for a DNS label: a-z, 0-9 and -")
    return text


def label(text: str) -> str:
    """Return the name of a region or of a class of data.

    Raises:
        ValueError: It has other characters, or too many.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("asked for at most 64 of A-Z a-z 0-9 ._-")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"https://[^/?#@]+:[0-9]{1,5}", text):
        raise ValueError("asked for https://HOST:PORT")
    return text


SiteName = Annotated[str, AfterValidator(_name)]
"""Name of a site, as its certificate has it."""
Region = Annotated[str, AfterValidator(label)]
"""A region in law, such as `cn`: tenants name those that their requests may go to."""
DataClass = Annotated[str, AfterValidator(label)]
"""A class of data, such as `personal`: sites name those that they may process."""


class PeerSection(Section):
    """Another site."""

    name: SiteName
    """Its name, as its certificate has it."""
    url: Annotated[str, AfterValidator(_address)]
    """Where it listens for sites."""
    region: Region
    """Where it lies in law. A beat that names another region is refused."""
    token_keys: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Public keys of the tokens of its tenants; two while it changes its key."""
    rtt_s: NonNegative = 0.05
    """Round trip to it until it is measured, s."""


class SitesPlanSection(Section):
    """The plan of what goes to which site."""

    period_s: Positive = 300.0
    """Time between two plans, s."""
    step_s: Positive = 900.0
    """Length of a step of the forecast, s."""
    lease_s: Annotated[float, Field(ge=10, le=60)] = 60.0
    """For how long a quota holds if it is not renewed, s."""
    demand_s: Positive = 60.0
    """What was asked for in this time is taken to go on, s."""


class SitesSection(Section):
    """One endpoint over several sites. Without this section all requests stay here.

    `steppe sites init` writes the certificates, the keys and most of this section.
    """

    name: SiteName
    """Name of this site, as its certificate has it."""
    region: Region
    """Where it lies in law."""
    data_classes: Annotated[tuple[DataClass, ...], Field(strict=False, min_length=1)] = (GENERAL,)
    """Classes of data that it may process."""
    host: str = "127.0.0.1"
    """Address that it listens on for other sites."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """Port that it listens on for other sites; 0 takes a free one."""
    certificate: FilePath
    """Its certificate, PEM; relative to this file. A renewed file is loaded without a restart."""
    key: FilePath
    """The private key of the certificate, PEM; may be the same file."""
    authority: FilePath
    """Certificates of the authorities of all sites, PEM."""
    token_key: FilePath
    """The key that signs tokens of its tenants."""
    folder: FilePath | None = None
    """Folder of what was sent and settled; relative to this file. It is made if it is missing. If
    absent: `sites` in the folder of the record."""
    peers: Annotated[tuple[PeerSection, ...], Field(strict=False, min_length=1)]
    """The other sites."""
    period_s: Positive = 1.0
    """Time between two heartbeats, s."""
    max_wait_s: Positive = 1.0
    """Longest wait of a request of another site for a slot here, s; then it is refused, and its own
    site serves it or asks another one."""
    most_j: Positive = 100_000.0
    """Most energy that this site pays another one for a request, J."""
    price_per_kwh: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (0.1,)
    """Price of energy from the grid here: one, or one for each hour of a day (UTC), `currency` per
    kilowatt-hour."""
    gco2_per_kwh: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (500.0,)
    """Carbon of energy from the grid here: one, or one for each hour of a day (UTC), grams of CO2
    per kilowatt-hour."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "EUR"
    """Currency of the prices, ISO 4217; the same for all sites."""
    plan: SitesPlanSection = SitesPlanSection()
    """How often quotas between the sites are planned, and for how long they hold."""
    settle_s: Count = 3600
    """Length of the periods that are settled with other sites, s; the same for all sites."""

    @model_validator(mode="after")
    def _peers_are_others(self) -> SitesSection:
        names = [self.name, *(peer.name for peer in self.peers)]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"peers: asked for each site once, found {double} twice")
        return self

    @model_validator(mode="after")
    def _one_or_each_hour(self) -> SitesSection:
        for name in ("price_per_kwh", "gco2_per_kwh"):
            count = len(getattr(self, name))
            if count not in (1, HOURS):
                raise ValueError(f"{name}: asked for 1 or {HOURS} numbers, found {count}")
        return self

    def resolved(self, folder: Path) -> SitesSection:
        """Return the section with its paths relative to a folder."""
        names = ("certificate", "key", "authority", "token_key", "folder")
        paths = {name: getattr(self, name) for name in names}
        found = {name: folder / path for name, path in paths.items() if path is not None}
        return self.model_copy(update=found)
