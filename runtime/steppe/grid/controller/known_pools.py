"""What a controller knows of its pools, and where flexibility comes from then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steppe.config import RunConfig
from steppe.control.sleep_ladder import SleepLadder
from steppe.control.state import Observation
from steppe.frontier.pareto import Frontier
from steppe.grid.offers.of_fleet import FleetNow, PoolNow, Worth, sources_of
from steppe.grid.offers.sources import Source


@dataclass(frozen=True, slots=True)
class KnownPool:
    """What does not change from tick to tick.

    Attributes:
        frontier: Operating points of one replica.
        model: The model that it serves, by the name that clients use.
        ladder: The depths of sleep; None if there is none below a pause.
    """

    frontier: Frontier
    model: str
    ladder: SleepLadder | None = None


def sources_now(
    config: RunConfig, pools: Mapping[str, KnownPool], observation: Observation
) -> tuple[Source, ...]:
    """Return what the fleet can give the grid.

    Args:
        config: The run.
        pools: Its pools, by name.
        observation: The fleet now.
    """
    parts = observation.pools or dict.fromkeys(pools, observation)
    found = tuple(
        PoolNow(pool.frontier, parts[name], pool.model, pool.ladder)
        for name, pool in pools.items()
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
            worth=Worth.of(None if config.grid is None else config.grid.offers),
        )
    )
