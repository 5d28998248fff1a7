"""An agent for the time of a command, which undoes every limit, whatever happens."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from steppe.agent.child_process import start_agent
from steppe.agent.client import AgentClient
from steppe.agent.loss_policy import Restore
from steppe.errors import AgentError
from steppe.fleet.stale_runs import LEASE_FILE, remove_run
from steppe.run.leave_signals import leaving_on_signals, staying

LEASE_S = 5.0
"""Age of the last sign of life at which the agent undoes what was set, s."""


@contextmanager
def own_agent() -> Generator[AgentClient]:
    """Hold the lease of an agent of our own inside a block; a signal ends it with its cleanup.

    Raises:
        AgentError: A limit could not be undone; the message names the lease file, which stays.
    """
    undo = ExitStack()
    with leaving_on_signals():
        try:
            yield _start(undo)
        finally:
            with staying():
                undo.close()


def _start(undo: ExitStack) -> AgentClient:
    """Start an agent and take its lease; `undo` ends both, and leaves no file."""
    folder = Path(tempfile.mkdtemp(prefix="steppe-"))
    undo.callback(_remove, folder)
    socket, lease_file = folder / "agent.sock", folder / LEASE_FILE
    undo.enter_context(start_agent(socket, lease_file=lease_file, loss=Restore(), lease_s=LEASE_S))
    client = AgentClient(socket, LEASE_S)
    undo.callback(_release, client)
    return client


def _release(client: AgentClient) -> None:
    with suppress(AgentError):  # what it cannot undo its lease file tells
        client.release()


def _remove(folder: Path) -> None:
    if not remove_run(folder):
        lease_file = folder / LEASE_FILE
        raise AgentError(
            f"asked to undo the limits in {lease_file}, found a GPU that keeps them; "
            f"try again: python -m steppe.agent.server --undo --lease-file {lease_file}"
        )
