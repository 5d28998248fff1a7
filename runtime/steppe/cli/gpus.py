"""`steppe gpus`: the GPUs of this host, their readings and knobs, and recordings of them."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from steppe.config import AGENT_SOCKET
from steppe.device.inventory import render, to_json
from steppe.options import EMULATED, FiniteRange, json_option
from steppe.outputs import NewFile, write_whole
from steppe.run.gpus import GpuHost, list_gpus, record_gpus


@click.group("gpus", invoke_without_command=True, epilog="Example: steppe gpus --emulated l4")
@click.option("--emulated", type=EMULATED, help="Use new emulated GPUs instead.")
@click.option("--count", type=click.IntRange(1, 16), default=2, help="Number of emulated GPUs.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=AGENT_SOCKET,
    show_default=True,
    help="Socket of the agent, to list the limits it has set.",
)
@json_option
@click.pass_context
def gpus_command(
    context: click.Context, emulated: str | None, count: int, socket: Path, as_json: bool
) -> None:
    """List the GPUs of this host and their knobs; changes nothing."""
    context.obj = GpuHost(emulated, count, socket)
    if context.invoked_subcommand is not None:
        return
    rows = list_gpus(context.obj)
    if as_json:
        click.echo(json.dumps({"gpus": to_json(rows)}))
    else:
        Console().print(render(rows))


@gpus_command.command("record", epilog="Example: steppe gpus record --seconds 60 --out h100.json")
@click.option(
    "--seconds",
    type=FiniteRange(min=0.5),
    default=60.0,
    show_default=True,
    help="Length of the recording.",
)
@click.option(
    "--control", is_flag=True, help="Also step the limits and undo them; needs CAP_SYS_ADMIN."
)
@click.option("--out", type=NewFile(), help="New file to write to instead of stdout.")
@click.pass_obj
def record_command(host: GpuHost, seconds: float, control: bool, out: Path | None) -> None:
    """Record the sensors of this host's GPUs as JSON: periods, cost of a call, and every value.

    Only reads, unless --control is given. In Python, `steppe.emulator.recorded` fits emulated
    GPUs to a recording or replays it. Options of `steppe gpus` go before the word record.
    """
    with Console(stderr=True).status(f"recording {seconds:g} s"):
        document = record_gpus(host, seconds, control=control)
    text = json.dumps(document)
    if out is None:
        click.echo(text)
        return
    write_whole(out, [text.encode() + b"\n"])
