"""An agent for the time of a command, which undoes every limit, whatever happens."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from steppe.device.agent_client import AgentClient
from steppe.device.agent_process import start_agent
from steppe.device.lease import Restore
from steppe.errors import AgentError
from steppe.fleet.leftovers import LEASE_FILE, remove_run

LEASE_S = 5.0
"""Age of the last sign of life at which the agent undoes what was set, s."""


@contextmanager
def own_agent() -> Generator[AgentClient]:
    """Hold the lease of an agent of our own inside a block.

    Raises:
        AgentError: A limit could not be undone; the message names the lease file, which stays.
    """
    folder = Path(tempfile.mkdtemp(prefix="steppe-"))
    try:
        yield from _lease(folder)
    finally:
        if not remove_run(folder):
            lease_file = folder / LEASE_FILE
            raise AgentError(
                f"asked to undo the limits in {lease_file}, found a GPU that keeps them; "
                f"try again: python -m steppe.device.agent --undo --lease-file {lease_file}"
            )


def _lease(folder: Path) -> Generator[AgentClient]:
    """Give out the client of an agent; what it cannot undo its lease file tells."""
    socket, lease_file = folder / "agent.sock", folder / LEASE_FILE
    with start_agent(socket, lease_file=lease_file, loss=Restore(), lease_s=LEASE_S):
        client = AgentClient(socket, LEASE_S)
        try:
            yield client
        finally:
            with suppress(AgentError):
                client.release()
