"""Can the SLO be kept at all, once the operating points are known?"""

from __future__ import annotations

from steppe.config import RunConfig
from steppe.control.policy.goals import SLO_SHARE, at_slo
from steppe.errors import ConfigError, InfeasibleError
from steppe.frontier.pareto import Frontier
from steppe.run.warnings import Warn

KEEPS_SLO = ("follow_budget", "save_energy")
"""Policies that use only points that keep the SLO, if there are any."""


def check_slo(config: RunConfig, frontier: Frontier, warn: Warn) -> None:
    """Warn if no operating point keeps the SLO.

    Args:
        config: The configuration.
        frontier: Operating points of one replica.
        warn: Takes the warning.

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
        warn(f"{line}; the policy goes without it")


def warn_of_slow_fleet(
    config: RunConfig, frontier: Frontier, replicas: int, offered_tps: float, warn: Warn
) -> None:
    """Warn if the fleet cannot serve its load within its SLO.

    Args:
        config: The configuration.
        frontier: Operating points of one replica.
        replicas: Number of replicas.
        offered_tps: Output tokens/s that the load asks for on average.
        warn: Takes the warning.
    """
    policy, tpot_s = config.control.policy, config.slo.tpot_s
    share = SLO_SHARE if policy == "save_energy" else 1.0
    if policy not in KEEPS_SLO:
        return
    try:
        kept_tps = at_slo(frontier, tpot_s, share).full.output_tps
    except InfeasibleError:
        return
    if kept_tps < frontier.full.output_tps and offered_tps > replicas * kept_tps:
        of_slo = "" if share == 1 else f"{share:.3g} of "
        warn(
            f"slo.tpot_s: the load asks for {offered_tps:.4g} output tokens/s on average, all "
            f"{replicas} replicas give {replicas * kept_tps:.4g} at the fastest point that keeps "
            f"{of_slo}the SLO of {tpot_s:.3g} s per output token"
        )
