from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steppe.models.tiny_model import write_tiny_model

LOAD = """
import sys, torch
from steppe.engine import transformers_generator
from steppe.engine.transformers_settings import TransformersSettings
torch.cuda.is_available = lambda: False
for dtype in (None, "float32"):
    transformers_generator.cpu_dtype = lambda: dtype
    print(transformers_generator.load_model(TransformersSettings(sys.argv[1], "tiny")).dtype)
"""

HANG_UP = """
import asyncio, sys, time
from pathlib import Path
from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.transformers_generator import Generator, GeneratorRequest, load_model
from steppe.engine.transformers_settings import TransformersSettings

async def main(model, block):
    ControlBlock.create(Path(block)).close()
    settings = TransformersSettings(model, "tiny", max_batch_limit=6)
    generator = Generator(load_model(settings), settings, Seam(block))
    router = generator._manager.output_router
    for number in range(20):
        results = asyncio.Queue()
        request = GeneratorRequest(f"r{number}", [5] * 9, 300, stream=True, ignore_eos=True)
        cancel = generator.add(request, results.put_nowait)
        await results.get()
        time.sleep(0.02)  # the steps continue in their own thread
        cancel()
    results = asyncio.Queue()
    generator.add(GeneratorRequest("last", [5], 3, ignore_eos=True), results.put_nowait)
    print(len((await results.get()).generated_tokens))
    await asyncio.to_thread(generator.stop)
    print(router.output_queue.qsize(), len(router.result_handlers))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_model_is_loaded_in_its_own_dtype_unless_the_cpu_is_slow_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOAD, str(write_tiny_model(tmp_path / "model", seed=1))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["torch.bfloat16", "torch.float32"], run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_request_of_a_disconnected_client_is_removed(tmp_path: Path) -> None:
    model, block = write_tiny_model(tmp_path / "model", seed=1), tmp_path / "block"
    command = [sys.executable, "-c", HANG_UP, str(model), str(block)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["3", "0", "0"], run.stderr[-2000:]
