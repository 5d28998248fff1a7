"""Made-up facts of a healthy host with eight H100, to change one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steppe.config import RunConfig, load_config, shipped_config
from steppe.device.health import GpuHealth
from steppe.device.nvml_driver import Driver
from steppe.run.doctor.counter import CounterFacts
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts
from steppe.run.doctor.host import HostFacts
from steppe.run.doctor.model import WeightFacts
from steppe.run.doctor.node import NodeFacts
from steppe.run.doctor.software import Software

GIB = 1 << 30
COUNTER = CounterFacts(period_s=0.1, counter_w=71.0, power_w=70.5, is_steady=True)
SOFTWARE = Software(
    python="3.11.9",
    versions={"vllm": "0.32.0", "torch": "2.13.0+cu130", "ray": "2.60.0", "nvidia-ml-py": "13.6"},
    torch_cuda=(13, 0),
    vllm_torch="2.13.0",
)
HOST = HostFacts("node-a", 64 * GIB, 60 * GIB, 1 << 20, 1 << 20, None, False)


def health(**changes: Any) -> GpuHealth:
    sound = GpuHealth("", True, 0, 0, 0, None, None, True)
    return replace(sound, **changes)


def gpu(index: int = 0, **changes: Any) -> GpuFacts:
    sound = GpuFacts(
        index=index,
        uuid=f"GPU-0000000{index}-aaaa",
        name="NVIDIA H100 80GB HBM3",
        memory_bytes=85_520_809_984,
        sm_clock_mhz=345,
        highest_mhz=1980,
        utilisation=0.0,
        limit_w=700.0,
        enforced_w=700.0,
        default_w=700.0,
        highest_w=700.0,
        processes=(),
        health=health(),
        xids=(),
        counter=COUNTER,
    )
    return replace(sound, **changes)


def gpus(count: int = 8, **of_the_first: Any) -> tuple[GpuFacts, ...]:
    """Return GPUs of which the first differs."""
    return (gpu(0, **of_the_first), *(gpu(index) for index in range(1, count)))


def node(**changes: Any) -> NodeFacts:
    weights = WeightFacts("/models/qwen", 65_500_000_000, 10**12, False)
    sound = NodeFacts(HOST, SOFTWARE, Driver("580.82.07", (13, 0)), "", gpus(), None, weights)
    return replace(sound, **changes)


def shipped(name: str) -> RunConfig:
    return load_config(shipped_config(f"{name}.yaml"))


def serious(findings: list[Finding]) -> list[tuple[str, Level]]:
    """Return check and level of what is not well."""
    return [(f.check, f.level) for f in findings if f.level is not Level.OK]


def only(findings: list[Finding], check: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = [finding for finding in findings if finding.check == check]
    return found
