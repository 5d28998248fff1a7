"""Can the SLO be kept at all, once the operating points are known?"""

from __future__ import annotations

import click

from steppe.config import RunConfig
from steppe.control.policy import SLO_SHARE, at_slo
from steppe.errors import ConfigError, InfeasibleError
from steppe.frontier.pareto import Frontier


def check_slo(config: RunConfig, frontier: Frontier) -> None:
    """Say in one line on stderr when no operating point keeps the SLO.

    Args:
        config: The configuration.
        frontier: Operating points of one replica.

    Raises:
        ConfigError: None does, and `save_energy` uses no others.
    """
    saves = config.control.policy == "save_energy"
    try:
        at_slo(frontier, config.slo.tpot_s, SLO_SHARE if saves else 1.0)
    except InfeasibleError as error:
        line = f"slo.tpot_s: {error}"
        if saves:
            raise ConfigError(line) from error
        click.echo(f"steppe: warning: {line}; the policy goes without it", err=True)
