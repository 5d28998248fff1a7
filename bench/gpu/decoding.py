"""Tokens per joule against the batch limit, on the transformers engine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu.meter import Meter
from gpu.plan import LLAMA_1B, Plan

Row = dict[str, Any]


def decode(meter: Meter, plan: Plan) -> Iterator[Row]:
    """Saturate a model of random weights at each batch limit, set live; one row each."""
    from steppe.engine.control_block import ControlBlock, EngineLimits
    from steppe.engine.seam import Seam
    from steppe.engine.transformers_generator import Generator, cache_token_bytes
    from steppe.engine.transformers_settings import TransformersSettings

    model, most = _random_model(plan), max(plan.batches)
    # Each sequence also holds a page of 256 tokens that is only partly used.
    room = 2 * most * (plan.prompt_tokens + plan.output_tokens + 256)
    settings = TransformersSettings(
        model="random",
        served_name="random",
        max_batch_limit=most,
        max_tokens_per_step=2048,
        kv_cache_bytes=room * cache_token_bytes(model),
    )
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        block = ControlBlock.create(Path(folder) / "block")
        generator = Generator(model, settings, Seam(str(block.path)))
        about = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "attention": model.config._attn_implementation,
        }
        saturation = Saturation(generator, plan)
        try:
            for batch in plan.batches:
                block.write_limits(EngineLimits(batch))
                yield {**about, **runner.run(_saturated(meter, plan, saturation, block))}
        finally:
            saturation.end()
            generator.stop()


class Saturation:
    """Keeps requests outstanding at a generator: one that ends is followed by another."""

    def __init__(self, generator: Any, plan: Plan) -> None:
        """Take the generator and the sizes of requests."""
        self._generator, self._plan = generator, plan
        self._vocabulary = {**LLAMA_1B, **plan.model}["vocab_size"]
        self._number, self._outstanding = 0, 0
        self._ended = False

    def keep(self, outstanding: int) -> None:
        """Add requests until so many are outstanding."""
        while self._outstanding < outstanding:
            self._outstanding += 1
            self._add()

    def end(self) -> None:
        """Add no more."""
        self._ended = True

    def _add(self) -> None:
        from steppe.engine.transformers_generator import GeneratorRequest

        self._number += 1
        first, plan = self._number * 7919, self._plan
        tokens = [(first + 31 * at) % self._vocabulary for at in range(plan.prompt_tokens)]
        request = GeneratorRequest(f"r{self._number}", tokens, plan.output_tokens, ignore_eos=True)
        self._generator.add(request, self._follow)

    def _follow(self, result: Any) -> None:
        if not self._ended and result.error is None:
            self._add()


async def _saturated(meter: Meter, plan: Plan, saturation: Saturation, block: Any) -> Row:
    batch = block.read_limits(-1)[1].batch_limit
    saturation.keep(2 * batch)
    await asyncio.sleep(plan.batch_s / 2)
    (start_s, start_j), before = await asyncio.to_thread(meter.edge), block.read_telemetry()
    await asyncio.sleep(plan.batch_s)
    condition = meter.condition()
    (end_s, end_j), after = await asyncio.to_thread(meter.edge), block.read_telemetry()
    tokens, prompt = (
        after.output_tokens - before.output_tokens,
        after.prompt_tokens - before.prompt_tokens,
    )
    joules, window_s = end_j - start_j, end_s - start_s
    return {
        "batch_limit": batch,
        "scheduled": after.scheduled,
        "window_s": window_s,
        "steps": after.steps - before.steps,
        "output_tps": tokens / window_s,
        "prompt_tps": prompt / window_s,
        "draw_w": joules / window_s,
        "output_tokens_per_joule": tokens / joules,
        "at_end": condition,
    }


def _random_model(plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(**{**LLAMA_1B, **plan.model})
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
