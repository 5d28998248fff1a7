"""The tenants of the gateway: their keys and their limits."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from steppe.config.section import Count, Positive, Section
from steppe.config.sites import GENERAL, DataClass, Region

SITE_TENANT = "site:"
"""Begin of the name of the tenant that stands for another site."""


def tenant_name(name: str) -> str:
    """Return the name of a tenant.

    Raises:
        ValueError: It has other characters, or too many.
    """
    if not re.fullmatch(r"[A-Za-z0-9._:@-]{1,128}", name):
        raise ValueError("asked for at most 128 of A-Z a-z 0-9 ._:@-")
    return name


def customer_name(name: str) -> str:
    """Return the name of a tenant that is no other site.

    Raises:
        ValueError: It has other characters, or too many, or is that of a site.
    """
    if name.startswith(SITE_TENANT):
        raise ValueError(f"asked for a name that does not begin with {SITE_TENANT}, as sites do")
    return tenant_name(name)


def _prefix(prefix: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{8}", prefix):
        raise ValueError("asked for the 8 digits 0-9 a-f after sk-steppe- of a key")
    return prefix


def _digest(digest: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("asked for a SHA-256 of 64 digits 0-9 a-f")
    return digest


def _time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("asked for a time such as 2027-01-31T00:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError("asked for a time with its zone, such as 2027-01-31T00:00:00Z")
    return text


TenantName = Annotated[str, AfterValidator(tenant_name)]
"""Name of a tenant, as in records, metrics and the header `x-steppe-tenant`."""
CustomerName = Annotated[str, AfterValidator(customer_name)]
"""Name of a tenant that is no other site."""


class KeySection(Section):
    """One API key; the file has its hash only. `steppe tenants add --yaml` writes it."""

    prefix: Annotated[str, AfterValidator(_prefix)]
    """The part after `sk-steppe-`, which is not secret."""
    sha256: Annotated[str, AfterValidator(_digest)]
    """SHA-256 of the whole key, in hexadecimal."""
    expires: Annotated[str, AfterValidator(_time)] | None = None
    """Time from which the key is refused, with its zone, in quotes; never if absent."""

    @property
    def expires_epoch_s(self) -> float | None:
        """The same, s since the Unix epoch; None for never."""
        return None if self.expires is None else datetime.fromisoformat(self.expires).timestamp()


class TenantSection(Section):
    """One tenant. Absent limits do not limit."""

    name: CustomerName
    """Its name in records, metrics and statements."""
    keys: Annotated[tuple[KeySection, ...], Field(strict=False)] = ()
    """Its API keys, by their hashes. None: only a trusted proxy can ask in its name."""
    requests_per_minute: Count | None = None
    """Most requests in any minute."""
    tokens_per_minute: Count | None = None
    """Most tokens, prompt and output together, in any minute. A request is charged an estimate when
    it is admitted, and what it really took when it ends."""
    concurrency: Count | None = None
    """Most requests that are open at the same time."""
    joules_per_hour: Positive | None = None
    """Most energy in any hour, J, within the boundary of the run's books."""
    joules_per_day: Positive | None = None
    """Most energy in any 24 hours, J."""
    models: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None
    """Names of the models that it may ask for; all if absent."""
    priority: Literal["interactive", "standard", "deferrable"] = "interactive"
    """The highest priority class that it may ask for (`x-steppe-priority`)."""
    weight: Positive = 1.0
    """Its share among the tenants of a class while requests wait, relative to theirs."""
    regions: Annotated[tuple[Region, ...] | None, Field(strict=False, min_length=1)] = None
    """Regions that its requests may go to, of `sites`; only that of this site if absent."""
    data_class: DataClass = GENERAL
    """Class of its data: its requests go to sites that may process it."""
    admin: bool = False
    """Whether its keys may read `/metrics` and use the admin calls."""


class TenantsSection(Section):
    """Who may ask the gateway, and how much. Without keys the gateway serves this host only."""

    store: str | None = None
    """Further tenants: an SQLite file (relative to this file), or a URL of SQLAlchemy such as
    `postgresql+psycopg://steppe@db/steppe` (extra `postgres`). `steppe tenants` writes it."""
    refresh_s: Positive = 5.0
    """Time between two readings of the store, s: new keys and limits count from then on."""
    list: Annotated[tuple[TenantSection, ...], Field(strict=False)] = ()
    """Tenants of this file. They come first: one of the same name in the store does not count."""

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request needs a key."""
        return self.store is not None or any(tenant.keys for tenant in self.list)

    @field_validator("list")
    @classmethod
    def _each_once(cls, tenants: tuple[TenantSection, ...]) -> tuple[TenantSection, ...]:
        names = [tenant.name for tenant in tenants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"asked for each name once, found {', '.join(twice)} twice")
        return tenants

    @model_validator(mode="after")
    def _prefixes_once(self) -> TenantsSection:
        prefixes = [key.prefix for tenant in self.list for key in tenant.keys]
        twice = sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1})
        if twice:
            raise ValueError(f"asked for each key once, found {', '.join(twice)} twice")
        return self
