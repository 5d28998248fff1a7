"""`steppe simulate`: the same control loop over a fleet in virtual time."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from steppe.config import ModelledSection, RunConfig, load_config
from steppe.options import ABOVE_ZERO, GivenPath
from steppe.report.closing import summary_panel
from steppe.report.quantities import span
from steppe.report.record_folder import summary_text
from steppe.run.output_folders import NewFolder
from steppe.run.simulation import prepare, record_simulation, with_options
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
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def simulate_command(config: Path, record: Path, duration: float | None, as_json: bool) -> None:
    """Simulate the fleet of CONFIG; every joule of it is modelled.

    A signal supply is read once, at the start, and holds for the whole run. Ctrl-C leaves no
    record.
    """
    console = Console(stderr=as_json)
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
