"""Who may ask the gateway of a run, and what the books have of tenants."""

from __future__ import annotations

from dataclasses import replace

from steppe.config import GatewaySection, RunConfig
from steppe.errors import UsageError
from steppe.gateway.server import AccessSettings, SettledRequest
from steppe.report.records import RequestRecord
from steppe.tenants.limiter import Taken
from steppe.tenants.tenant import site_tenants, tenants_from_config

LEAST_KEY = 16
"""Fewest characters of an admin key."""


def access_settings(config: RunConfig) -> AccessSettings:
    """Return who may ask the gateway of a run."""
    tenants = tenants_from_config(config.tenants)
    if config.sites is not None:
        sites = site_tenants(peer.name for peer in config.sites.peers)
        tenants = replace(tenants, tenants=sites.tenants + tenants.tenants)
    return AccessSettings(
        tenants=tenants,
        store=config.tenants.store,
        refresh_s=config.tenants.refresh_s,
        trusted_proxies=config.gateway.trusted_proxies,
        open_metrics=config.gateway.open_metrics,
    )


def admin_key(gateway: GatewaySection) -> str:
    """Return the key of `gateway.admin_key_file`; empty without one.

    Raises:
        UsageError: The file cannot be read, or its key is too short.
    """
    path = gateway.admin_key_file
    if path is None:
        return ""
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"gateway.admin_key_file: {path} cannot be read: {error}") from error
    if len(key) < LEAST_KEY:
        asked = f"asked for a key of at least {LEAST_KEY} characters in {path}"
        raise UsageError(f"gateway.admin_key_file: {asked}, found {len(key)}")
    return key


def settled(record: RequestRecord) -> SettledRequest:
    """Return what a closed record says about its request."""
    taken = Taken(record.prompt_tokens, record.output_tokens, record.energy_j)
    return SettledRequest(record.id, record.tenant, taken)
