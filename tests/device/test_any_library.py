"""A real GPU needs no code change: the same suite, and only the library that is loaded differs.

pytest -m gpu tests/device/test_any_library.py --nvml-library PATH
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.emulator.build import build_library

SUITE = Path(__file__).with_name("library_suite.py")


def run_suite(library: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)]
    result = subprocess.run(
        [*command, "--nvml-library", str(library)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("gpus", ["h100x2", "v100x1,a100x1,p40x1", "b200x1,l4x1,h200x1"])
def test_the_suite_passes_on_the_emulated_library(tmp_path: Path, gpus: str) -> None:
    state = {"STEPPE_EMULATED_GPUS": gpus, "STEPPE_EMULATED_STATE": str(tmp_path / "gpus")}
    run_suite(build_library(), state)


@pytest.mark.gpu
def test_the_suite_passes_on_the_library_that_is_given(pytestconfig: pytest.Config) -> None:
    run_suite(pytestconfig.getoption("--nvml-library"), {})
