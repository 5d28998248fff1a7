"""Where the flexibility of a live fleet comes from now."""

from __future__ import annotations

from steppe.config import RunConfig
from steppe.control.state import Observation
from steppe.fleet.controller.live_pools import LivePools
from steppe.grid.offers.of_fleet import FleetNow, PoolNow, sources_of
from steppe.grid.offers.sources import Source


def sources_now(
    config: RunConfig, pools: LivePools, observation: Observation
) -> tuple[Source, ...]:
    """Return what the fleet can give the grid.

    Args:
        config: The run.
        pools: Its pools.
        observation: The fleet now.
    """
    parts = observation.pools or dict.fromkeys(pools.frontiers, observation)
    found = tuple(
        PoolNow(frontier, parts[name], pools.models[name], pools.ladder(name))
        for name, frontier in pools.frontiers.items()
        if name in parts
    )
    return sources_of(
        FleetNow(
            pools=found,
            jobs=observation.batch,
            gpu_budget_w=observation.gpu_budget_w,
            pue=config.site.pue,
            period_s=config.control.period_s,
            patience_s=config.gateway.max_wait_s,
        )
    )
