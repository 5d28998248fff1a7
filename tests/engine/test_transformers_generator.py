from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steppe.engine.tiny_model import write_tiny_model

LOAD = """
import sys, torch
from steppe.engine import transformers_generator
from steppe.engine.transformers_settings import TransformersSettings
torch.cuda.is_available = lambda: False
for dtype in (None, "float32"):
    transformers_generator.cpu_dtype = lambda: dtype
    print(transformers_generator.load_model(TransformersSettings(sys.argv[1], "tiny")).dtype)
"""


@pytest.mark.slow
def test_a_model_is_loaded_in_its_own_dtype_unless_the_cpu_is_slow_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOAD, str(write_tiny_model(tmp_path / "model", seed=1))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["torch.bfloat16", "torch.float32"], run.stderr[-2000:]
