"""`steppe simulate`: the same control loop over a fleet in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from steppe.config import ModelledSection, RunConfig, load_config
from steppe.config.several_sites import RoutingName, has_several_sites
from steppe.errors import UsageError
from steppe.options import ABOVE_ZERO, GivenPath
from steppe.report.closing import summary_panel
from steppe.report.quantities import span
from steppe.report.record_folder import summary_text
from steppe.report.sites_table import sites_table
from steppe.run.output_folders import NewFolder
from steppe.run.several_sites import SitesSimulation, prepare_sites
from steppe.run.simulation import prepare, record_simulation, with_options
from steppe.run.sites_record import record_sites
from steppe.run.warnings import warn_on_stderr


@click.command(
    "simulate", epilog="Example: steppe simulate configs/windy_day.yaml --record runs/windy"
)
@click.argument("config", type=GivenPath(path_type=Path))
@click.option("--record", type=NewFolder(), required=True, help="New folder to record the run in.")
@click.option(
    "--duration",
    type=ABOVE_ZERO,
    help="Seconds to simulate; the config's sim.duration_s by default.",
)
@click.option(
    "--routing",
    type=click.Choice(get_args(RoutingName)),
    help="How several sites choose the site of a request; the config's routing by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def simulate_command(
    config: Path, record: Path, duration: float | None, routing: RoutingName | None, as_json: bool
) -> None:
    """Simulate the fleet of CONFIG, or several sites; every joule of it is modelled.

    A signal supply is read once, at the start, and holds for the whole run. Ctrl-C leaves no
    record.
    """
    console = Console(stderr=as_json)
    if has_several_sites(config):
        sites = prepare_sites(config, warn_on_stderr, duration_s=duration, routing=routing)
        _simulate_sites(sites, record, console, as_json=as_json)
        return
    if routing is not None:
        raise UsageError(f"--routing: asked for it with several sites, found one in {config}")
    simulation = prepare(with_options(load_config(config), duration), warn_on_stderr)
    replicas, whole = simulation.scenario.fleet.replicas, span(simulation.scenario.duration_s)
    console.print(
        f"simulating {replicas} replicas and {simulation.requests} requests; "
        f"energy modelled{_curve(simulation.config)}"
    )
    with console.status("simulating") as status:
        summary = record_simulation(
            simulation, record, lambda t_s: status.update(f"simulating: {span(t_s)} of {whole}")
        )
    if as_json:
        click.echo(summary_text(summary), nl=False)
    else:
        console.print(summary_panel(summary, record))


def _simulate_sites(
    sites: SitesSimulation, record: Path, console: Console, *, as_json: bool
) -> None:
    whole = span(sites.settings.duration_s)
    console.print(
        f"simulating {len(sites.sites)} sites and {sites.requests} requests; energy modelled"
    )
    with console.status("simulating") as status:
        summary = record_sites(
            sites, record, lambda t_s: status.update(f"simulating: {span(t_s)} of {whole}")
        )
    if as_json:
        click.echo(summary_text(summary), nl=False)
    else:
        console.print(sites_table(summary, record))


def _curve(config: RunConfig) -> str:
    """Return which clock curve a modelled run has, in words."""
    match config.device:
        case ModelledSection(clock_curve="nominal"):
            return " (clock curve as fitted)"
        case ModelledSection(clock_curve="low"):
            return " (clock curve one standard error lower)"
        case ModelledSection():
            return " (clock curve one standard error higher)"
        case _:
            return ""
