"""The frontier of a fleet that is up: from its file, or measured on its replicas."""

from __future__ import annotations

from rich.console import Console

from steppe.config import RunConfig
from steppe.fleet.driver.driver import FleetDriver
from steppe.frontier.pareto import Frontier
from steppe.run.check_slo import check_slo
from steppe.run.frontier_subject import configured_frontier
from steppe.run.quick_sweep import sweep_fleet
from steppe.run.warnings import warn_on_stderr


def find_frontier(driver: FleetDriver, config: RunConfig, console: Console) -> Frontier:
    """Read the frontier from its file, or measure it on the replicas.

    Raises:
        ConfigError: The file is of something else, or no point keeps the SLO of `save_energy`.
    """
    if config.frontier.file is not None:
        nodes = driver.actors.nodes.values()
        gpus = {gpu.name for node in nodes for gpu in node.info.gpus}
        frontier = configured_frontier(config, gpus)
    else:
        frontier = _measured(driver, config, console)
    check_slo(config, frontier, warn_on_stderr)
    return frontier


def _measured(driver: FleetDriver, config: RunConfig, console: Console) -> Frontier:
    assert config.frontier.sweep is not None, "the config has exactly one of the two"
    with console.status("measuring the frontier") as status:

        def show(done: int, total: int) -> None:
            status.update(f"measuring the frontier: {done} of {total} points")

        frontier, fit = sweep_fleet(driver.actors, config, config.frontier.sweep, show)
    console.print(
        "frontier measured on the replicas; median error of the fit: "
        f"time {fit.time_error:.1%}, draw {fit.draw_error:.1%}"
    )
    return frontier
