"""`steppe gpus`: the GPUs of this host, their readings and their knobs, and recordings of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from steppe.agent.client import AgentClient, ask_status, holdings
from steppe.config import AGENT_SOCKET
from steppe.device.inventory import gpus_table, render, to_json
from steppe.device.nvml import open_gpus
from steppe.device.recording import record
from steppe.device.step_response import record_steps
from steppe.emulator.environment import activate, remove_state
from steppe.errors import AgentError
from steppe.options import EMULATED, FiniteRange
from steppe.outputs import NewFile, write_whole
from steppe.run.missing_gpus import explaining_missing_gpus
from steppe.run.temporary_agent import LEASE_S, temporary_agent


@dataclass(frozen=True, slots=True)
class _Host:
    """Whose GPUs, and where their agent may listen."""

    emulated: str | None
    count: int
    socket: Path


@click.group("gpus", invoke_without_command=True, epilog="Example: steppe gpus --emulated l4")
@click.option("--emulated", type=EMULATED, help="Use fresh emulated GPUs instead.")
@click.option("--count", type=click.IntRange(1, 16), default=2, help="How many emulated GPUs.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=AGENT_SOCKET,
    show_default=True,
    help="Where an agent may listen, to ask what it holds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def gpus_command(
    context: click.Context, emulated: str | None, count: int, socket: Path, as_json: bool
) -> None:
    """List the GPUs of this host and which knobs they have; changes nothing."""
    context.obj = _Host(emulated, count, socket)
    if context.invoked_subcommand is not None:
        return
    with _driver(context.obj):
        rows = gpus_table(open_gpus(), holdings(socket))
    if as_json:
        click.echo(json.dumps({"gpus": to_json(rows)}))
    else:
        Console().print(render(rows))


@gpus_command.command("record", epilog="Example: steppe gpus record --seconds 60 --out h100.json")
@click.option(
    "--seconds", type=FiniteRange(min=0.5), default=60.0, show_default=True, help="How long."
)
@click.option(
    "--control", is_flag=True, help="Also step the limits and undo them; needs CAP_SYS_ADMIN."
)
@click.option("--out", type=NewFile(), help="New file to write in, not to the screen.")
@click.pass_obj
def record_command(host: _Host, seconds: float, control: bool, out: Path | None) -> None:
    """Write down how the sensors of this host's GPUs behave, as JSON.

    Their periods, what a call costs, and every value. Only reads, unless --control is given.
    From Python, `steppe.emulator.recorded` fits emulated GPUs to it or lets them replay
    it; no command does. Options of `steppe gpus` go before the word record.
    """
    with _driver(host), Console(stderr=True).status(f"recording {seconds:g} s"):
        document = _recording(seconds, control, host.socket)
    text = json.dumps(document)
    if out is None:
        click.echo(text)
        return
    write_whole(out, [text.encode() + b"\n"])


def _recording(seconds: float, control: bool, socket: Path) -> dict[str, Any]:
    gpus = open_gpus()
    document = record(gpus, seconds)
    if control:
        with _limits(socket) as limits:
            steps = record_steps(gpus, limits)
        for gpu in document["gpus"]:
            gpu["steps"] = steps[gpu["capabilities"]["uuid"]]
    return document


@contextmanager
def _limits(socket: Path) -> Iterator[AgentClient]:
    """Hold the lease of the agent that runs here, or of one of our own."""
    try:
        ask_status(socket)
    except AgentError:
        with temporary_agent() as client:
            yield client
    else:
        with AgentClient(socket, LEASE_S) as client:
            yield client


@contextmanager
def _driver(host: _Host) -> Iterator[None]:
    """Answer for NVML with the real driver, or with fresh emulated GPUs."""
    if host.emulated is None:
        with explaining_missing_gpus("`steppe gpus --emulated l4` has emulated ones"):
            yield
        return
    with tempfile.TemporaryDirectory(prefix="steppe-") as folder:
        state = Path(folder) / "gpus"
        activate(host.emulated, host.count, state)
        try:
            yield
        finally:
            remove_state(state)
