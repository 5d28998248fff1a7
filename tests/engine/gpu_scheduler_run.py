"""Run the live scheduler with a real model under limits that change, and print one JSON line.

A program of its own: vLLM and its environment variables stay out of the test's process. On a GPU it
runs with vLLM's defaults there, async scheduling and model runner V2 among them; `--cpu` tries the
program itself where there is no GPU.

    python -m tests.engine.gpu_scheduler_run MODEL_FOLDER FOLDER [--tensor-parallel 2] [--cpu]

Kernels round differently for other batches, so tokens of two runs may differ. What must hold is
that each token is the most likely one after those before it, within rounding: a second pass of the
whole text through the model says how far it is from that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
)

from steppe.engine.control_block import ControlBlock, EngineLimits, StepRecord, request_key
from steppe.engine.seam import Seam

REQUESTS, SEQUENCES, STEP_TOKENS, BLOCKS = 48, 16, 96, 160
"""The cache holds about half of the tokens of 16 requests, so that some are preempted."""
CHANGE_STEPS = 5
"""Limits change after this many steps."""
MOST_STEPS = 20_000
_SEED = 19


class Run:
    """One engine under one control block."""

    def __init__(self, model: str, folder: str, tensor_parallel: int, *, on_cpu: bool) -> None:
        self.block = ControlBlock.create(Path(folder) / "block")
        Seam(str(self.block.path), watch_parent=False).publish()
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        if on_cpu:
            os.environ.update(VLLM_CPU_OMP_THREADS_BIND="nobind", OMP_NUM_THREADS="1")
        self.engine: Any = LLMEngine.from_engine_args(
            EngineArgs(
                model=model,
                dtype="float32" if on_cpu else "bfloat16",
                max_model_len=512,
                max_num_seqs=SEQUENCES,
                max_num_batched_tokens=STEP_TOKENS,
                num_gpu_blocks_override=BLOCKS if not on_cpu else BLOCKS // 8,
                kv_cache_memory_bytes=256 << 20,
                enable_prefix_caching=True,
                enforce_eager=on_cpu,
                tensor_parallel_size=tensor_parallel,
                scheduler_cls="steppe.engine.vllm_scheduler.LiveScheduler",
            )
        )
        self.prompts: dict[str, list[int]] = {}
        self.outputs: dict[str, list[int]] = {}
        self.finished: set[str] = set()
        self.steps: list[StepRecord] = []

    @property
    def scheduler(self) -> Any:
        return self.engine.engine_core.engine_core.scheduler

    def add(self, name: str, prompt: list[int], output_tokens: int, **sampling: Any) -> None:
        from vllm import SamplingParams

        params = SamplingParams(
            temperature=0, max_tokens=output_tokens, ignore_eos=True, **sampling
        )
        self.prompts[name] = prompt
        self.engine.add_request(name, {"prompt_token_ids": prompt}, params)

    def drive(self, rng: random.Random) -> set[str]:
        """Step under changing limits until all is done; return the requests that were aborted."""
        aborted: set[str] = set()
        for step in range(MOST_STEPS):
            if not self.engine.has_unfinished_requests():
                self.block.write_limits(EngineLimits())
                return aborted
            if step % CHANGE_STEPS == 0:
                self._change(rng)
            if step in (60, 90):
                aborted.add(self._abort(rng))
            self.step()
        raise AssertionError(f"no end after {MOST_STEPS} steps")

    def step(self) -> None:
        for output in self.engine.step():
            self.outputs[output.request_id] = list(output.outputs[0].token_ids)
            if output.finished:
                self.finished.add(output.request_id)
        batch = self.block.read_steps()
        assert not batch.lost
        self.steps += batch.steps

    def _change(self, rng: random.Random) -> None:
        from vllm.v1.core.sched.interface import PauseState

        limits = EngineLimits(
            rng.choice((0, 1, 2, 5, SEQUENCES)), rng.choice((0, 0, 1, 7, 32)), rng.random() < 0.8
        )
        self.block.write_limits(limits)
        frozen = rng.random() < 0.1
        self.scheduler.set_pause_state(PauseState.PAUSED_ALL if frozen else PauseState.UNPAUSED)

    def _abort(self, rng: random.Random) -> str:
        name: str = rng.choice(sorted(self.prompts.keys() - self.finished))
        self.engine.abort_request([name])
        return name

    def gaps(self, names: list[str]) -> dict[str, float]:
        """Return how far each text is from the most likely one, in log probability, at its worst.

        The whole text goes through the model once more as a prompt.
        """
        found: dict[str, float] = {}
        for name in names:
            text = self.prompts[name] + self.outputs[name]
            self.add(f"check-{name}", text, 1, prompt_logprobs=1)
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                if not output.finished:
                    continue
                name = output.request_id.removeprefix("check-")
                start, tokens = len(self.prompts[name]), output.prompt_token_ids
                worst = 0.0
                for at in range(start, len(tokens)):
                    here = output.prompt_logprobs[at]
                    best = max(one.logprob for one in here.values())
                    worst = max(worst, best - here[tokens[at]].logprob)
                found[name] = worst
        return found

    def free_blocks(self) -> int:
        free: int = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return free


def main() -> None:
    """Run the requests, check them, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    run = Run(given.model, given.folder, given.tensor_parallel, on_cpu=given.cpu)
    rng = random.Random(_SEED)
    free = run.free_blocks()
    shared = [rng.randrange(10, 500) for _ in range(64)]
    for i in range(REQUESTS):
        prompt = shared[: rng.choice((0, 32, 64))]
        prompt = prompt + [rng.randrange(10, 500) for _ in range(rng.randint(1, 100))]
        run.add(f"{i:032x}", prompt, rng.randint(1, 80))  # an id as the gateway makes them
    aborted = run.drive(rng)
    whole = sorted(run.prompts.keys() - aborted)
    counted = {
        name: sum(w.output_tokens for s in run.steps for w in s.work if w.key == request_key(name))
        for name in whole
    }
    config = run.engine.vllm_config
    report = {
        "requests": REQUESTS,
        "finished": len(run.finished - aborted),
        "aborted": len(aborted),
        "miscounted": [n for n in whole if counted[n] != len(run.outputs[n])],
        "left": sorted(run.scheduler.requests),
        "leaked_blocks": free - run.free_blocks(),
        "is_async": bool(config.scheduler_config.async_scheduling),
        "is_v2": bool(config.use_v2_model_runner),
        "steps": len(run.steps),
        "gap": max(run.gaps(whole).values()),
    }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
