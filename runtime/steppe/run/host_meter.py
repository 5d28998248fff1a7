"""GPUs of this host for a benchmark: open them, meter them, limit their clocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from steppe.config import EmulatedSection, RunConfig
from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.environment import activate_section
from steppe.energy.meter import EnergyMeter, EnergyTotal
from steppe.errors import UsageError
from steppe.fleet.stale_runs import gpus_file
from steppe.run.temporary_agent import temporary_agent


def config_gpus(config: RunConfig) -> tuple[NvmlGpu, ...]:
    """Open the GPUs that a config's replicas will use here; none when they are elsewhere."""
    if config.ray.address != "local":
        return ()
    match config.device:
        case EmulatedSection() as section:
            activate_section(section, gpus_file(os.getpid()))
        case _:
            pass
    return open_gpus()


@contextmanager
def metering(gpus: Sequence[NvmlGpu]) -> Generator[EnergyTotal]:
    """Meter GPUs inside a block."""
    with EnergyMeter(gpus) as meter:
        yield meter.total()


@contextmanager
def clock_setter(gpus: Sequence[NvmlGpu]) -> Generator[Callable[[int], None]]:
    """Set the clock limit of GPUs inside a block, through an agent that undoes it in any case.

    Raises:
        UsageError: A clock is asked for and this process may not set one.
        AgentError: A limit could not be undone; the message names the lease file, which stays.
    """
    if not has_admin_capability():
        yield _refuse
        return
    with temporary_agent() as client:

        def set_clock(clock_mhz: int) -> None:
            for gpu in gpus:
                client.set_clock_limit(gpu.uuid, clock_mhz)

        yield set_clock


def _refuse(clock_mhz: int) -> None:
    raise UsageError(f"asked for a clock limit of {clock_mhz} MHz, which needs CAP_SYS_ADMIN")
