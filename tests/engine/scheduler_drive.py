"""Drive a real scheduler class of vLLM through a scenario, as vLLM's engine core does.

No model, no GPU: `paged_worker` makes up the outputs. With async scheduling the next step is
scheduled before the output of the one before is given back, as
`vllm.v1.engine.core.EngineCore.step_with_batch_queue` does.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.update(
    VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1", PYTHONHASHSEED="0"
)

from tests.engine.paged_worker import END, PagedWorker, StepResult
from tests.engine.scheduler_scenario import (
    MAX_MODEL_LEN,
    SEQUENCES,
    Abort,
    Asked,
    Event,
    Freeze,
    Lapse,
    Limits,
    Reset,
    Scenario,
)

from steppe.engine.control_block import ControlBlock, EngineLimits, StepRecord, Telemetry
from steppe.engine.seam import VARIABLE, Seam

MOST_ROUNDS = 4000
"""A scenario that needs more rounds has stopped making progress."""

_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
    "torch_dtype": "float32",
}


@dataclass(frozen=True)
class ScheduledStep:
    """What one call of `schedule` chose, and the limits in force."""

    tokens: dict[str, int]
    running_before: tuple[str, ...]
    limits: EngineLimits
    is_frozen: bool
    has_lapsed: bool
    context_tokens: int


@dataclass
class Outcome:
    """What came out of one scenario."""

    outputs: dict[str, list[int]] = field(default_factory=dict)
    finished: Counter[str] = field(default_factory=Counter)
    aborted: set[str] = field(default_factory=set)
    steps: list[ScheduledStep] = field(default_factory=list)
    records: list[StepRecord] = field(default_factory=list)
    telemetry: Telemetry = field(default_factory=Telemetry)
    hook: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class RecordingHook:
    """A step hook that writes down its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        self.calls.append("begin")

    def end(self) -> None:
        self.calls.append("end")

    def idle(self) -> None:
        self.calls.append("idle")


class Laboratory:
    """Makes schedulers: the configuration of vLLM that they share, and the control block's folder.

    Args:
        folder: A folder for both.
    """

    def __init__(self, folder: Path) -> None:
        from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig

        model = folder / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(_CONFIG))
        self._block_path = folder / "block"
        self._config = VllmConfig(
            model_config=ModelConfig(
                str(model), skip_tokenizer_init=True, dtype="float32", max_model_len=MAX_MODEL_LEN
            ),
            cache_config=CacheConfig(block_size=16),
            scheduler_config=SchedulerConfig(
                max_num_seqs=SEQUENCES,
                max_num_batched_tokens=64,
                max_model_len=MAX_MODEL_LEN,
                is_encoder_decoder=False,
            ),
        )

    def open(self, scenario: Scenario, scheduler_class: type[Any], *, is_live: bool) -> Drive:
        """Return a scheduler for the scenario, with a control block if it is live."""
        from steppe.engine import vllm_scheduler

        block = None
        os.environ.pop(VARIABLE, None)
        if is_live:
            vllm_scheduler.LAPSED_POLL_S = 0.0  # type: ignore[attr-defined]
            block = ControlBlock.create(self._block_path)
            Seam(str(self._block_path), watch_parent=False).publish()
        scheduler = self._make(scenario, scheduler_class)
        return Drive(scenario, scheduler, block)

    def _make(self, scenario: Scenario, scheduler_class: type[Any]) -> Any:
        import torch
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = str(int(scenario.is_v2))
        self._apply(scenario)
        spec = FullAttentionSpec(
            block_size=scenario.block_size, num_kv_heads=1, head_size=1, dtype=torch.float32
        )
        cache = KVCacheConfig(scenario.blocks, [], [KVCacheGroupSpec(["layer"], spec)])
        return scheduler_class(
            vllm_config=self._config,
            kv_cache_config=cache,
            structured_output_manager=StructuredOutputManager(self._config),
            block_size=scenario.block_size,
        )

    def _apply(self, scenario: Scenario) -> None:
        """Set what a scenario chooses in the configuration, behind its validation."""
        config = self._config
        scheduling, cache = config.scheduler_config, config.cache_config
        scheduling.max_num_batched_tokens = scenario.step_tokens
        scheduling.enable_chunked_prefill = scenario.chunked_prefill
        scheduling.long_prefill_token_threshold = scenario.long_prefill
        scheduling.policy = "priority" if scenario.by_priority else "fcfs"
        scheduling.async_scheduling = scenario.is_async
        config.parallel_config.pipeline_parallel_size = scenario.pipeline
        cache.block_size = scenario.block_size
        cache.num_gpu_blocks = scenario.blocks
        cache.enable_prefix_caching = scenario.prefix_caching
        config.speculative_config = _speculation(scenario, config)


