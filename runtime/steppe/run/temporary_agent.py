"""An agent that lives as long as one command, and undoes every limit when it ends."""

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
from steppe.run.signals import exiting_on_signals, ignoring_signals

LEASE_S = 5.0
"""Time without a heartbeat after which the agent undoes the limits, s."""


@contextmanager
def temporary_agent() -> Generator[AgentClient]:
    """Hold the lease of an agent inside the block; a signal ends the block with its cleanup.

    Raises:
        AgentError: A limit could not be undone; the message names the lease file, which stays.
    """
    undo = ExitStack()
    with exiting_on_signals():
        try:
            yield _start(undo)
        finally:
            with ignoring_signals():
                undo.close()


def _start(undo: ExitStack) -> AgentClient:
    """Start an agent and take its lease; `undo` ends both and removes their files."""
    folder = Path(tempfile.mkdtemp(prefix="steppe-"))
    undo.callback(_remove, folder)
    socket, lease_file = folder / "agent.sock", folder / LEASE_FILE
    undo.enter_context(start_agent(socket, lease_file=lease_file, loss=Restore(), lease_s=LEASE_S))
    client = AgentClient(socket, LEASE_S)
    undo.callback(_release, client)
    return client


def _release(client: AgentClient) -> None:
    with suppress(AgentError):  # the lease file keeps what could not be undone
        client.release()


def _remove(folder: Path) -> None:
    if not remove_run(folder):
        lease_file = folder / LEASE_FILE
        raise AgentError(
            f"asked to undo the limits in {lease_file}, found a GPU that keeps them; "
            f"try again: python -m steppe.agent.server --undo --lease-file {lease_file}"
        )
