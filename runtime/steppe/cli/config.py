"""`steppe config`: check run configurations."""

from __future__ import annotations

from pathlib import Path

import click

from steppe.config import load_config
from steppe.options import GivenPath
from steppe.run.check_inputs import check_files, warn_of_early_end


@click.group("config", epilog="Example: steppe config validate configs/demo.yaml")
def config_group() -> None:
    """Check run configurations."""


@config_group.command("validate", epilog="Example: steppe config validate configs/demo.yaml")
@click.argument("file", type=GivenPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every setting as one JSON document.")
def validate_command(file: Path, as_json: bool) -> None:
    """Check FILE and the files it names; exit code 2 and one line when something is wrong."""
    config = load_config(file)
    warn_of_early_end(config.power, check_files(config), config.sim.duration_s)
    click.echo(config.model_dump_json() if as_json else f"{file}: ok")
