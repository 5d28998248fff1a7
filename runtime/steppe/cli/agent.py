"""`steppe agent`: the privileged process of one host that sets and undoes limits."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from steppe.agent.loss_policy import parse_loss
from steppe.agent.server import AgentOptions, run_agent
from steppe.config import AGENT_SOCKET
from steppe.options import ABOVE_ZERO
from steppe.run.missing_gpus import explaining_missing_gpus


@click.command("agent", epilog="Example: sudo steppe agent --loss hold=30s,floor=210MHz")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=AGENT_SOCKET,
    show_default=True,
    help="Where to listen.",
)
@click.option(
    "--lease-file",
    type=click.Path(path_type=Path),
    default="/run/steppe/lease.json",
    show_default=True,
    help="Where to write down what is set.",
)
@click.option(
    "--loss",
    default="restore",
    show_default=True,
    help="When the holder of the lease is gone: restore, floor=200W, hold=30s,floor=210MHz.",
)
@click.option(
    "--lease-s",
    type=ABOVE_ZERO,
    default=2.0,
    show_default=True,
    help="Longest silence of the holder, s.",
)
@click.option("--allow-uid", type=int, multiple=True, help="A user beside root that may connect.")
def agent_command(
    socket: Path, lease_file: Path, loss: str, lease_s: float, allow_uid: tuple[int, ...]
) -> None:
    """Own the limits of this host's GPUs until told to stop, and undo them then.

    Needs CAP_SYS_ADMIN to set limits. Undoes first what an agent that died has left.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    options = AgentOptions(allowed_uids=frozenset(allow_uid))
    with explaining_missing_gpus("`steppe demo` emulates some, and their agent"):
        run_agent(socket, lease_file, parse_loss(loss), lease_s, options)
