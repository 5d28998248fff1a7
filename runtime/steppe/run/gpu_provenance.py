"""Provenance of results from the GPUs of this host, and the check that they are not shared."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.device.inventory import measure_periods
from steppe.device.nvml import NvmlGpu
from steppe.energy.gpu_meters import best_quality
from steppe.energy.window import worst
from steppe.errors import UsageError
from steppe.measure.provenance import Provenance, host_name, installed_versions, source_commit
from steppe.measure.sweep.gpu_sensors import GpuSensors


def refuse_shared(gpus: Sequence[NvmlGpu], allowed: int = 0) -> None:
    """Refuse GPUs that other processes use.

    Args:
        gpus: The GPUs.
        allowed: Processes that belong on each.

    Raises:
        UsageError: More processes are on one of them.
    """
    for gpu in gpus:
        found = GpuSensors([gpu]).most_processes() or 0
        if found > allowed:
            raise UsageError(
                f"GPU {gpu.index}: asked for it alone, found {found} processes on it; "
                "the joules of a shared GPU cannot be separated"
            )


def provenance_of(gpus: Sequence[NvmlGpu], model: str, engine: str, seed: int) -> Provenance:
    """Return the provenance of results from GPUs of this host; measures the counters' period."""
    emulated = any(gpu.is_emulated for gpu in gpus)
    periods_s = measure_periods(gpus) if gpus else {}
    return Provenance(
        boundary="gpu",
        energy_source="emulated" if emulated else "measured",
        meter=worst(best_quality(gpu.capabilities) for gpu in gpus),
        counter_period_s=max(periods_s.values(), default=None),
        gpus=tuple(gpu.capabilities.name for gpu in gpus),
        uuids=tuple(gpu.uuid for gpu in gpus),
        driver=gpus[0].capabilities.driver if gpus else "unknown",
        model=model,
        engine=engine,
        seed=seed,
        host=host_name(),
        versions=installed_versions(),
        commit=source_commit(),
    )
