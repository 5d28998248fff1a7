"""Who may ask the gateway of a run, and what the books tell it about tenants."""

from __future__ import annotations

from steppe.config import RunConfig
from steppe.gateway.server import AccessSettings, SettledRequest
from steppe.report.records import RequestRecord
from steppe.tenants.limiter import Taken
from steppe.tenants.tenant import tenants_from_config


def access_settings(config: RunConfig) -> AccessSettings:
    """Return who may ask the gateway of a run."""
    return AccessSettings(
        tenants=tenants_from_config(config.tenants),
        store=config.tenants.store,
        refresh_s=config.tenants.refresh_s,
        trusted_proxies=config.gateway.trusted_proxies,
        open_metrics=config.gateway.open_metrics,
    )


def settled(record: RequestRecord) -> SettledRequest:
    """Return what a closed record says about its request."""
    taken = Taken(record.prompt_tokens, record.output_tokens, record.energy_j)
    return SettledRequest(record.id, record.tenant, taken)
