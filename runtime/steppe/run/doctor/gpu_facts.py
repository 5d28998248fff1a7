"""The GPUs of one host as the doctor sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from steppe.device.gpu import LimitReason
from steppe.device.health import GpuHealth
from steppe.device.kernel_log import LoggedXid, read_logged_xids
from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_driver import pci_address
from steppe.device.nvml_health import XidEvents, read_health
from steppe.device.nvml_processes import compute_processes
from steppe.errors import DeviceError
from steppe.run.doctor.counter import UNWATCHED, CounterFacts, watch_counters


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU; None where it does not say.

    Attributes:
        index: Position in PCI order.
        uuid: Its permanent name.
        name: Marketing name.
        is_emulated: Whether an emulated driver answers.
        is_mig: Whether it is split into instances.
        memory_bytes: Size of its memory.
        sm_clock_mhz: SM clock now, MHz.
        highest_mhz: Highest SM clock, MHz; None if clocks cannot be limited.
        reasons: Why the clock is not at its highest.
        utilisation: Share of time in which a kernel ran, 0 to 1.
        limit_w: Board power limit that was asked for last, W.
        enforced_w: Board power limit in force after every limiter, W.
        default_w: Board power limit after a driver load, W.
        highest_w: Highest board power limit, W.
        processes: Processes that hold a context on it.
        health: Memory errors, persistence.
        xids: Xids since the host was started; None if the kernel log cannot be read, and none came
            while it was watched.
        counter: Its energy counter.
    """

    index: int
    uuid: str
    name: str
    is_emulated: bool = False
    is_mig: bool = False
    memory_bytes: int | None = None
    sm_clock_mhz: int | None = None
    highest_mhz: int | None = None
    reasons: frozenset[LimitReason] = frozenset()
    utilisation: float | None = None
    limit_w: float | None = None
    enforced_w: float | None = None
    default_w: float | None = None
    highest_w: float | None = None
    processes: tuple[int, ...] | None = None
    health: GpuHealth | None = None
    xids: tuple[int, ...] | None = None
    counter: CounterFacts = UNWATCHED

    @property
    def label(self) -> str:
        """What a person finds it by: its number and the start of its UUID."""
        return f"GPU {self.index} ({self.uuid[:12]})"


def read_gpus(gpus: Sequence[NvmlGpu], watch_s: float) -> tuple[GpuFacts, ...]:
    """Read some GPUs, which changes nothing.

    Args:
        gpus: The GPUs, opened by `open_gpus`.
        watch_s: How long to watch their energy counters and Xids, s; 0 for neither.
    """
    found = [_read(gpu) for gpu in gpus]
    if watch_s <= 0:
        return tuple(found)
    logged = read_logged_xids()
    try:
        with XidEvents(gpus) as events:
            counters, seen = watch_counters(gpus, watch_s), _drain(events)
    except DeviceError:
        counters, seen = watch_counters(gpus, watch_s), {}
    return tuple(
        replace(
            facts,
            counter=counters.get(facts.uuid, facts.counter),
            xids=_xids(facts, logged, seen.get(facts.uuid, ())),
        )
        for facts in found
    )


def _drain(events: XidEvents) -> Mapping[str, tuple[int, ...]]:
    """Return the Xids that have come, by UUID."""
    seen: dict[str, tuple[int, ...]] = {}
    while (event := events.wait(0.0)) is not None:
        seen[event.uuid] = (*seen.get(event.uuid, ()), event.xid)
    return seen


def _xids(
    facts: GpuFacts, logged: tuple[LoggedXid, ...] | None, seen: tuple[int, ...]
) -> tuple[int, ...] | None:
    if logged is None:
        return seen or None
    pci = pci_address(facts.index)
    # The log of the host says nothing about emulated GPUs.
    ours = () if facts.is_emulated else (entry.xid for entry in logged if entry.pci == pci)
    return tuple(dict.fromkeys((*ours, *seen)))


def _read(gpu: NvmlGpu) -> GpuFacts:
    can = gpu.capabilities
    facts = GpuFacts(
        index=gpu.index,
        uuid=gpu.uuid,
        name=can.name,
        is_emulated=gpu.is_emulated,
        is_mig=can.is_mig,
        highest_mhz=can.sm_clocks_mhz[-1] if can.sm_clocks_mhz else None,
        default_w=can.default_power_limit_w,
        highest_w=None if can.power_limit_range_w is None else can.power_limit_range_w[1],
        counter=CounterFacts(exists=can.has_energy_counter),
    )
    try:
        sample = gpu.sample()
        pids = compute_processes(gpu.index)
        return replace(
            facts,
            memory_bytes=gpu.board()[0],
            sm_clock_mhz=sample.sm_clock_mhz,
            reasons=sample.reasons,
            utilisation=sample.utilisation,
            limit_w=_limit_w(gpu),
            enforced_w=sample.power_limit_w,
            processes=None if pids is None else tuple(sorted(pids)),
            health=read_health(gpu),
        )
    except DeviceError:
        return facts


def _limit_w(gpu: NvmlGpu) -> float | None:
    try:
        return gpu.power_limit_w()
    except DeviceError:
        return None
