"""Run the live scheduler inside vLLM's own engine and print what happened, as one JSON line.

A program of its own: vLLM and its environment variables stay out of the test's process.
Arguments: the folder of the tiny model, and a folder for the control block.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_NO_USAGE_STATS="1",
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
)

from steppe.engine.control_block import ControlBlock, EngineLimits, StepRecord, request_key
from steppe.engine.seam import Seam

PROMPT_TOKENS = 20


def gateway_id(name: str) -> str:
    """Return an id as the gateway makes them, 32 hexadecimal digits."""
    return name.encode().hex().zfill(32)


def engine_id(name: str) -> str:
    """Return the id that vLLM's chat route makes of it."""
    return f"chatcmpl-{gateway_id(name)}"


@dataclass
class Session:
    """One engine, its control block, and what came out of it."""

    engine: Any
    block: ControlBlock
    outputs: dict[str, list[int]] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    @property
    def scheduler(self) -> Any:
        return self.engine.engine_core.engine_core.scheduler

    def add(self, name: str, output_tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> None:
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0, max_tokens=output_tokens, ignore_eos=True)
        first = 100 + sum(name.encode()) % 100
        prompt = {"prompt_token_ids": [first + i % 50 for i in range(prompt_tokens)]}
        self.names[engine_id(name)] = name
        self.engine.add_request(engine_id(name), prompt, sampling)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for output in self.engine.step():
                name = self.names[output.request_id]
                self.outputs[name] = list(output.outputs[0].token_ids)
            batch = self.block.read_steps()
            assert not batch.lost
            self.steps += batch.steps

    def finish(self) -> None:
        while self.engine.has_unfinished_requests():
            self.step()

    def report(self, **more: Any) -> dict[str, Any]:
        """Return what happened since the last report, by request name."""
        names = {request_key(gateway_id(name)): name for name in self.outputs}
        steps = [
            {
                names.get(w.key, str(w.key)): (w.prompt_tokens, w.decode_tokens, w.output_tokens)
                for w in step.work
            }
            for step in self.steps
        ]
        spans = [(step.start_ns, step.end_ns) for step in self.steps]
        contexts = [step.context_tokens for step in self.steps]
        found = {"outputs": self.outputs, "steps": steps, "spans": spans, "contexts": contexts}
        found |= self.counts() | more
        self.outputs, self.steps = {}, []
        return found

    def counts(self) -> dict[str, Any]:
        return {"telemetry": asdict(self.block.read_telemetry())}


def open_session(model: str, folder: str) -> Session:
    block = ControlBlock.create(Path(folder) / "block")
    Seam(str(block.path), watch_parent=False).publish()
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    arguments = EngineArgs(
        model=model,
        dtype="float32",
        max_model_len=512,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        enforce_eager=True,
        enable_prefix_caching=False,
        kv_cache_memory_bytes=64 << 20,
        scheduler_cls="steppe.engine.vllm_scheduler.LiveScheduler",
    )
    return Session(LLMEngine.from_engine_args(arguments), block)


def free(session: Session) -> dict[str, Any]:
    for i in range(8):
        session.add(f"r{i}", 12 + 3 * i)
    session.finish()
    return session.report()


def hold(session: Session) -> dict[str, Any]:
    """Cut to two after all eight run; the same requests as `free`."""
    for i in range(8):
        session.add(f"r{i}", 12 + 3 * i)
    session.step(8)
    before = len(session.steps)
    session.block.write_limits(EngineLimits(2))
    session.step()
    session.finish()
    session.block.write_limits(EngineLimits())
    return session.report(cut_after=before)


def starve(session: Session) -> dict[str, Any]:
    """Hold seven of eight long requests, for many rotations."""
    for i in range(8):
        session.add(f"s{i}", 200)
    session.step(8)
    before = len(session.steps)
    session.block.write_limits(EngineLimits(1))
    session.step(300)
    session.block.write_limits(EngineLimits())
    session.finish()
    return session.report(cut_after=before)


def soft(session: Session) -> dict[str, Any]:
    for i in range(6):
        session.add(f"r{i}", 10 + 4 * i)
    session.step(8)
    before = len(session.steps)
    session.block.write_limits(EngineLimits(2, hold=False))
    session.add("late", 4)
    session.step()
    session.finish()
    session.block.write_limits(EngineLimits())
    return session.report(cut_after=before)


def lapse(session: Session) -> dict[str, Any]:
    """Let the limits lapse while all eight run, and renew them; the same requests as `free`."""
    for i in range(8):
        session.add(f"r{i}", 12 + 3 * i)
    session.step(8)
    session.block.renew(time.monotonic() - 1)
    before, tokens = len(session.steps), session.counts()["telemetry"]["output_tokens"]
    session.step(4)
    during = [len(session.steps) - before, session.counts()["telemetry"]["output_tokens"] - tokens]
    session.block.renew(time.monotonic() + 3600)
    session.finish()
    return session.report(during=during)


def token_cap(session: Session) -> dict[str, Any]:
    session.block.write_limits(EngineLimits(0, tokens_per_step=16))
    for i in range(3):
        session.add(f"r{i}", 4, prompt_tokens=100 + i)
    session.finish()
    session.block.write_limits(EngineLimits())
    return session.report()


def begin(session: Session) -> dict[str, Any]:
    """Look at the telemetry before the first step ends, and after its request hung up then."""
    scheduler, seen = session.scheduler, []
    session.add("r0", 40)

    def look(scheduler_output: Any, model_runner_output: Any) -> Any:
        seen.append(session.counts()["telemetry"])
        session.engine.abort_request([engine_id("r0")])
        seen.append(session.counts()["telemetry"])
        del scheduler.update_from_output
        return scheduler.update_from_output(scheduler_output, model_runner_output)

    scheduler.update_from_output = look
    session.finish()
    return session.report(seen=seen)


def abort(session: Session) -> dict[str, Any]:
    """Abort one that runs, one that is held and one that waits."""
    for i in range(8):
        session.add(f"r{i}", 40)
    session.step(8)
    session.add("waits", 40)
    session.block.write_limits(EngineLimits(2))
    session.step(3)
    seen = [session.counts()["telemetry"]]
    for name in ("waits", "r0", "r7"):
        session.engine.abort_request([engine_id(name)])
        seen.append(session.counts()["telemetry"])
    session.block.write_limits(EngineLimits())
    session.finish()
    return session.report(seen=seen, keys_left=len(session.scheduler._keys))


def main() -> None:
    session = open_session(sys.argv[1], sys.argv[2])
    scenes = (begin, free, hold, lapse, starve, soft, token_cap, abort)
    print(json.dumps({scene.__name__: scene(session) for scene in scenes}))  # noqa: T201


if __name__ == "__main__":
    main()
