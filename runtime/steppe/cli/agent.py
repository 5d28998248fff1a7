"""`steppe agent`: the privileged process of a host that sets and undoes GPU limits."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from steppe.agent.loss_policy import parse_loss
from steppe.agent.server import AgentOptions, run_agent
from steppe.config import AGENT_SOCKET
from steppe.options import ABOVE_ZERO
from steppe.run.missing_gpus import explaining_missing_gpus


@click.command("agent", epilog="Example: sudo steppe agent --allow-uid 1000")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=AGENT_SOCKET,
    show_default=True,
    help="Unix socket to listen on.",
)
@click.option(
    "--lease-file",
    type=click.Path(path_type=Path),
    default="/run/steppe/lease.json",
    show_default=True,
    help="File that keeps the limits that are set.",
)
@click.option(
    "--loss",
    default="restore",
    show_default=True,
    help="Action when the lease expires: restore, floor=200W, hold=30s,floor=210MHz.",
)
@click.option(
    "--lease-s",
    type=ABOVE_ZERO,
    default=2.0,
    show_default=True,
    help="Time without a heartbeat after which the lease expires, s.",
)
@click.option("--allow-uid", type=int, multiple=True, help="User id that may connect beside root.")
def agent_command(
    socket: Path, lease_file: Path, loss: str, lease_s: float, allow_uid: tuple[int, ...]
) -> None:
    """Set limits of this host's GPUs on behalf of a run, and undo them at the end.

    Needs CAP_SYS_ADMIN to set limits. At its start it undoes what a killed agent has left.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    options = AgentOptions(allowed_uids=frozenset(allow_uid))
    with explaining_missing_gpus("`steppe demo` emulates some, and their agent"):
        run_agent(socket, lease_file, parse_loss(loss), lease_s, options)
