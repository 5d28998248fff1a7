"""List and record the GPUs of a host, real or emulated."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steppe.agent.client import AgentClient, ask_status, holdings
from steppe.device.inventory import GpuRow, gpus_table
from steppe.device.nvml import open_gpus
from steppe.device.recording import record
from steppe.device.step_response import record_steps
from steppe.emulator.environment import activate, remove_state
from steppe.errors import AgentError
from steppe.run.missing_gpus import explaining_missing_gpus
from steppe.run.temporary_agent import LEASE_S, temporary_agent


@dataclass(frozen=True, slots=True)
class GpuHost:
    """The GPUs of this host, or emulated ones.

    Attributes:
        emulated: GPU type to emulate; None for the real GPUs.
        count: Number of emulated GPUs.
        socket: Where an agent may listen.
    """

    emulated: str | None
    count: int
    socket: Path


def list_gpus(host: GpuHost) -> tuple[GpuRow, ...]:
    """Return one row for each GPU, with what an agent has set on it; changes nothing.

    Raises:
        BackendUnavailableError: There is no GPU driver.
    """
    with _driver(host):
        return gpus_table(open_gpus(), holdings(host.socket))


def record_gpus(host: GpuHost, seconds: float, *, control: bool) -> dict[str, Any]:
    """Return a recording of the sensors as a JSON document.

    Args:
        host: The GPUs.
        seconds: Length of the recording, s.
        control: Also step every limit and undo it.

    Raises:
        BackendUnavailableError: There is no GPU driver.
        NoPermissionError: Limits cannot be set.
    """
    with _driver(host):
        gpus = open_gpus()
        document = record(gpus, seconds)
        if control:
            with _limits(host.socket) as limits:
                steps = record_steps(gpus, limits)
            for gpu in document["gpus"]:
                gpu["steps"] = steps[gpu["capabilities"]["uuid"]]
        return document


@contextmanager
def _limits(socket: Path) -> Generator[AgentClient]:
    """Hold the lease of the agent of this host, or of a temporary one."""
    try:
        ask_status(socket)
    except AgentError:
        with temporary_agent() as client:
            yield client
    else:
        with AgentClient(socket, LEASE_S) as client:
            yield client


@contextmanager
def _driver(host: GpuHost) -> Generator[None]:
    """Use the real NVML inside the block, or that of new emulated GPUs."""
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
