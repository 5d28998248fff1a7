"""The GPUs of this host, their knobs and meters, and the limits that the agent holds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from steppe.device.nvml import NvmlGpu

# Twelve periods of the usual energy counter.
PERIOD_MEASURED_S = 1.2
_POLL_S = 0.002
_CAP_SYS_ADMIN = 21
_PROCESS_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU as `steppe gpus` shows it.

    Attributes:
        index: Position in PCI order.
        uuid: The permanent name.
        name: Marketing name.
        sm_clock_mhz: SM clock now, MHz.
        clock_range_mhz: Lowest and highest SM clock, MHz; None without a clock limit.
        draw_w: Draw now, W.
        power_limit_w: Board power limit in force, W.
        power_limit_range_w: Lowest and highest board power limit, W; None without one.
        meter: Best quality of its joules: counter, integrated, estimated or emulated.
        counter_period_s: Measured time between two updates of the energy counter, s.
        can_control: Whether this process may change limits (CAP_SYS_ADMIN).
        held: The limits that the agent set on it, as text.
        holder: Name of the client that holds it at the agent; None where none does.
        holder_pid: Process of that client.
    """

    index: int
    uuid: str
    name: str
    sm_clock_mhz: int
    clock_range_mhz: tuple[int, int] | None
    draw_w: float
    power_limit_w: float | None
    power_limit_range_w: tuple[float, float] | None
    meter: str
    counter_period_s: float | None
    can_control: bool
    held: str
    holder: str | None
    holder_pid: int | None

    @property
    def held_by(self) -> str:
        """The limits that the agent set on it, and the client that holds it."""
        if self.holder_pid is None:
            return self.held
        name = "" if self.holder is None else f"{self.holder}, "
        return f"{self.held} ({name}process {self.holder_pid})"


@dataclass(frozen=True, slots=True)
class AgentHolding:
    """What the agent of this host has set on one GPU, and for which client.

    Attributes:
        limits: The limits, as text.
        holder: Name of the client that holds the GPU; None where none does, or without a name.
        holder_pid: Process of that client; None where none holds it.
    """

    limits: str = "nothing"
    holder: str | None = None
    holder_pid: int | None = None


def gpus_table(
    gpus: Sequence[NvmlGpu], held: Mapping[str, AgentHolding] | None = None
) -> tuple[GpuRow, ...]:
    """Read every GPU, without changes; takes `PERIOD_MEASURED_S`.

    Args:
        gpus: The GPUs.
        held: What the agent holds, by UUID; None if no agent answers.

    Raises:
        DeviceError: A GPU could not be read.
    """
    periods_s = measure_periods(gpus)
    can_control = has_admin_capability()
    return tuple(_row(gpu, periods_s.get(gpu.uuid), held, can_control) for gpu in gpus)


def measure_periods(
    gpus: Sequence[NvmlGpu],
    duration_s: float = PERIOD_MEASURED_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, float]:
    """Return the mean time between two updates of each energy counter, s, by UUID.

    A GPU is left out that has no counter or whose counter moved less than twice.
    """
    watched = {gpu.uuid: gpu for gpu in gpus if gpu.capabilities.has_energy_counter}
    last_j = {uuid: gpu.energy_j() for uuid, gpu in watched.items()}
    ticks_s: dict[str, list[float]] = {uuid: [] for uuid in watched}
    end_s = clock() + duration_s
    while clock() < end_s:
        pause(_POLL_S)
        for uuid, gpu in watched.items():
            energy_j = gpu.energy_j()
            if energy_j != last_j[uuid]:
                last_j[uuid] = energy_j
                ticks_s[uuid].append(clock())
    return {
        uuid: (seen_s[-1] - seen_s[0]) / (len(seen_s) - 1)
        for uuid, seen_s in ticks_s.items()
        if len(seen_s) > 1
    }


def has_admin_capability(status: Path = _PROCESS_STATUS) -> bool:
    """Whether this process has CAP_SYS_ADMIN, which NVML's setters require; writes nothing."""
    for line in status.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def to_json(rows: Sequence[GpuRow]) -> list[dict[str, Any]]:
    """Return the rows as JSON values."""
    return [dataclasses.asdict(row) for row in rows]


def render(rows: Sequence[GpuRow]) -> Table:
    """Return the rows as a table for people."""
    table = Table(title="GPUs")
    for heading in ("#", "GPU", "UUID", "SM clock", "power", "meter", "limits", "held"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            str(row.index),
            row.name,
            row.uuid,
            f"{row.sm_clock_mhz} MHz {_range(row.clock_range_mhz, 'MHz')}",
            f"{row.draw_w:.0f} W {_range(row.power_limit_range_w, 'W')}",
            _meter(row),
            "may change" if row.can_control else "may not change",
            row.held_by,
        )
    return table


def _row(
    gpu: NvmlGpu,
    period_s: float | None,
    held: Mapping[str, AgentHolding] | None,
    can_control: bool,
) -> GpuRow:
    sample, can = gpu.sample(), gpu.capabilities
    holding = AgentHolding("no agent") if held is None else held.get(gpu.uuid, AgentHolding())
    clocks = can.sm_clocks_mhz
    return GpuRow(
        index=gpu.index,
        uuid=gpu.uuid,
        name=can.name,
        sm_clock_mhz=sample.sm_clock_mhz,
        clock_range_mhz=(clocks[0], clocks[-1]) if clocks else None,
        draw_w=sample.power_w,
        power_limit_w=sample.power_limit_w,
        power_limit_range_w=can.power_limit_range_w,
        meter=_meter_quality(gpu),
        counter_period_s=period_s,
        can_control=can_control,
        held=holding.limits,
        holder=holding.holder,
        holder_pid=holding.holder_pid,
    )


def _meter_quality(gpu: NvmlGpu) -> str:
    if gpu.is_emulated:
        return "emulated"
    if gpu.capabilities.is_mig:
        return "estimated"
    return "counter" if gpu.capabilities.has_energy_counter else "integrated"


def _range(limits: tuple[float, float] | None, unit: str) -> str:
    return "(no limit)" if limits is None else f"({limits[0]:.0f} to {limits[1]:.0f} {unit})"


def _meter(row: GpuRow) -> str:
    if row.counter_period_s is None:
        return row.meter
    return f"{row.meter}, every {row.counter_period_s * 1e3:.0f} ms"
