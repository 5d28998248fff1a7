"""Commands of an installation without Ray, vLLM and torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_EXTRAS = """
import sys
for name in ("ray", "vllm", "torch", "transformers", "huggingface_hub", "tokenizers", "gguf"):
    sys.modules[name] = None
from steppe.cli import COMMANDS, main
from steppe.cli import batch, bench
"""
LOAD = """
import importlib
needs_ray = {"serve", "demo", "sweep"}
for name, (place, _) in {**COMMANDS, **bench.PLACES, **batch.PLACES}.items():
    if name not in needs_ray:
        importlib.import_module(place.partition(":")[0])
importlib.import_module("steppe.run.simulation")
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_EXTRAS + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_commands_that_start_no_fleet_load_without_an_extra() -> None:
    assert run(LOAD).stderr == ""


@pytest.mark.parametrize("command", [("serve", "run.yaml"), ("bench", "sweep", "--help")])
def test_a_command_that_needs_ray_names_the_extra(command: tuple[str, ...]) -> None:
    result = run("main(sys.argv[1:], prog_name='steppe')", *command)
    assert result.returncode == 2
    assert result.stderr == (
        "steppe: this command needs ray, found it not installed: "
        "pip install 'steppe[cpu]' or 'steppe[cuda]'\n"
    )


def test_the_doctor_works_without_an_extra() -> None:
    result = run("main(['doctor', '--json'], prog_name='steppe')")
    assert result.stderr == ""
    assert '"check": "driver"' in result.stdout
