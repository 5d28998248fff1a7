"""What is known about a tenant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from steppe.config.sites import GENERAL
from steppe.config.tenants import SITE_TENANT, TenantSection, TenantsSection
from steppe.control.admission import PRIORITIES
from steppe.tenants.key import StoredKey


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """How much a tenant may ask for; None does not limit.

    Attributes:
        requests_per_minute: Requests in any minute.
        tokens_per_minute: Prompt and output tokens in any minute.
        concurrency: Requests that are open at the same time.
        joules_per_hour: Energy in any hour, J.
        joules_per_day: Energy in any 24 hours, J.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    joules_per_hour: float | None = None
    joules_per_day: float | None = None


NO_LIMITS = TenantLimits()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks.

    Attributes:
        name: Its name.
        limits: How much it may ask for.
        models: The models that it may ask for; None for all.
        priority: The highest priority class that it may ask for, one of `PRIORITIES`.
        weight: Its share among the tenants of a class while requests wait, relative to theirs.
        is_admin: Whether it may read `/metrics` and use the admin calls.
        regions: Regions that its requests may go to; None for that of this site alone.
        data_class: Class of its data.
    """

    name: str
    limits: TenantLimits = NO_LIMITS
    models: tuple[str, ...] | None = None
    priority: str = PRIORITIES[0]
    weight: float = 1.0
    is_admin: bool = False
    regions: tuple[str, ...] | None = None
    data_class: str = GENERAL

    def may_ask_for(self, model: str) -> bool:
        """Return whether it may ask for a model."""
        return self.models is None or model in self.models

    def may_have(self, priority: str) -> bool:
        """Return whether it may ask for a priority class."""
        return PRIORITIES.index(priority) >= PRIORITIES.index(self.priority)

    @property
    def usual_priority(self) -> str:
        """The class of its requests that ask for none: `standard`, or lower if it has to be."""
        return max("standard", self.priority, key=PRIORITIES.index)


@dataclass(frozen=True, slots=True)
class KnownTenants:
    """Tenants and their keys, from one source.

    Attributes:
        tenants: The tenants, each name once.
        keys: Their keys, each prefix once.
    """

    tenants: tuple[Tenant, ...] = ()
    keys: tuple[StoredKey, ...] = field(default=(), repr=False)


NO_TENANTS = KnownTenants()


def tenants_from_config(section: TenantsSection) -> KnownTenants:
    """Return the tenants of a configuration file."""
    return KnownTenants(
        tuple(_tenant(each) for each in section.list),
        tuple(
            StoredKey(each.name, key.prefix, key.sha256, expires_epoch_s=key.expires_epoch_s)
            for each in section.list
            for key in each.keys
        ),
    )


def site_tenants(sites: Iterable[str]) -> KnownTenants:
    """Return the tenants that stand for other sites, by their names: they have no keys."""
    return KnownTenants(tuple(Tenant(f"{SITE_TENANT}{site}") for site in sites))


def _tenant(section: TenantSection) -> Tenant:
    limits = TenantLimits(
        section.requests_per_minute,
        section.tokens_per_minute,
        section.concurrency,
        section.joules_per_hour,
        section.joules_per_day,
    )
    return Tenant(
        section.name,
        limits,
        section.models,
        section.priority,
        section.weight,
        section.admin,
        section.regions,
        section.data_class,
    )
