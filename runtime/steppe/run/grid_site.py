"""The site of the plan of the markets, for a configuration whose fleet can be modelled."""

from __future__ import annotations

from pathlib import Path

from steppe.config import RunConfig
from steppe.config.grid_plan import PriceFileSection
from steppe.errors import ConfigError
from steppe.grid.plan.market_site import Fleet, MarketSite, market_site_of, plan_section
from steppe.run.check_supply import with_held_signals, with_modelled_rating
from steppe.run.simulated_fleet import frontier_for, simulated_fleet
from steppe.run.simulated_load import mean_of_load, with_lengths_of_load


def with_prices_of(config: RunConfig, path: Path) -> RunConfig:
    """Return the configuration with another file of prices, read as the one that it names.

    Raises:
        ConfigError: It has no plan.
    """
    section = plan_section(config)
    file = section.prices or PriceFileSection(path=path)
    chosen = section.model_copy(
        update={"prices": file.model_copy(update={"path": path}), "openadr_prices": False}
    )
    assert config.grid is not None, "there is a plan"
    grid = config.grid.model_copy(update={"plan": chosen})
    return config.model_copy(update={"grid": grid})


def market_site(config: RunConfig, begins_s: float) -> MarketSite:
    """Return the site of a configuration whose GPUs are modelled or emulated.

    Args:
        config: The configuration.
        begins_s: Calendar time at which its supplies begin, s since the Unix epoch.

    Raises:
        ConfigError: It has several models, or its GPUs are real and there is no frontier file.
        UsageError: A forecast cannot be read.
    """
    if len(config.models) > 1:
        found = f"{len(config.models)} models"
        raise ConfigError(f"grid.plan: asked for a run of one model, found {found}")
    given = with_lengths_of_load(next(iter(config.pools.values())))
    given = given.model_copy(update={"power": with_held_signals(given.power)})
    fleet = simulated_fleet(given)
    settings = with_modelled_rating(given, fleet.replicas)
    frontier = frontier_for(settings, fleet.kind)
    tokens = mean_of_load(given).output_tokens
    return market_site_of(settings, Fleet(frontier, fleet.replicas, tokens), begins_s)
