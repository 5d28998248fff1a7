"""The live scheduler with a real model on real GPUs: async scheduling, model runner V2, TP 1 and 2.

Run them with `pytest -m gpu tests/engine`. They skip where vLLM for CUDA or the GPUs are missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steppe.models.tiny_model import write_tiny_model

ROOT = Path(__file__).parents[2]
ROUNDING = 0.25
"""Log probability that bfloat16 and other batches may move; a wrong context moves several times
as much."""
COUNT = "import torch; print(torch.cuda.device_count())"

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


def need_gpus(count: int) -> None:
    """Skip unless vLLM for CUDA and so many GPUs are there."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vLLM for CUDA (`vllm`) is not installed")
    found = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True
    )
    if int(found.stdout) < count:
        pytest.skip(f"asked for {count} GPUs, found {int(found.stdout)}")


@pytest.fixture(scope="module", params=[1, 2], ids=["tp1", "tp2"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what `gpu_scheduler_run.py` reported."""
    need_gpus(request.param)
    folder = tmp_path_factory.mktemp("gpu")
    write_tiny_model(folder / "model", 0)
    module = "tests.engine.gpu_scheduler_run"
    command = [sys.executable, "-m", module, str(folder / "model"), str(folder)]
    command += ["--tensor-parallel", str(request.param)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_vllm_runs_with_its_defaults_for_gpus(report: dict[str, Any]) -> None:
    assert report["is_async"]
    assert report["is_v2"]


def test_every_token_is_the_most_likely_one_however_the_limits_change(
    report: dict[str, Any],
) -> None:
    assert report["gap"] <= ROUNDING


def test_no_request_and_no_block_is_lost(report: dict[str, Any]) -> None:
    assert report["finished"] == report["requests"] - report["aborted"]
    assert (report["left"], report["leaked_blocks"]) == ([], 0)


def test_the_step_records_sum_to_the_tokens(report: dict[str, Any]) -> None:
    assert report["miscounted"] == []
    assert report["steps"] > 0
