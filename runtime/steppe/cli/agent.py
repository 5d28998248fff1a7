"""`steppe agent`: the privileged process of a host that sets and undoes GPU limits."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

import steppe
from steppe.agent.baseline import Baseline
from steppe.agent.install import (
    SYSTEMD,
    describe,
    install_files,
    run_command,
    start_service,
    writable_by_others,
    write_files,
)
from steppe.agent.journal_lines import log_to_stderr
from steppe.agent.loss_policy import parse_loss
from steppe.agent.server import AgentOptions, group_id, run_agent
from steppe.config import AGENT_SOCKET
from steppe.errors import UsageError
from steppe.options import ABOVE_ZERO
from steppe.run.missing_gpus import explaining_missing_gpus

ROOT = Path("/")


@click.group(
    "agent", invoke_without_command=True, epilog="Example: sudo steppe agent --allow-uid 1000"
)
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
    help="Action when a lease expires: restore, floor=200W, hold=30s,floor=210MHz.",
)
@click.option(
    "--lease-s",
    type=ABOVE_ZERO,
    default=2.0,
    show_default=True,
    help="Time without a heartbeat after which a lease expires, s.",
)
@click.option("--allow-uid", type=int, multiple=True, help="User id that may connect beside root.")
@click.option("--socket-group", help="Group whose members may connect; it owns the socket.")
@click.option(
    "--baseline-clock-mhz",
    type=click.IntRange(min=1),
    help="SM clock limit to which GPUs return; none by default.",
)
@click.option(
    "--baseline-power-limit-w",
    type=ABOVE_ZERO,
    help="Board power limit to which GPUs return; the one that was found by default.",
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path),
    help="File for node_exporter's textfile collector, such as /run/steppe/agent.prom.",
)
@click.pass_context
def agent_group(
    context: click.Context,
    *,
    socket: Path,
    lease_file: Path,
    loss: str,
    lease_s: float,
    allow_uid: tuple[int, ...],
    socket_group: str | None,
    baseline_clock_mhz: int | None,
    baseline_power_limit_w: float | None,
    metrics_file: Path | None,
) -> None:
    """Set limits of this host's GPUs on behalf of fleets, and undo them at the end.

    Needs CAP_SYS_ADMIN to set limits. At its start it undoes what a killed agent has left.
    """
    if context.invoked_subcommand is not None:
        return
    log_to_stderr()
    options = AgentOptions(
        allowed_uids=frozenset(allow_uid),
        socket_group=None if socket_group is None else group_id(socket_group),
        baseline=Baseline(baseline_clock_mhz, baseline_power_limit_w),
        metrics_file=metrics_file,
    )
    with explaining_missing_gpus("`steppe demo` emulates some, and their agent"):
        run_agent(socket, lease_file, parse_loss(loss), lease_s, options)


@agent_group.command("install", epilog="Example: sudo /opt/steppe/.venv/bin/steppe agent install")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT,
    show_default=True,
    help="Write below this folder and start nothing, for images.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be written; write nothing.")
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="Interpreter that has Steppe on that system; this one by default.",
)
@click.option(
    "--options",
    default="",
    help='Options of the agent, such as "--baseline-clock-mhz 1200"; kept in /etc/default.',
)
def install_command(root: Path, dry_run: bool, python: Path | None, options: str) -> None:
    """Install the agent as a service: unit, user and group `steppe`, options.

    Members of the group may use the agent. An options file that exists is kept. The service runs
    as root, so Python and Steppe must belong to root and be writable by root alone.
    """
    _check_options(options)
    interpreter = python or Path(sys.executable)
    files = install_files(interpreter, options)
    if dry_run:
        click.echo(describe(files, root))
        return
    if root == ROOT:
        _check_owner(interpreter)
    for line in write_files(files, root):
        click.echo(line)
    if root == ROOT and SYSTEMD.is_dir():
        for line in start_service(run_command):
            click.echo(line)
    else:
        click.echo("the service starts with the next boot of that system")


def _check_options(options: str) -> None:
    """Check that these are options of the agent."""
    try:
        context = agent_group.make_context("steppe agent", shlex.split(options))
        parse_loss(context.params["loss"])
    except ValueError as error:
        raise UsageError(f"--options: {error}, found {options!r}") from error
    except click.UsageError as error:
        raise UsageError(f"--options: {error.format_message()}") from error


def _check_owner(python: Path) -> None:
    if os.geteuid() != 0:
        raise UsageError("asked to install a service of the host, found no root privilege")
    why = writable_by_others((python, Path(steppe.__file__).parent))
    if why is not None:
        raise UsageError(
            f"asked for a Python that only root may write, for the service runs as root; {why}: "
            "install Steppe as root, as in /opt/steppe, and use that one"
        )
