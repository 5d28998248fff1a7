"""`steppe model`: get and list language models."""

from __future__ import annotations

import json

import click

from steppe.errors import UsageError
from steppe.models.store import get_model, known_models, models_folder
from steppe.options import json_option


@click.group("model", epilog="Example: steppe model get smollm2-135m")
def model_group() -> None:
    """Get and list language models."""


@model_group.command("get", epilog="Example: steppe model get smollm2-135m")
@click.argument("name")
def get_command(name: str) -> None:
    """Get NAME, once, and print its folder.

    NAME is a known name (steppe model list), a local folder, or a Hugging Face id.
    """
    if not name:
        raise UsageError("NAME: asked for a model, found an empty name")
    click.echo(get_model(name, progress=_to_stderr))


@model_group.command("list", epilog="Example: steppe model list --json")
@json_option
def list_command(as_json: bool) -> None:
    """List the models that need no model hub, and which of them are here."""
    rows = [
        {"name": model.name, "summary": model.summary, "here": (models_folder() / name).is_dir()}
        for name, model in known_models().items()
    ]
    if as_json:
        click.echo(json.dumps({"models": rows}))
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['summary']}  ({'here' if row['here'] else 'not here'})")


@model_group.command("path", epilog="Example: du -sh $(steppe model path)")
def path_command() -> None:
    """Print the folder that holds the models `get` made."""
    click.echo(models_folder())


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)
