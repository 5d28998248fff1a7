"""The limits, telemetry and energy of one replica."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from steppe.control.measurements import ClockWork
from steppe.energy.attribution import UJ_PER_J, BusyStep, Shares, TokenWeights, attribute
from steppe.energy.gpu_meters import EnergyHistory, window_over
from steppe.energy.window import EnergyWindow, Quality, worst
from steppe.engine.control_block import ControlBlock, EngineLimits, RequestWork, StepRecord
from steppe.errors import DeviceError
from steppe.fleet.messages import CHANGE_S, ReplicaReport, ReplicaTotals
from steppe.fleet.node.boundary import Boundary
from steppe.fleet.node.clock_limit_monitor import ClockLimitMonitor
from steppe.fleet.node.engine_watch import EngineWatch
from steppe.fleet.node.idle_draw import IdleDraw
from steppe.fleet.node.journal import AssignmentRecord
from steppe.fleet.node.step_work import step_work

_SERVING = ("awake", "draining")
NEGLIGIBLE_IDLE = 0.02
"""Idle time over busy time for which the idle draw need not be known: it hardly changes the energy.
"""
LONGEST_STEP_S = 30.0
"""The energy of a longer step is noted as it comes, s: meters keep a minute or more."""

_log = logging.getLogger(__name__)


class ReplicaMeter:
    """Limits, telemetry and energy of one replica.

    While the replica is busy, its energy is attributed up to the end of its last step; otherwise
    up to the last reading of its meters. So no step is cut in two. A step that ended after that
    reading waits for the next one: its energy is not known yet.

    Attributes:
        replica: Its name.
        block: The file shared with its engine.
        gpus: Meters of its GPUs, by UUID.
        phase: Its state: how energy counts that no step explains.
        clock_mhz: SM clock limit that is set, MHz; 0 for none.
        limits: Limits of its engine that are set.
        clocks: Whether each GPU keeps its clock limit, by UUID.
        controllable: Whether all its GPUs are reachable and keep their clock limits.
        missing: NVML indices of its GPUs that could not be opened.
        reported_s: End of the last window, s.
        watch: Whether its engine steps.
        share: Its share of the node beside the GPUs, 0 to 1.
        busy_share: Share of the last window in which its engine stepped, 0 to 1.
    """

    def __init__(
        self,
        replica: str,
        block: ControlBlock,
        gpus: Mapping[str, EnergyHistory],
        since_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        boundary: Boundary | None = None,
        model: str = "",
    ) -> None:
        """Begin to meter.

        Args:
            replica: Name of the replica.
            block: The file shared with its engine.
            gpus: Meters of its GPUs, by UUID.
            since_s: From when on, s; when absent, from the first instant that all meters cover, or
                from now on where none has a reading yet.
            clock: Returns monotonic time, s.
            boundary: What its joules enclose beside the GPUs; None for nothing.
            model: Name under which clients request its model.
        """
        self.replica, self.block, self.gpus, self.model = replica, block, gpus, model
        self._clock = clock
        self._boundary, self.share = boundary, 1.0
        self._beside: list[EnergyWindow] = []
        self.busy_share = 0.0
        self.phase = "starting"
        self._freezing_s: float | None = None
        self.watch = EngineWatch()
        self.clock_mhz = 0
        self.limits = EngineLimits()
        self._settled_mhz: int | None = None
        self.clocks = {uuid: ClockLimitMonitor() for uuid in gpus}
        self._free: set[str] = set()
        self.controllable = True
        self.missing: tuple[int, ...] = ()
        self._lost: Set[str] = frozenset()
        if since_s is None:
            first_s = max(meter.covered_until_s for meter in gpus.values())
            since_s = first_s if math.isfinite(first_s) else clock()
        self.reported_s = self._attributed_s = self._read_s = since_s
        self._read_j = self._owed_j = 0.0
        self._idle = IdleDraw(since_s)
        self._tokens = block.read_telemetry().output_tokens

    def enter(self, phase: str, now_s: float) -> None:
        """Change the phase; an engine that is put to sleep still ends its present step."""
        if phase == "asleep" and self.phase in _SERVING:
            self._freezing_s = now_s
        if self.phase == "starting":
            self._idle.skip(now_s)
        self.phase = phase

    def set_engine_limits(self, limits: EngineLimits) -> None:
        """Publish limits, if they are new."""
        if limits != self.limits:
            self.limits = limits
            self.block.write_limits(limits)

    def free_clock(self, uuid: str, *, is_free: bool) -> None:
        """Note whether the clock of a GPU cannot be limited, for lack of permission.

        Then there is no limit that it has to keep.
        """
        if not is_free:
            self._free.discard(uuid)
            return
        if uuid not in self._free:
            _log.warning("%s: no permission for the clock of %s", self.replica, uuid)
        self._free.add(uuid)
        self.clocks[uuid] = ClockLimitMonitor()
        self.clock_mhz = 0

    def check_clocks(
        self, confirmed_mhz: Mapping[str, int] | None, lost: Set[str], now_s: float
    ) -> None:
        """Update whether the GPUs are reachable and keep their clock limits.

        Args:
            confirmed_mhz: Clock limits that hold, by UUID, MHz; None: they cannot be read.
            lost: GPUs that fell off the bus.
            now_s: Time on the node's clock, s.
        """
        for uuid, monitor in self.clocks.items():
            if confirmed_mhz is None:
                monitor.unreachable(now_s)
            else:
                monitor.confirm(confirmed_mhz.get(uuid), now_s)
        if any(monitor.is_overdue(now_s) for monitor in self.clocks.values()):
            # Report what holds, so that the plan sets its limit again.
            self.clock_mhz = max(monitor.confirmed_mhz or 0 for monitor in self.clocks.values())
        self._lost = lost & self.gpus.keys()
        is_there = not self._lost and not self.missing
        controllable = is_there and all(monitor.keeps_limit for monitor in self.clocks.values())
        if controllable != self.controllable:
            state = "under control again" if controllable else "lost or exceed their clock limit"
            _log.warning("%s: its GPUs are %s", self.replica, state)
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

    def resume(self, record: AssignmentRecord, opened: Set[int]) -> None:
        """Continue from where the meter of a dead node actor ended.

        Args:
            record: Its end.
            opened: NVML indices of the GPUs that this node actor could open; others are missing.
        """
        self.missing = tuple(index for index in record.gpu_indices if index not in opened)
        self.phase, self.clock_mhz = record.phase, record.clock_mhz
        self._freezing_s = self.reported_s
        self.limits = EngineLimits(record.batch_limit, record.tokens_per_step, record.holds)
        self.block.read_to, self._tokens = record.read_to, record.output_tokens
        self._owed_j = record.owed_j

    def record(
        self, gpu_indices: tuple[int, ...], counters_j: dict[str, float]
    ) -> AssignmentRecord:
        """Return what the next node actor needs to continue from the last report.

        Args:
            gpu_indices: NVML indices of its GPUs.
            counters_j: Their energy counters at `reported_s`, by UUID, J.
        """
        owed = self._window(self._attributed_s, self.reported_s)
        return AssignmentRecord(
            replica=self.replica,
            gpu_indices=gpu_indices,
            phase=self.phase,
            clock_mhz=self.clock_mhz,
            batch_limit=self.limits.batch_limit,
            read_to=self.block.read_to,
            output_tokens=self._tokens,
            reported_s=self.reported_s,
            owed_j=self._owed_j + owed.energy_j,
            counters_j=counters_j,
            tokens_per_step=self.limits.tokens_per_step,
            holds=self.limits.hold,
            model=self.model,
        )

    def close(self, weights: TokenWeights) -> ReplicaReport:
        """Return the last report: its engine is dead, so energy without a step is transition."""
        self.phase = "gone"
        report = self.report(weights, is_last=True)
        self.block.close()
        return report

    def report(self, weights: TokenWeights, *, is_last: bool = False) -> ReplicaReport:
        """Close the window that began with the last report.

        Args:
            weights: What tokens cost.
            is_last: Attribute all energy up to now to the steps so far, the beginning of a step in
                progress included.
        """
        window = self._window(self.reported_s, self._covered_s(self.reported_s))
        telemetry = self.block.read_telemetry()  # first, or a step that ends now is in neither
        self.watch.look(self.block, telemetry, self._clock(), may_step=self.phase in _SERVING)
        batch = self.block.read_steps(math.inf if is_last else window.end_s)
        if batch.lost:
            self._idle.skip(window.end_s)
        stepping = telemetry.running > 0 and self._may_step(batch.steps, window.end_s)
        stepping, since_s = stepping or batch.has_later, self._attributed_s
        attribute_steps = self._attribute_ended if stepping and not is_last else self._attribute
        shares = attribute_steps(batch.steps, window.end_s, weights)
        attributed = self._window(since_s, self._attributed_s)
        stepped_s = sum(step.end_s - step.start_s for step in batch.steps)
        self.busy_share = min(1.0, stepped_s / max(self._attributed_s - since_s, 1e-3))
        beside, self._beside = self._beside, []
        work = None if batch.lost else self._work_of(batch.steps, attributed, shares, beside)
        new_tokens = telemetry.output_tokens - self._tokens
        self._tokens, self.reported_s = telemetry.output_tokens, window.end_s
        span_s = window.end_s - window.start_s
        is_metered = window.whole_j > 0 and span_s > 0 and not self._lost and not self.missing
        quality = worst((window.quality, attributed.quality, *(part.quality for part in beside)))
        return ReplicaReport(
            replica=self.replica,
            clock_mhz=self.clock_mhz,
            batch_limit=self.limits.batch_limit,
            draw_w=window.whole_j / span_s if is_metered else None,
            energy_j=window.energy_j,
            error_j=window.error_j,
            quality=Quality.ESTIMATED if batch.lost else quality,
            running=telemetry.running,
            output_tokens=max(0, new_tokens),
            requests_uj=dict(shares.requests_uj),
            tokens=_tokens_of(batch.steps),
            idle_uj=shares.idle_uj,
            transition_uj=shares.transition_uj,
            max_idle_w=self._idle.max_idle_w,
            controllable=self.controllable,
            stepping=stepping,
            wrong_inside=window.wrong_inside,
            waiting=telemetry.waiting,
            tokens_per_step=self.limits.tokens_per_step,
            stopped=self.watch.is_stopped,
            silent_s=self.watch.silent_s,
            work=work if is_metered else None,
            clock_is_free=bool(self._free),
            beside_j=sum(part.energy_j for part in beside),
            beside_error_j=sum(part.error_j for part in beside),
            neighbour_j=window.neighbour_j,
        )

    def _work_of(
        self,
        steps: Sequence[StepRecord],
        window: EnergyWindow,
        shares: Shares,
        beside: Sequence[EnergyWindow],
    ) -> ClockWork | None:
        """Return the work of the steps that the energy of a window was attributed to.

        The clock limit has to be the same, and to hold, at both ends of the window. The batch limit
        may change: the work has its sequences.
        """
        before_mhz, self._settled_mhz = self._settled_mhz, self._holding_mhz()
        if not steps or self._settled_mhz is None or before_mhz != self._settled_mhz:
            return None
        busy_s = sum(step.end_s - step.start_s for step in steps)
        beside_s = sum(part.end_s - part.start_s for part in beside)
        beside_w = sum(part.energy_j for part in beside) / beside_s if beside_s > 0 else 0.0
        gpus_j = shares.requests_uj.total() / UJ_PER_J - beside_w * busy_s
        work = step_work(self.clock_mhz, steps, max(0.0, gpus_j))
        idle_s = window.end_s - window.start_s - work.busy_s
        is_busy = idle_s <= NEGLIGIBLE_IDLE * work.busy_s
        return work if is_busy or self._idle.is_known else None

    def _holding_mhz(self) -> int | None:
        """Return the clock limit of a replica that serves; None while it may not hold yet."""
        holds = all(clock.holds for clock in self.clocks.values())
        if self.phase not in _SERVING or self._free or not holds:
            return None
        return self.clock_mhz

    def _may_step(self, ended: Sequence[StepRecord], now_s: float) -> bool:
        """Return whether a step may be in progress, such as the last before it fell asleep."""
        if self.phase != "asleep" or self._freezing_s is None:
            return self.phase in _SERVING
        if now_s > self._freezing_s + CHANGE_S or any(
            step.end_s > self._freezing_s for step in ended
        ):
            self._freezing_s = None
        return self._freezing_s is not None

    def _attribute_ended(
        self, steps: Sequence[StepRecord], until_s: float, weights: TokenWeights
    ) -> Shares:
        """Attribute up to the end of the last step: another one has begun since."""
        if steps:
            return self._attribute(steps, steps[-1].end_s, weights)
        if until_s - self._attributed_s > LONGEST_STEP_S:
            window = self._window(self._attributed_s, until_s)
            self._owed_j += window.energy_j + self._beside_j(window)
            self._attributed_s = until_s
        return Shares()

    def _attribute(
        self, steps: Sequence[StepRecord], until_s: float, weights: TokenWeights
    ) -> Shares:
        until_s = max(self._attributed_s, until_s)
        window = self._window(self._attributed_s, until_s)
        self._attributed_s = until_s
        span_s = window.end_s - window.start_s
        busy = [_busy_step(step, weights) for step in steps]
        if self.phase == "starting":
            self._idle.skip(until_s)
        else:
            self._idle.learn(steps, window.start_s, until_s, self._window)
        beside_j = self._beside_j(window)
        beside_w = beside_j / span_s if span_s > 0 else 0.0
        energy_j = window.energy_j + beside_j + self._owed_j
        shares = attribute(energy_j, span_s, self._idle.idle_w + beside_w, busy)
        self._owed_j = 0.0
        if self.phase in ("starting", "gone"):
            return Shares(shares.requests_uj, 0, shares.transition_uj + shares.idle_uj)
        return shares

    def _beside_j(self, gpus: EnergyWindow) -> float:
        """Return the energy beside the GPUs in a window, J, and note it for the next report."""
        if self._boundary is None:
            return 0.0
        beside = self._boundary.beside(gpus, self.share)
        if beside.energy_j > 0:
            self._beside.append(beside)
        return beside.energy_j

    def _window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return the energy between two instants; 0 J where its meters do not reach so far back.

        Meters keep some minutes, and one of them had no reading in that time. The energy is left
        out of the accounts rather than invented.
        """
        try:
            window = window_over(tuple(self.gpus.values()), start_s, end_s)
            return replace(window, quality=Quality.ESTIMATED) if self.missing else window
        except DeviceError as error:
            if end_s > start_s:
                _log.warning("%s: %.0f s without energy: %s", self.replica, end_s - start_s, error)
            return EnergyWindow(start_s, end_s, 0.0, 0.0, Quality.ESTIMATED)

    def _covered_s(self, since_s: float) -> float:
        """Return until when all meters have readings, s; at least `since_s`.

        A GPU that is lost is left out: what it may have drawn is part of the error.
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
