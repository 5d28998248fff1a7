"""`steppe gpus`: the GPUs of this host, their readings and their knobs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from steppe.device.emulator.environment import activate, remove_state
from steppe.device.inventory import gpus_table, render, to_json
from steppe.device.nvml import open_gpus


@click.command("gpus", epilog="Example: steppe gpus --emulated l4")
@click.option("--emulated", metavar="PROFILE", help="Show emulated GPUs instead, such as l4.")
@click.option("--count", type=click.IntRange(1, 16), default=2, help="How many emulated GPUs.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default="/run/steppe/agent.sock",
    show_default=True,
    help="Where an agent may listen, to ask what it holds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def gpus_command(emulated: str | None, count: int, socket: Path, as_json: bool) -> None:
    """List the GPUs of this host and which knobs they have; changes nothing."""
    with _driver(emulated, count):
        rows = gpus_table(open_gpus(), socket)
    if as_json:
        click.echo(json.dumps({"gpus": to_json(rows)}))
    else:
        Console().print(render(rows))


@contextmanager
def _driver(emulated: str | None, count: int) -> Iterator[None]:
    """Answer for NVML with the real driver, or with fresh emulated GPUs."""
    if emulated is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="steppe-") as folder:
        state = Path(folder) / "gpus"
        activate(emulated, count, state)
        try:
            yield
        finally:
            remove_state(state)
