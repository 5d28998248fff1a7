"""What runs from an installation without Ray, vLLM and torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
for name in ("ray", "vllm", "torch", "transformers", "huggingface_hub", "tokenizers", "gguf"):
    sys.modules[name] = None
from steppe.cli import main
main(sys.argv[1:], prog_name="steppe")
"""
SIMULATED = """
model: {name: llama-3.1-8b}
fleet: {replicas: 2}
device: {kind: modelled, gpu: h100}
power: {supply: [{kind: constant, watts: 1000}]}
sim: {duration_s: 10}
"""


def steppe(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("config", "validate", "run.yaml"),
        ("config", "schema"),
        ("frontier", "--model", "llama-3.1-8b", "--gpu", "h100", "--batch", "8"),
        ("simulate", "run.yaml", "--record", "record"),
        ("load", "--help"),
        ("bench", "serve", "--help"),
        ("bench", "compare", "--help"),
        ("gpus", "--help"),
        ("model", "list"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_command_that_starts_no_fleet_needs_no_extra(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "run.yaml").write_text(SIMULATED)
    run = steppe(tmp_path, *arguments)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_a_load_test_runs_without_an_extra(tmp_path: Path, url: str) -> None:
    load = ("--concurrency", "2", "--requests", "4", "--prompt", "3", "--output", "3")
    run = steppe(tmp_path, "bench", "serve", "--url", url, *load, "--meter", "none", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["completed"] == 4


@pytest.mark.parametrize("command", [("serve", "run.yaml"), ("bench", "sweep", "--help")])
def test_a_command_that_needs_ray_names_the_extra(tmp_path: Path, command: tuple[str, ...]) -> None:
    run = steppe(tmp_path, *command)
    assert run.returncode == 2
    assert run.stderr == (
        "steppe: this command needs ray, found it not installed: "
        "pip install 'steppe[cpu]' or 'steppe[cuda]'\n"
    )
