"""A vLLM scheduler whose limits change while it runs.

The names of vLLM that this module uses are private; `vllm_contract` lists them.
`max_num_running_reqs` is never touched: it must cover the requests that run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from steppe.engine.control_block import (
    ControlBlock,
    EngineLimits,
    RequestWork,
    StepRecord,
    Telemetry,
    request_key,
)
from steppe.engine.cpu_amx import allow_amx
from steppe.engine.parent_watch import watch_parent
from steppe.engine.request_class import ROW_PRIORITY
from steppe.engine.seam import LAPSED_POLL_S, NoHook, StepHook, read_seam
from steppe.engine.vllm_request_id import outer_request_id

ROTATE_STEPS = 8
"""Held requests take turns after this many steps."""


class _Step:
    """One scheduled step: per request the prompt and the decode tokens, its context and start."""

    __slots__ = ("context_tokens", "start_ns", "work")

    def __init__(
        self, work: dict[str, tuple[int, int]], context_tokens: int, start_ns: int
    ) -> None:
        self.work, self.context_tokens = work, context_tokens
        self.start_ns = start_ns


class LiveScheduler(AsyncScheduler):
    """Reads limits before each step, calls the step hook, and records the work of each step.

    Rows of a batch come last: they are held first, and where another request waits, as many of them
    are held as it needs places. Held ones keep their keys and values. A row that is not held is
    preempted first, by vLLM's own policy `priority`.
    """

    running: list[Any]
    waiting: Any
    max_num_active_reqs: int
    max_num_running_reqs: int
    max_num_scheduled_tokens: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        allow_amx()  # in the process that runs the model, before its first step
        seam = read_seam()
        self._block = seam.open_block() if seam else None
        self._hook: StepHook = seam.make_hook() if seam else NoHook()
        if seam and seam.watch_parent:
            watch_parent()
        self._version, self._limits = -1, EngineLimits()
        self._own_active = self.max_num_active_reqs
        self._own_tokens = self.max_num_scheduled_tokens
        self._is_async = bool(self.scheduler_config.async_scheduling)
        self._has_classes = self.scheduler_config.policy == "priority"
        self._turn_steps = self._blocked_steps = self._coming = 0
        self._steps: dict[int, _Step] = {}
        self._totals = Telemetry()
        self._keys: dict[str, int] = {}
        self._last_end_ns = 0

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """Schedule one step within the limits in force."""
        if self._block is None:
            return super().schedule(*args, **kwargs)
        self._take_limits(self._block)
        if self._block.has_lapsed:
            return self._schedule_nothing(*args, **kwargs)
        limit = self.max_num_active_reqs
        held = self._hold_excess()
        try:
            output = super().schedule(*args, **kwargs)
        finally:
            # Put the held requests back; the base class may have replaced the list.
            self.running = self.running + held if held else self.running
            self.max_num_active_reqs = limit
        self._turn_steps += bool(held and output.num_scheduled_tokens)
        if self._coming and self._firm_waiting() >= self._coming:
            self._blocked_steps = ROTATE_STEPS  # no memory for them until rows have ended
        self._begin(self._block, output)
        return output

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Take a step's result once the device would have finished it, and record the step."""
        step = self._steps.pop(id(scheduler_output), None)
        if step is not None:
            self._hook.end()
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if self._block is not None and step is not None:
            self._record(self._block, step, outputs)
        self._idle_if_empty()
        return outputs

    def finish_requests(self, *args: Any, **kwargs: Any) -> Any:
        """End requests from outside, as when a client disconnects."""
        finished = super().finish_requests(*args, **kwargs)
        if self._block is not None:
            self._publish(self._block, self._totals)
        self._forget_finished(list(self._keys))
        self._idle_if_empty()
        return finished

    def set_pause_state(self, pause_state: Any) -> None:
        """Stop or continue stepping."""
        super().set_pause_state(pause_state)
        self._idle_if_empty()

    def _schedule_nothing(self, *args: Any, **kwargs: Any) -> Any:
        """Return an empty step, after a pause: the limits have lapsed, see `ControlBlock`."""
        if not self._steps:
            self._hook.idle()
            time.sleep(LAPSED_POLL_S)  # the engine core calls again at once
        limit, self.max_num_scheduled_tokens = self.max_num_scheduled_tokens, 0
        try:
            return super().schedule(*args, **kwargs)
        finally:
            self.max_num_scheduled_tokens = limit

    # vLLM's own class without async scheduling is the plain one, whose two methods are these: the
    # async ones plan draft tokens that only a worker with async scheduling replaces.
    def _update_after_schedule(self, scheduler_output: Any) -> None:
        if self._is_async:
            super()._update_after_schedule(scheduler_output)
        else:
            Scheduler._update_after_schedule(self, scheduler_output)

    def _update_request_with_output(
        self, request: Any, new_token_ids: list[int], is_stale: bool = False
    ) -> Any:
        if self._is_async:
            return super()._update_request_with_output(request, new_token_ids, is_stale)
        return Scheduler._update_request_with_output(self, request, new_token_ids, is_stale)

    def _take_limits(self, block: ControlBlock) -> None:
        changed = block.read_limits(self._version)
        if changed is None:
            return
        self._version, self._limits = changed
        self.max_num_active_reqs = _tighter(self._limits.batch_limit, self._own_active)
        self.max_num_scheduled_tokens = self._token_limit(self._limits.tokens_per_step)

    def _token_limit(self, wanted: int) -> int:
        """Return the most tokens of a step: never so few that a request could not go on."""
        config = self.scheduler_config
        if not config.enable_chunked_prefill or config.disable_chunked_mm_input:
            return self._own_tokens  # a prompt, or an image, may have to fit into one step
        fewest = max(1 + self.num_spec_tokens, self.num_prefill_lookahead)
        if self.need_mamba_block_aligned_split:
            fewest = max(fewest, self.block_size)
        return _tighter(max(wanted, fewest) if wanted > 0 else 0, self._own_tokens)

    def _hold_excess(self) -> list[Any]:
        """Remove the requests beyond the batch limit from this step, and return them."""
        limit = self.max_num_active_reqs
        self._coming = 0
        if self._has_classes:
            rows = [request for request in self.running if request.priority >= ROW_PRIORITY]
            if rows:
                return self._hold_rows(rows)
        if not self._limits.hold or len(self.running) <= limit:
            self._turn_steps = 0
            return []
        if self._turn_steps >= ROTATE_STEPS:
            self._turn_steps = 0
            self.running = self.running[limit:] + self.running[:limit]
        held = self.running[limit:]
        self.running = self.running[:limit]
        return held

    def _hold_rows(self, rows: list[Any]) -> list[Any]:
        """Put the rows last, and hold those whose places or steps other requests need.

        No more requests are admitted than the model runner has slots for: held ones keep theirs.
        Where the keys and values of rows leave no memory for another request, rows go on.
        """
        firm = [request for request in self.running if request.priority < ROW_PRIORITY]
        limit, free = self.max_num_active_reqs, self.max_num_running_reqs - len(self.running)
        most = limit if self._limits.hold else max(limit, len(firm))
        self._coming = self._firm_waiting() if free > 0 and not self._blocked_steps else 0
        self._blocked_steps = max(0, self._blocked_steps - 1)
        coming = min(self._coming, max(0, free))
        places = max(0, most - len(firm) - coming)
        if self._turn_steps >= ROTATE_STEPS:
            self._turn_steps = 0
            firm, rows = firm[most:] + firm[:most], rows[places:] + rows[:places]
        active = rows[:places]
        if coming and firm:
            active = [row for row in active if row.num_computed_tokens >= row.num_prompt_tokens]
        held = firm[most:] + [row for row in rows if row not in active]
        self.running = firm[:most] + active
        if held:
            self.max_num_active_reqs = min(limit, len(self.running) + coming)
        else:
            self._turn_steps = 0
        return held

    def _firm_waiting(self) -> int:
        """Return how many requests wait that are no rows."""
        return sum(request.priority < ROW_PRIORITY for request in self.waiting)

    def _begin(self, block: ControlBlock, output: Any) -> None:
        work = {
            engine_id: self._split(engine_id, tokens)
            for engine_id, tokens in output.num_scheduled_tokens.items()
        }
        if not work:
            self._idle_if_empty()
            return
        # The scheduler has already counted the tokens of this step as computed.
        context = sum(
            self.requests[engine_id].num_computed_tokens
            for engine_id, (_, decode) in work.items()
            if decode
        )
        self._steps[id(output)] = _Step(work, context, time.monotonic_ns())
        self._publish(block, self._totals)
        prefill = sum(prompt for prompt, _ in work.values())
        self._hook.begin(prefill, sum(1 for _, decode in work.values() if decode), context)

    def _split(self, engine_id: str, tokens: int) -> tuple[int, int]:
        """Return how many of a step's tokens belong to the prompt, and how many follow it."""
        request = self.requests[engine_id]
        computed_before = request.num_computed_tokens - tokens
        prompt = min(tokens, max(0, request.num_prompt_tokens - computed_before))
        return prompt, tokens - prompt

    def _record(self, block: ControlBlock, step: _Step, outputs: Any) -> None:
        sampled = {
            output.request_id: len(output.new_token_ids)
            for outputs_of_client in outputs.values()
            for output in outputs_of_client.outputs
        }
        end_ns = time.monotonic_ns()
        start_ns = max(step.start_ns, self._last_end_ns)  # with async scheduling steps overlap
        self._last_end_ns = end_ns
        work = tuple(
            RequestWork(self._key(engine_id), prompt, decode, sampled.get(engine_id, 0))
            for engine_id, (prompt, decode) in step.work.items()
        )
        done = StepRecord(start_ns, end_ns, work, step.context_tokens)
        block.append_step(done)
        self._publish(block, self._totals.after(done))
        self._forget_finished(step.work)

    def _publish(self, block: ControlBlock, totals: Telemetry) -> None:
        """Publish the counters, with the current requests and those in a running step."""
        running = {request.request_id for request in self.running}
        running = running.union(*(step.work for step in self._steps.values()))
        _, waiting = self.get_request_counts()
        self._totals = replace(totals, running=len(running), waiting=waiting)
        block.write_telemetry(self._totals)

    def _key(self, engine_id: str) -> int:
        key = self._keys.get(engine_id)
        if key is None:
            key = self._keys[engine_id] = request_key(outer_request_id(engine_id))
        return key

    def _forget_finished(self, engine_ids: Iterable[str]) -> None:
        for engine_id in engine_ids:
            if engine_id not in self.requests:
                self._keys.pop(engine_id, None)

    def _idle_if_empty(self) -> None:
        if not self._steps and self.get_num_unfinished_requests() == 0:
            self._hook.idle()


def _tighter(limit: int, own: int) -> int:
    return min(limit, own) if limit > 0 else own
