"""Bugs put into `LiveScheduler` by hand, each of which the properties must catch.

Some were in it once; the others are mistakes that its seams with vLLM invite.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from steppe.engine.control_block import RequestWork, StepRecord
from steppe.engine.vllm_scheduler import LiveScheduler


class HeldAreForgotten(LiveScheduler):
    """Held requests do not come back to the running ones."""

    def _hold_excess(self) -> list[Any]:
        super()._hold_excess()
        return []


class HeldOverwriteRunning(LiveScheduler):
    """Held requests come back over what the step admitted or preempted."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        before = list(self.running)
        output = super().schedule(*args, **kwargs)
        if len(before) > len(self.running):
            self.running = before
        return output


class HeldAreDoubled(LiveScheduler):
    """A held request stays among those of the step."""

    def _hold_excess(self) -> list[Any]:
        held = super()._hold_excess()
        self.running = self.running + held[:1]
        return held


class HoldsOneMore(LiveScheduler):
    """One request above the limit is stepped."""

    def _hold_excess(self) -> list[Any]:
        held = super()._hold_excess()
        self.running = self.running + held[:1]
        return held[1:]


class NeverRotates(LiveScheduler):
    """The same requests are held for good."""

    def _hold_excess(self) -> list[Any]:
        self._turn_steps = 0
        return super()._hold_excess()


class LowersSlots(LiveScheduler):
    """The limit moves the number of slots, which must cover the requests that run."""

    def _take_limits(self, block: Any) -> None:
        super()._take_limits(block)
        self.max_num_running_reqs = self.max_num_active_reqs


class IgnoresTokenLimit(LiveScheduler):
    """Only the batch limit is taken."""

    def _take_limits(self, block: Any) -> None:
        super()._take_limits(block)
        self.max_num_scheduled_tokens = self._own_tokens


class TokenLimitWithoutFloor(LiveScheduler):
    """So few tokens per step that a prompt, or a step with drafts, never fits."""

    def _token_limit(self, wanted: int) -> int:
        return min(wanted, self._own_tokens) if wanted > 0 else self._own_tokens


class LimitsNeverLifted(LiveScheduler):
    """Limits only ever become tighter."""

    def _take_limits(self, block: Any) -> None:
        before = self.max_num_active_reqs
        super()._take_limits(block)
        self.max_num_active_reqs = min(before, self.max_num_active_reqs)
        if self.max_num_active_reqs < before:
            self.max_num_active_reqs = 0


class LimitsAStepLate(LiveScheduler):
    """A change of limits acts on the step after the next one."""

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        output = super().schedule(*args, **kwargs)
        if self._block is not None:
            super()._take_limits(self._block)
        return output

    def _take_limits(self, block: Any) -> None:
        pass


class StepsWhileFrozen(LiveScheduler):
    """A freeze is not passed on."""

    def set_pause_state(self, pause_state: Any) -> None:
        self._idle_if_empty()


class StepsWhenLapsed(LiveScheduler):
    """The deadline of the limits is not looked at."""

    def _schedule_nothing(self, *args: Any, **kwargs: Any) -> Any:
        output = AsyncScheduler.schedule(self, *args, **kwargs)
        self._begin(self._block, output)  # type: ignore[arg-type]
        return output


class LapsesForGood(LiveScheduler):
    """Limits that have lapsed never hold again."""

    def _schedule_nothing(self, *args: Any, **kwargs: Any) -> Any:
        self._own_tokens = 0
        return super()._schedule_nothing(*args, **kwargs)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if not self._own_tokens:
            return super()._schedule_nothing(*args, **kwargs)
        return super().schedule(*args, **kwargs)


class AsyncWithoutAsync(LiveScheduler):
    """The async scheduler's plan of drafts, in an engine without async scheduling."""

    _update_after_schedule = AsyncScheduler._update_after_schedule
    _update_request_with_output = AsyncScheduler._update_request_with_output


class RecordsLatestStep(LiveScheduler):
    """An output is recorded with the step that was scheduled last, not with its own."""

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        if len(self._steps) > 1 and id(scheduler_output) in self._steps:
            last = list(self._steps)[-1]
            own = id(scheduler_output)
            self._steps[own], self._steps[last] = self._steps[last], self._steps[own]
        return super().update_from_output(scheduler_output, model_runner_output)


class CountsDraftsAsOutput(LiveScheduler):
    """A step's decode tokens stand for those it sampled, rejected drafts included."""

    def _record(self, block: Any, step: Any, outputs: Any) -> None:
        append = block.append_step

        def wrong(record: StepRecord) -> None:
            work = tuple(
                RequestWork(w.key, w.prompt_tokens, w.decode_tokens, w.decode_tokens)
                for w in record.work
            )
            append(StepRecord(record.start_ns, record.end_ns, work, record.context_tokens))

        block.append_step = wrong
        try:
            super()._record(block, step, outputs)
        finally:
            block.append_step = append


class ForgetsWastedSteps(LiveScheduler):
    """A request that ended while its next step was under way is left out of the record."""

    def _record(self, block: Any, step: Any, outputs: Any) -> None:
        step.work = {name: work for name, work in step.work.items() if name in self.requests}
        super()._record(block, step, outputs)


class ContextBeforeTheStep(LiveScheduler):
    """The context of a step leaves out the step's own tokens."""

    def _record(self, block: Any, step: Any, outputs: Any) -> None:
        step.context_tokens -= sum(decode for _, decode in step.work.values())
        super()._record(block, step, outputs)


class KeysAreKept(LiveScheduler):
    """Request keys are never forgotten: memory grows for ever."""

    def _forget_finished(self, engine_ids: Any) -> None:
        pass


class StaleTelemetry(LiveScheduler):
    """Requests that clients ended stay in the counters."""

    def finish_requests(self, *args: Any, **kwargs: Any) -> Any:
        return AsyncScheduler.finish_requests(self, *args, **kwargs)


class OverlappingSteps(LiveScheduler):
    """With steps in flight together, their time is counted twice."""

    def _record(self, block: Any, step: Any, outputs: Any) -> None:
        self._last_end_ns = 0
        super()._record(block, step, outputs)


class IdleDuringAStep(LiveScheduler):
    """The hook sees idle when the last request ends, although a step is under way."""

    def _idle_if_empty(self) -> None:
        if self.get_num_unfinished_requests() == 0:
            self._hook.idle()


class AbortLeaksABlock(LiveScheduler):
    """One block of an aborted request is never given back."""

    def finish_requests(self, request_ids: Any, *args: Any, **kwargs: Any) -> Any:
        names = [request_ids] if isinstance(request_ids, str) else list(request_ids or ())
        for request in (self.requests.get(name) for name in names):
            if request is not None:
                (blocks,) = self.kv_cache_manager.get_blocks(request.request_id).blocks
                self.kv_cache_manager.block_pool.touch(blocks[:1])
        return super().finish_requests(request_ids, *args, **kwargs)


class SkipsATokenOfHeld(LiveScheduler):
    """A held request counts a token as computed that no step computed."""

    def _hold_excess(self) -> list[Any]:
        held = super()._hold_excess()
        for request in held:
            if request.num_computed_tokens < request.num_tokens - 1:
                request.num_computed_tokens += 1
        return held


def mutants() -> dict[str, type[LiveScheduler]]:
    """Return every mutant, by name."""
    return {
        name: value
        for name, value in globals().items()
        if isinstance(value, type) and issubclass(value, LiveScheduler) and value != LiveScheduler
    }
