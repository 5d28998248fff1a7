"""Where the flexibility of a live fleet comes from now."""

from __future__ import annotations

from steppe.config import RunConfig
from steppe.control.state import Observation
from steppe.fleet.controller.live_pools import LivePools
from steppe.grid.controller import known_pools
from steppe.grid.controller.known_pools import KnownPool
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
    known = {
        name: KnownPool(frontier, pools.models[name], pools.ladder(name))
        for name, frontier in pools.frontiers.items()
    }
    return known_pools.sources_now(config, known, observation)
