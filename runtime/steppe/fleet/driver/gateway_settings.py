"""How the gateway of a run is set up."""

from __future__ import annotations

from dataclasses import replace

from steppe.config import RunConfig
from steppe.engine.run_secret import HEADER as RUN_SECRET
from steppe.engine.vllm_adapters import adapters
from steppe.errors import UsageError
from steppe.fleet.driver.access import access_settings, admin_key
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.replica_caches import AffinitySettings
from steppe.gateway.server import (
    AccessLogSettings,
    GatewayAlias,
    GatewayModel,
    GatewaySettings,
    HttpLimits,
    UploadLimits,
)

ENERGY_WAIT_PERIODS, ENERGY_WAIT_S = 1.5, 1.0
"""Longest wait of an answer for its energy, control periods and s more: the window of its last step
closes within a period, and the driver reads it within half a second."""


def gateway_settings(
    config: RunConfig, replica_headers: tuple[tuple[str, str], ...] = ()
) -> GatewaySettings:
    """Return the settings of a run's gateway.

    Args:
        config: The run.
        replica_headers: Headers that every request to a replica needs.

    Raises:
        UsageError: The admin key cannot be read, or two models or adapters have the same name.
    """
    _refuse_same_names(config)
    gateway, control, batch, ledger = config.gateway, config.control, config.batch, config.ledger
    secret = dict(replica_headers).get(RUN_SECRET, "")
    return GatewaySettings(
        host=gateway.host,
        port=gateway.port,
        max_waiting=gateway.max_waiting,
        max_wait_s=gateway.max_wait_s,
        keep_alive_s=gateway.keep_alive_s,
        hold_s=gateway.hold_s,
        stop_timeout_s=gateway.drain_s,
        max_body_bytes=gateway.http.body_bytes,
        http=HttpLimits(**gateway.http.model_dump(exclude={"body_bytes"})),
        class_shares=gateway.class_shares.in_order,
        affinity=AffinitySettings(
            gateway.prefix_load_bound, gateway.prefix_index_blocks, gateway.prefix_wait_share
        )
        if gateway.prefix_affinity
        else None,
        models=tuple(
            GatewayModel(name, pool.slo.ttft_s, pool.slo.tpot_s, tuple(adapters(pool.engine.args)))
            for name, pool in config.pools.items()
        ),
        aliases=tuple(GatewayAlias(name, variants) for name, variants in config.aliases.items()),
        stale_s=control.longest_unrenewed_s,
        energy_wait_s=ENERGY_WAIT_PERIODS * control.period_s + ENERGY_WAIT_S,
        access=replace(access_settings(config), run_secret=secret),
        config=config,
        admin_key=admin_key(gateway),
        tls_certificate=gateway.tls_certificate,
        tls_key=gateway.tls_key,
        replica_headers=replica_headers,
        access_log=AccessLogSettings(gateway.access_log, gateway.access_log_file),
        traces=gateway.traces,
        trace_share=gateway.trace_share,
        page=gateway.page,
        page_history_s=gateway.page_history_s,
        uploads=None
        if batch is None
        else UploadLimits(batch.file_bytes, batch.uploads, batch.upload_idle_s),
        ledger=None if ledger is None else LedgerLink(asks=bool(ledger.tariffs)),
        sites=config.sites,
    )


def _refuse_same_names(config: RunConfig) -> None:
    """Raise UsageError if a request could be for two models."""
    owner: dict[str, str] = {}
    for model, pool in config.pools.items():
        for name in (model, *adapters(pool.engine.args)):
            if name in owner:
                found = f"found it in those of {owner[name]} and of {model}"
                raise UsageError(f"engine.args.lora_modules: asked for {name} once, {found}")
            if name in config.aliases:
                raise UsageError(
                    f"aliases: asked for {name}, found it among engine.args.lora_modules of {model}"
                )
            owner[name] = model
