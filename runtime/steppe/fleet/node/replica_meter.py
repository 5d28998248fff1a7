"""One replica as its node sees it: limits that go in, steps and joules that come out."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from steppe.energy.attribution import BusyStep, Shares, TokenWeights, attribute
from steppe.energy.gpu_meters import EnergyHistory, window_over
from steppe.energy.window import EnergyWindow, Quality, worst
from steppe.engine.control_block import ControlBlock, EngineLimits, RequestWork, StepRecord
from steppe.errors import DeviceError
from steppe.fleet.messages import CHANGE_S, ReplicaReport, ReplicaTotals
from steppe.fleet.node.clock_limit_monitor import ClockLimitMonitor
from steppe.fleet.node.idle_draw import IdleDraw
from steppe.fleet.node.journal import AssignmentRecord

_SERVING = ("awake", "draining")
LONGEST_LOOK_BACK_S = 30.0
"""Joules of a step that takes longer are noted down, s: meters forget after a minute or more."""

_log = logging.getLogger(__name__)


class ReplicaMeter:
    """Limits, telemetry and energy of one replica.

    Its energy is attributed up to the end of its last step while it is busy, and up to the
    last reading of its meters while it is not, so that no step is cut in two. A step that ended
    after that reading waits for the next one: its joules are not known yet.
    """

    def __init__(
        self,
        replica: str,
        block: ControlBlock,
        gpus: Mapping[str, EnergyHistory],
        since_s: float | None = None,
    ) -> None:
        """Begin to meter.

        Args:
            replica: Name of the replica.
            block: The file shared with its engine.
            gpus: Meters of its GPUs, by UUID.
            since_s: From when on, s; when absent, from the first instant that all meters cover, or
                from now on where none was read yet.
        """
        self.replica, self.block, self.gpus = replica, block, gpus
        self.phase = "starting"
        self._freezing_s: float | None = None
        self.clock_mhz = 0
        self.batch_limit = 0
        self.clocks = {uuid: ClockLimitMonitor() for uuid in gpus}
        self.controllable = True
        self.missing: tuple[int, ...] = ()
        self._lost: Set[str] = frozenset()
        if since_s is None:
            first_s = max(meter.covered_until_s for meter in gpus.values())
            since_s = first_s if math.isfinite(first_s) else time.monotonic()
        self.seen_s = self._attributed_s = self._read_s = since_s
        self._read_j = self._owed_j = 0.0
        self._idle = IdleDraw(since_s)
        self._tokens = block.read_telemetry().output_tokens

    def enter(self, phase: str, now_s: float) -> None:
        """Count energy by another phase; put to sleep, its engine goes on to the end of a step."""
        if phase == "asleep" and self.phase in _SERVING:
            self._freezing_s = now_s
        if self.phase == "starting":
            self._idle.skip(now_s)
        self.phase = phase

    def set_batch_limit(self, batch_limit: int) -> None:
        """Publish a batch limit; it also binds the requests that run."""
        if batch_limit != self.batch_limit:
            self.batch_limit = batch_limit
            self.block.write_limits(EngineLimits(batch_limit=batch_limit))

    def look_at_clocks(
        self, confirmed_mhz: Mapping[str, int] | None, lost: Set[str], now_s: float
    ) -> None:
        """Judge whether the GPUs are there and keep their clock limits.

        Args:
            confirmed_mhz: Clock limits that are known to hold, by UUID, MHz; None: nobody can tell.
            lost: GPUs that fell off the bus.
            now_s: Time on the node's clock, s.
        """
        for uuid, clock in self.clocks.items():
            if confirmed_mhz is None:
                clock.note_unreachable(now_s)
            else:
                clock.look(confirmed_mhz.get(uuid), now_s)
        if any(clock.is_overdue(now_s) for clock in self.clocks.values()):
            self.clock_mhz = max(clock.confirmed_mhz or 0 for clock in self.clocks.values())
        self._lost = lost & self.gpus.keys()
        is_there = not self._lost and not self.missing
        controllable = is_there and all(clock.keeps_limit for clock in self.clocks.values())
        if controllable != self.controllable:
            _log.warning(
                "%s: its GPUs %s",
                self.replica,
                "are controllable again" if controllable else "are not",
            )
        self.controllable = controllable

    def reading(self) -> ReplicaTotals:
        """Return the running totals since the first call, up to the last reading of the meters."""
        window = self._window(self._read_s, self._covered_s(self._read_s))
        self._read_s = window.end_s
        self._read_j += window.energy_j
        telemetry = self.block.read_telemetry()
        return ReplicaTotals(
            time_s=window.end_s,
            energy_j=self._read_j,
            output_tokens=telemetry.output_tokens,
            prompt_tokens=telemetry.prompt_tokens,
            steps=telemetry.steps,
            error_j=window.error_j,
            quality=window.quality,
            running=telemetry.running,
            waiting=telemetry.waiting,
        )

    def resume(self, memory: AssignmentRecord, here: Set[int]) -> None:
        """Go on where the seat of a dead node actor ended.

        Args:
            memory: How it ended.
            here: NVML indices of the GPUs that its successor could open; the others are missing.
        """
        self.missing = tuple(index for index in memory.gpu_indices if index not in here)
        self.phase, self.clock_mhz = memory.phase, memory.clock_mhz
        self._freezing_s = self.seen_s
        self.batch_limit = memory.batch_limit
        self.block.read_to, self._tokens = memory.read_to, memory.output_tokens
        self._owed_j = memory.owed_j

    def memory(
        self, gpu_indices: tuple[int, ...], counters_j: dict[str, float]
    ) -> AssignmentRecord:
        """Return what a successor needs to go on from the last report.

        Args:
            gpu_indices: NVML indices of its GPUs.
            counters_j: What their counters showed at `seen_s`, by UUID, J.
        """
        return AssignmentRecord(
            replica=self.replica,
            gpu_indices=gpu_indices,
            phase=self.phase,
            clock_mhz=self.clock_mhz,
            batch_limit=self.batch_limit,
            read_to=self.block.read_to,
            output_tokens=self._tokens,
            seen_s=self.seen_s,
            owed_j=self._owed_j + self._window(self._attributed_s, self.seen_s).energy_j,
            counters_j=counters_j,
        )

    def close(self, weights: TokenWeights) -> ReplicaReport:
        """Return the last report: its engine is dead, and what is left of its energy lost."""
        self.phase = "gone"
        report = self.report(weights, is_last=True)
        self.block.close()
        return report

    def report(self, weights: TokenWeights, *, is_last: bool = False) -> ReplicaReport:
        """Close the window that began with the last report.

        Args:
            weights: What tokens cost.
            is_last: Attribute all up to now, the beginning of a step under way included, to all
                steps so far.
        """
        seen = self._window(self.seen_s, self._covered_s(self.seen_s))
        telemetry = self.block.read_telemetry()  # first, or a step that ends now is in neither
        batch = self.block.read_steps(math.inf if is_last else seen.end_s)
        if batch.lost:
            self._idle.skip(seen.end_s)
        stepping = telemetry.running > 0 and self._may_step(batch.steps, seen.end_s)
        stepping, since_s = stepping or batch.has_later, self._attributed_s
        attribute = self._attribute_ended if stepping and not is_last else self._attribute
        shares = attribute(batch.steps, seen.end_s, weights)
        shared = self._window(since_s, self._attributed_s)
        fresh = telemetry.output_tokens - self._tokens
        self._tokens, self.seen_s = telemetry.output_tokens, seen.end_s
        span_s = seen.end_s - seen.start_s
        is_read = seen.energy_j > 0 and span_s > 0 and not self._lost and not self.missing
        return ReplicaReport(
            replica=self.replica,
            clock_mhz=self.clock_mhz,
            batch_limit=self.batch_limit,
            draw_w=seen.energy_j / span_s if is_read else None,
            energy_j=seen.energy_j,
            error_j=seen.error_j,
            quality=Quality.ESTIMATED if batch.lost else worst((seen.quality, shared.quality)),
            running=telemetry.running,
            waiting=telemetry.waiting,
            output_tokens=max(0, fresh),
            requests_uj=dict(shares.requests_uj),
            tokens=_tokens_of(batch.steps),
            idle_uj=shares.idle_uj,
            transition_uj=shares.transition_uj,
            max_idle_w=self._idle.max_idle_w,
            controllable=self.controllable,
            stepping=stepping,
            wrong_inside=seen.wrong_inside,
        )

    def _may_step(self, ended: Sequence[StepRecord], now_s: float) -> bool:
        """Tell whether a step may be under way: also the one in which it was put to sleep."""
        if self.phase != "asleep" or self._freezing_s is None:
            return self.phase in _SERVING
        if now_s > self._freezing_s + CHANGE_S or any(
            step.end_s > self._freezing_s for step in ended
        ):
            self._freezing_s = None
        return self._freezing_s is not None

    def _attribute_ended(
        self, steps: Sequence[StepRecord], seen_s: float, weights: TokenWeights
    ) -> Shares:
        """Attribute up to the end of the last step: another one began since."""
        if steps:
            return self._attribute(steps, steps[-1].end_s, weights)
        if seen_s - self._attributed_s > LONGEST_LOOK_BACK_S:
            self._owed_j += self._window(self._attributed_s, seen_s).energy_j
            self._attributed_s = seen_s
        return Shares()

    def _attribute(
        self, steps: Sequence[StepRecord], until_s: float, weights: TokenWeights
    ) -> Shares:
        until_s = max(self._attributed_s, until_s)
        window = self._window(self._attributed_s, until_s)
        self._attributed_s = until_s
        span_s = window.end_s - window.start_s
        done = [_busy_step(step, weights) for step in steps]
        if self.phase == "starting":
            self._idle.skip(until_s)
        else:
            self._idle.learn(steps, window.start_s, until_s, self._window)
        shares = attribute(window.energy_j + self._owed_j, span_s, self._idle.idle_w, done)
        self._owed_j = 0.0
        if self.phase in ("starting", "gone"):
            return Shares(shares.requests_uj, 0, shares.transition_uj + shares.idle_uj)
        return shares

    def _window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants; none where its meters do not reach so far back.

        They forget after some minutes, in which one of them was silent. Joules that nobody
        remembers are left out of the books: better than to make them up.
        """
        try:
            window = window_over(tuple(self.gpus.values()), start_s, end_s)
            return replace(window, quality=Quality.ESTIMATED) if self.missing else window
        except DeviceError as error:
            if end_s > start_s:
                _log.warning("%s: %.0f s without energy: %s", self.replica, end_s - start_s, error)
            return EnergyWindow(start_s, end_s, 0.0, 0.0, Quality.ESTIMATED)

    def _covered_s(self, since_s: float) -> float:
        """Return until when all meters cover its energy, s; `since_s` where none does yet.

        Nobody waits for a GPU that is lost: what it may have drawn is part of the error.
        """
        covered_s = [m.covered_until_s for uuid, m in self.gpus.items() if uuid not in self._lost]
        return max(since_s, min(covered_s, default=since_s))


def _busy_step(step: StepRecord, weights: TokenWeights) -> BusyStep:
    by_key: defaultdict[int, float] = defaultdict(float)
    for work in step.work:  # a request may have several sequences in a step
        by_key[work.key] += _weight(work, weights)
    return BusyStep(step.end_s - step.start_s, by_key)


def _weight(work: RequestWork, weights: TokenWeights) -> float:
    return (
        weights.sequence + weights.prompt * work.prompt_tokens + weights.decode * work.decode_tokens
    )


def _tokens_of(steps: Sequence[StepRecord]) -> dict[int, tuple[int, int]]:
    prompt: Counter[int] = Counter()
    output: Counter[int] = Counter()
    for step in steps:
        for work in step.work:
            prompt[work.key] += work.prompt_tokens
            output[work.key] += work.output_tokens
    return {key: (prompt[key], output[key]) for key in prompt}


def block_path(folder: Path, replica: str) -> Path:
    """Return where a replica's control block lies."""
    return folder / f"{replica}.block"
