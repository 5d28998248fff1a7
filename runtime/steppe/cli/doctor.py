"""`steppe doctor`: what would keep a run from working here, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from steppe.config import EmulatedSection, NvmlSection, load_config
from steppe.options import GivenPath, json_option
from steppe.run.doctor.examine import examine, examine_host
from steppe.run.doctor.report import render, to_json

EMULATED = click.Choice(("a100", "b200", "h100", "h200", "l4", "v100"))


@click.command("doctor", epilog="Example: steppe doctor configs/eight_gpus.yaml")
@click.argument("config", type=GivenPath(path_type=Path), required=False)
@click.option("--emulated", type=EMULATED, help="Look at new emulated GPUs instead.")
@click.option("--count", type=click.IntRange(1, 16), default=8, help="Number of emulated GPUs.")
@json_option
@click.pass_context
def doctor_command(
    context: click.Context, config: Path | None, emulated: str | None, count: int, as_json: bool
) -> None:
    """Look at this host and, with CONFIG, at what its run needs; changes nothing.

    On a Ray cluster (`ray.address`), every node is looked at. Exit code 1 if a run cannot work.
    It takes a few seconds, in which the energy counters are compared with the power readings.
    """
    console = Console(stderr=as_json)
    device = None
    if emulated is not None:
        device = EmulatedSection.model_validate(
            {"kind": "emulated", "profile": emulated, "count": count}
        )
    with console.status("looking"):
        if config is None:
            diagnosis = examine_host(device or NvmlSection(kind="nvml"))
        else:
            settings = load_config(config)
            if device is not None:
                settings = settings.model_copy(update={"device": device})
            diagnosis = examine(settings)
    if as_json:
        click.echo(json.dumps(to_json(diagnosis), default=list))
    else:
        console.print(render(diagnosis, f"steppe doctor {config or ''}".rstrip()))
    context.exit(1 if diagnosis.fatal else 0)