def _speculation(scenario: Scenario, config: Any) -> Any:
    """Return a speculative config of n-grams; its drafts are made up by the worker."""
    if not scenario.spec_tokens:
        return None
    from vllm.config import SpeculativeConfig

    return SpeculativeConfig(
        method="ngram",
        num_speculative_tokens=scenario.spec_tokens,
        prompt_lookup_max=2,
        target_model_config=config.model_config,
        target_parallel_config=config.parallel_config,
    )


class Drive:
    """One scheduler on its way through one scenario."""

    def __init__(self, scenario: Scenario, scheduler: Any, block: ControlBlock | None) -> None:
        self.scenario, self.scheduler, self._block = scenario, scheduler, block
        self.outcome = Outcome()
        self.limits = EngineLimits()
        self._hook = RecordingHook()
        if block is not None:
            scheduler._hook = self._hook
        self._worker = PagedWorker(
            scenario.block_size,
            is_v2=scenario.is_v2,
            is_async=scenario.is_async,
            draft=lambda name, at: hash((scenario.seed, int(name[1:]), at)) % 5,
        )
        self._flight: deque[tuple[Any, StepResult]] = deque()
        self._frozen_until, self._is_frozen = -1, False
        self._lapsed_until = -1
        self._dropped: set[int] = set()
        self._free_at_start = self._free_blocks()

    def run(self) -> Outcome:
        """Run until every request is finished."""
        last = max([0, *(event.at for event in self.scenario.events)])
        last = max(last, *(asked.at for asked in self.scenario.requests))
        for round_ in range(MOST_ROUNDS):
            self._happen(round_)
            busy = self._round()
            if round_ > last and not busy and round_ >= max(self._frozen_until, self._lapsed_until):
                break
        else:
            left = sorted(self.scheduler.requests)
            self.outcome.problems.append(f"no end after {MOST_ROUNDS} rounds, left: {left}")
        self._check_end()
        if self._block is not None:
            self._read_block(self._block)
        return self.outcome

    def _happen(self, round_: int) -> None:
        """Let happen what is due before this round."""
        for index, asked in enumerate(self.scenario.requests):
            if asked.at == round_:
                self._add(index, asked)
        for event in self.scenario.events:
            if event.at == round_:
                self._take(event, round_)
        if round_ == self._frozen_until:
            self._pause("UNPAUSED")
        if round_ == self._lapsed_until and self._block is not None:
            self._block.renew(time.monotonic() + 1e6)

    def _take(self, event: Event, round_: int) -> None:
        match event:
            case Limits():
                self.limits = EngineLimits(event.batch, event.tokens, event.hold)
                if self._block is not None:
                    self._block.write_limits(self.limits)
            case Abort():
                self._abort(event.index)
            case Lapse():
                self._lapsed_until = max(self._lapsed_until, round_ + event.rounds)
                if self._block is not None:
                    self._block.renew(time.monotonic() - 1.0)
            case Freeze():
                self._pause("PAUSED_ALL")
                self._frozen_until = max(self._frozen_until, round_ + event.rounds)
            case Reset():
                self._dropped = {id(result) for _, result in self._flight}  # made once more
                self.scheduler.reset_prefix_cache(reset_running_requests=True)

    def _add(self, index: int, asked: Asked) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        sampling = SamplingParams(temperature=0, max_tokens=asked.max_tokens)
        sampling.update_from_generation_config({}, END)
        name = f"r{index}"
        self.outcome.outputs[name] = []
        request = Request(
            name,
            list(asked.prompt),
            sampling,
            None,
            arrival_time=float(index),
            priority=asked.priority,
            block_hasher=self._hasher() if self.scenario.prefix_caching else None,
        )
        self.scheduler.add_request(request)

    def _hasher(self) -> Any:
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

        init_none_hash(sha256)
        return get_request_block_hasher(self.scenario.block_size, sha256)

    def _abort(self, index: int) -> None:
        from vllm.v1.request import RequestStatus

        name = f"r{index}"
        if name in self.outcome.outputs and not self.outcome.finished[name]:
            self.outcome.aborted.add(name)
            self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def _pause(self, state: str) -> None:
        from vllm.v1.core.sched.interface import PauseState

        self._is_frozen = state == "PAUSED_ALL"
        self.scheduler.set_pause_state(PauseState[state])

    def _round(self) -> bool:
        """Do one pass of the engine core; return whether it had anything to do."""
        if self.scheduler.has_requests():
            self._schedule()
            if len(self._flight) < self.scenario.in_flight:
                return True
        elif not self._flight:
            return False
        self._give_back()
        return True

    def _schedule(self) -> None:
        running = tuple(request.request_id for request in self.scheduler.running)
        output = self.scheduler.schedule()
        result = self._worker.execute(output, output.num_spec_tokens_to_schedule)
        if not self.scenario.is_async:
            kept = [flying for _, flying in self._flight if id(flying) not in self._dropped]
            sampling = {name for flying in kept for name in flying.sampling}
            if early := sampling & result.sampled.keys():
                self.outcome.problems.append(f"{early} stepped before their last token is known")
        self.outcome.steps.append(
            ScheduledStep(
                dict(output.num_scheduled_tokens),
                running,
                self.limits,
                self._is_frozen,
                self._block is not None and self._block.has_lapsed,
                result.context_tokens,
            )
        )
        self._flight.append((output, result))

    def _give_back(self) -> None:
        from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput

        output, result = self._flight.popleft()
        names = list(result.sampled)
        made = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: i for i, name in enumerate(names)},
            sampled_token_ids=[list(result.sampled[name]) for name in names],
        )
        for outputs in self.scheduler.update_from_output(output, made).values():
            for one in outputs.outputs:
                self.outcome.outputs[one.request_id] += one.new_token_ids
                self.outcome.finished[one.request_id] += one.finish_reason is not None
        if self.scenario.spec_tokens and not self.scenario.is_async and names:
            drafts = [result.drafts.get(name, []) for name in names]
            self.scheduler.update_draft_token_ids(DraftTokenIds(names, drafts))

    def _free_blocks(self) -> int:
        free: int = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return free

    def _check_end(self) -> None:
        """Note what is left behind."""
        scheduler, problems = self.scheduler, self.outcome.problems
        if (free := self._free_blocks()) != self._free_at_start:
            problems.append(f"{self._free_at_start - free} KV blocks leaked")
        left = sorted(scheduler.requests)
        if left or scheduler.running or any(scheduler.get_request_counts()):
            problems.append(f"left behind: {left}")

    def _read_block(self, block: ControlBlock) -> None:
        self.outcome.telemetry = block.read_telemetry()
        block.read_to = 0
        batch = block.read_steps()
        self.outcome.records = list(batch.steps)
        self.outcome.hook = self._hook.calls
        if batch.lost:
            self.outcome.problems.append("step records lost")
        for name in ("_keys", "_steps"):
            if left := getattr(self.scheduler, name):
                self.outcome.problems.append(f"{name} keeps {left}")
        block.close()
