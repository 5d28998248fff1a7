"""The frontier of a fleet that is up: from its file, or measured on its replicas."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from steppe.config import RunConfig, SweepSection
from steppe.fleet.driver.driver import FleetDriver
from steppe.frontier.fit import fit_frontier
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival
from steppe.load.client import Target
from steppe.measure.sweep.fleet_sweep import (
    Grid,
    Offer,
    frontier_of,
    measure_rest,
    powers_of_two,
    spread_clocks,
    sweep,
)
from steppe.measure.sweep.saturate import saturated
from steppe.run.check_slo import check_slo
from steppe.run.frontier_subject import configured_frontier
from steppe.run.live import served_name

QUEUE_BEYOND_BATCH = 4
DENSE_CLOCKS = 20
LENGTHS = 1000


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
    check_slo(config, frontier)
    return frontier


def _measured(driver: FleetDriver, config: RunConfig, console: Console) -> Frontier:
    assert config.frontier.sweep is not None, "the config has exactly one of the two"
    section, largest = config.frontier.sweep, config.engine.max_batch_limit
    replicas = list(driver.actors.placements)
    supported = driver.actors.clocks_mhz(replicas[0])
    lowest = section.lowest_clock_share
    grid = Grid(
        spread_clocks(supported, section.clocks, lowest),
        section.batch_limits or powers_of_two(largest),
        section.window_s,
    )
    with console.status("measuring the frontier") as status:

        def show(done: int, total: int) -> None:
            status.update(f"measuring the frontier: {done} of {total} windows")

        with saturated(_targets(driver, config), _lengths(section), largest + QUEUE_BEYOND_BATCH):
            fit = fit_frontier(sweep(driver.actors, replicas, grid, show))
    # Who sleeps has just served: a GPU that is warm leaks more than one that was just started.
    rest = measure_rest(driver.actors, replicas)
    console.print(
        f"frontier from {len(grid.points)} windows; median error of the fit: "
        f"time {fit.time_error:.1%}, draw {fit.draw_error:.1%}"
    )
    source = "emulated" if driver.actors.energy_source == "emulated" else "measured"
    offer = Offer(
        spread_clocks(supported, DENSE_CLOCKS, lowest),
        largest,
        section.prompt_tokens / section.output_tokens,
    )
    return frontier_of(fit, offer, rest, source)


def _targets(driver: FleetDriver, config: RunConfig) -> list[Target]:
    return [
        Target(driver.actors.replica_url(name), served_name(config))
        for name in driver.actors.placements
    ]


def _lengths(section: SweepSection) -> tuple[Arrival, ...]:
    """Return requests around the mean length; were they alike, they would run in lockstep."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(1, 2 * section.prompt_tokens, LENGTHS, endpoint=True)
    outputs = rng.integers(1, 2 * section.output_tokens, LENGTHS, endpoint=True)
    return tuple(Arrival(0.0, int(p), int(o)) for p, o in zip(prompts, outputs, strict=True))
