"""The steps of transformers' continuous batching, under limits that change while it runs.

Seams of transformers 5.19 that this module uses, none of them public: the scheduler classes and
`SCHEDULER_MAPPING`, `FIFOScheduler.schedule_batch`, `._get_waiting_candidates`, `.active_requests`,
`.waiting_requests` and `.max_requests_per_batch`; `ContinuousBatchingManager._generation_step`,
`._generation_loop_body`, `._create_batch_processor`, `._wake_up_loop`, `.background_thread_status`
and `.output_router`. All run in the manager's own thread.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager
from transformers.generation.continuous_batching.scheduler import FIFOScheduler

from steppe.engine.control_block import (
    ControlBlock,
    EngineLimits,
    RequestWork,
    StepRecord,
    Telemetry,
    request_key,
)
from steppe.engine.seam import StepHook

ROTATE_STEPS = 8
"""Held requests take turns after this many steps."""


def internal_id(request_id: str, number: int) -> str:
    """Return an id that is unique in the engine, even if clients repeat theirs."""
    return f"{request_id}-{number}"


def outer_id(internal: str) -> str:
    """Return the id of the client, from the one that `internal_id` made."""
    return internal.rpartition("-")[0]


class StepRecorder:
    """Reads the limits before each step, calls the hook, and records the work of each step."""

    def __init__(self, block: ControlBlock, hook: StepHook, own: EngineLimits) -> None:
        """Start with the engine's own limits.

        Args:
            block: The source of limits and the sink of telemetry.
            hook: Called at every step.
            own: The engine's own limits; the block can only tighten them.
        """
        self._block, self._hook, self._own = block, hook, own
        self._version, self._limits = -1, EngineLimits()
        self._totals = Telemetry()
        self._step: tuple[int, int, tuple[RequestWork, ...]] | None = None
        self._keys: dict[str, int] = {}
        self.awake = threading.Event()
        self.awake.set()

    def take_limits(self) -> EngineLimits:
        """Return the limits of the next step."""
        changed = self._block.read_limits(self._version)
        if changed is not None:
            self._version, self._limits = changed
        limits, own = self._limits, self._own
        return EngineLimits(
            _tighter(limits.batch_limit, own.batch_limit),
            _tighter(limits.tokens_per_step, own.tokens_per_step),
            limits.hold,
        )

    @property
    def may_step(self) -> bool:
        """Whether the engine is awake and its limits hold."""
        return self.awake.is_set() and not self._block.has_lapsed

    @property
    def may_rotate(self) -> bool:
        """Whether other requests take their turn in the next step."""
        return self._totals.steps % ROTATE_STEPS == 0

    def begin(self, batch: list[Any]) -> None:
        """A step with these requests starts; each is a `FutureRequestState`."""
        work = tuple(self._work_of(request) for request in batch)
        pairs = zip(batch, work, strict=True)
        context = sum(request.state.position_offset for request, w in pairs if w.decode_tokens)
        decodes = sum(w.decode_tokens for w in work)
        self._step = (time.monotonic_ns(), context + decodes, work)
        prompt = sum(w.prompt_tokens for w in work)
        self._hook.begin(prompt, sum(1 for w in work if w.decode_tokens), context + decodes)

    def end(self) -> None:
        """Record the step when its tokens are ready, before they are sent."""
        assert self._step is not None
        self._hook.end()
        (start_ns, context_tokens, work), end_ns = self._step, time.monotonic_ns()
        self._step = None
        done = StepRecord(start_ns, end_ns, work, context_tokens)
        self._block.append_step(done)
        self._totals = self._totals.after(done)
        self._block.write_telemetry(self._totals)

    def note_requests(self, running: dict[str, Any], waiting: dict[str, Any]) -> None:
        """Record the current requests: before a step, after it, or while no step runs."""
        now = replace(self._totals, running=len(running), waiting=len(waiting))
        if now != self._totals:
            self._totals = now
            self._block.write_telemetry(now)
            self._keys = {name: key for name, key in self._keys.items() if name in running}
        if not self.may_step or not (running or waiting):
            self._hook.idle()

    def _work_of(self, request: Any) -> RequestWork:
        state, tokens = request.state, request.query_length
        if state.request_id not in self._keys:
            self._keys[state.request_id] = request_key(outer_id(state.request_id))
        key, output = self._keys[state.request_id], int(request.has_new_token)
        if state.generated_len():
            return RequestWork(key, 0, tokens, output)
        return RequestWork(key, tokens, 0, output)


def _tighter(limit: int, own: int) -> int:
    return min(limit, own) if limit > 0 else own


class TransformersScheduler(FIFOScheduler):
    """First come, first served, within the limits in force."""

    def __init__(self, recorder: StepRecorder, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._recorder = recorder
        self._room = 0

    def schedule_batch(self, token_budget: int, cache_budget: int) -> Any:
        """Choose the requests of one step; none while the engine may not step."""
        if not self._recorder.may_step:
            return [], False, 0, 0
        limits = self._recorder.take_limits()
        limit = limits.batch_limit
        self._room = max(0, limit - len(self.active_requests))
        self.max_requests_per_batch = (
            limit if limits.hold else max(limit, len(self.active_requests))
        )
        if len(self.active_requests) > limit and limits.hold and self._recorder.may_rotate:
            for name in list(self.active_requests)[:limit]:
                self.active_requests[name] = self.active_requests.pop(name)
        found = super().schedule_batch(min(token_budget, limits.tokens_per_step), cache_budget)
        if found[0]:
            self._recorder.note_requests(self.active_requests, self.waiting_requests)
            self._recorder.begin(found[0])
        return found

    def _get_waiting_candidates(self) -> list[Any]:
        return list(super()._get_waiting_candidates()[: self._room])


class LiveManager(ContinuousBatchingManager):
    """Runs the steps in a thread, and records them."""

    def __init__(self, recorder: StepRecorder, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._recorder = recorder

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._wake_up_loop.set()

    def make_cache(self) -> None:
        """Make the KV cache now, so that its errors are raised here."""
        self.batch_processor = self._create_batch_processor()

    def forget(self, request_id: str) -> None:
        """Cancel a request whose client is gone."""
        self.output_router.result_handlers.pop(request_id, None)
        self.cancel_request(request_id)

    @property
    def fatal_error(self) -> BaseException | None:
        """The error that ended the steps; None while they can continue."""
        error: BaseException | None = self.background_thread_status.fatal_error
        return error

    def _generation_step(self) -> None:
        super()._generation_step()
        self._recorder.end()

    def _generation_loop_body(self, batch_processor: Any, bootstrapping: bool) -> bool:
        continues: bool = super()._generation_loop_body(batch_processor, bootstrapping)
        self.output_router.output_queue.queue.clear()  # results of cancelled requests
        scheduler = batch_processor.scheduler
        self._recorder.note_requests(scheduler.active_requests, scheduler.waiting_requests)
        return continues
