"""`steppe config`: check, copy and describe run configurations."""

from __future__ import annotations

import json
from pathlib import Path

import click

from steppe.config import RunConfig, load_config, shipped_config, shipped_runs
from steppe.errors import UsageError
from steppe.options import GivenPath, json_option
from steppe.outputs import write_whole
from steppe.run.check_inputs import check_config
from steppe.run.check_supply import warn_of_early_end
from steppe.run.warnings import warn_on_stderr


@click.group("config", epilog="Example: steppe config validate configs/demo.yaml")
def config_group() -> None:
    """Check, copy and describe run configurations."""


@config_group.command("validate", epilog="Example: steppe config validate configs/demo.yaml")
@click.argument("file", type=GivenPath(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every setting as one JSON document.")
def validate_command(file: Path, as_json: bool) -> None:
    """Check FILE and the files it names; exit code 2 and one line if something is wrong."""
    config = load_config(file)
    warn_of_early_end(config.power, check_config(config), config.sim.duration_s, warn_on_stderr)
    click.echo(config.model_dump_json() if as_json else f"{file}: ok")


@config_group.command("schema", epilog="Example: steppe config schema > steppe.schema.json")
def schema_command() -> None:
    """Print the JSON Schema of a run configuration, for editors.

    With the schema in a file, begin a configuration with the line
    `# yaml-language-server: $schema=steppe.schema.json` to get completion and checks.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    click.echo(json.dumps(schema | RunConfig.model_json_schema(), indent=2))


@config_group.command("list", epilog="Example: steppe config list")
@json_option
def list_command(as_json: bool) -> None:
    """List the run configurations that ship with steppe."""
    if as_json:
        rows = [{"name": name, "path": str(path)} for name, path in shipped_runs().items()]
        click.echo(json.dumps({"configs": rows}))
        return
    for name, path in shipped_runs().items():
        click.echo(f"{name}  {path}")


@config_group.command("copy", epilog="Example: steppe config copy demo my-run.yaml")
@click.argument("name")
@click.argument("dest", type=GivenPath(path_type=Path), required=False)
@click.option("--force", is_flag=True, help="Overwrite DEST if it exists.")
def copy_command(name: str, dest: Path | None, force: bool) -> None:
    """Copy the shipped run configuration NAME to DEST (NAME.yaml by default), to edit it."""
    runs = shipped_runs()
    if name.removesuffix(".yaml") not in runs:
        raise UsageError(f"NAME: asked for {name!r}, found {', '.join(runs)}")
    source = shipped_config(f"{name.removesuffix('.yaml')}.yaml")
    target = Path(source.name) if dest is None else dest
    if target.is_dir():
        target = target / source.name
    if target.exists() and not force:
        raise UsageError(f"{target}: asked for a new file, found one that exists (see --force)")
    write_whole(target, [source.read_bytes()])
    click.echo(target)
