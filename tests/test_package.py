"""What is built can be installed, and runs without Ray, vLLM and torch."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from steppe import __version__

ROOT = Path(__file__).parents[1]
ABSENT = ("ray", "vllm", "torch", "transformers", "triton")
"""What a plain `pip install steppe` does not install."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, folder: Path) -> str:
    """Run a command and return its output; fail with its errors when it fails."""
    result = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, env={}
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from the sdist."""
    out, sources = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sources")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run([*hatchling, "-t", "sdist"], cwd=ROOT, check=True)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(sources, filter="data")
    (unpacked,) = sources.iterdir()
    subprocess.run([*hatchling, "-t", "wheel"], cwd=unpacked, check=True)
    return out


@pytest.fixture(scope="module")
def steppe(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a virtual environment with the wheel, its dependencies, and none of ABSENT."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    for name in ABSENT:
        (packages / f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r}, name={name!r})")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "steppe"


def test_the_sdist_has_what_a_packager_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "Makefile", "docs/index.md", "tests/conftest.py"} <= names
    assert not any("__pycache__" in name or name.startswith("docs/_build") for name in names)


def test_the_wheel_has_both_packages_their_types_and_the_shipped_configs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"steppe/py.typed", "steppe_kernels/py.typed", "steppe/configs/demo.yaml"} <= names
    assert "steppe/deploy/systemd/steppe-agent.service" in names
    assert any(name.startswith("steppe/emulator/") and name.endswith(".c") for name in names)
    assert not any(name.startswith(("tests/", "bench/", "docs/")) for name in names)


def test_an_installed_wheel_copies_a_config_predicts_and_simulates(
    steppe: Path, tmp_path: Path
) -> None:
    assert __version__ in run(steppe, "--version", folder=tmp_path)
    run(steppe, "config", "copy", "windy_day.yaml", "mine.yaml", folder=tmp_path)
    run(steppe, "config", "validate", "mine.yaml", folder=tmp_path)
    options = ("--model", "llama-3.1-8b", "--gpu", "h100", "--batch", "8", "--json")
    points = json.loads(run(steppe, "frontier", *options, folder=tmp_path))["points"]
    assert points[0]["output_tps"] > 0
    record = ("--record", "run", "--duration", "10", "--json")
    summary = json.loads(run(steppe, "simulate", "mine.yaml", *record, folder=tmp_path))
    assert summary["energy_source"] == "modelled"
    assert summary["output_tokens"] > 0
    assert (tmp_path / "run" / "figure.png").stat().st_size > 0


def test_an_installed_wheel_measures_a_server(steppe: Path, url: str, tmp_path: Path) -> None:
    options = ("--concurrency", "2", "--requests", "4", "--prompt", "8", "--output", "4")
    command = ("bench", "serve", "--url", url, "--meter", "none", "--json", *options)
    assert json.loads(run(steppe, *command, folder=tmp_path))["completed"] == 4


def test_an_installed_wheel_without_ray_says_what_to_install(steppe: Path, tmp_path: Path) -> None:
    run(steppe, "config", "copy", "demo.yaml", folder=tmp_path)
    command = [str(steppe), "serve", "demo.yaml"]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert "steppe[cpu]" in line
