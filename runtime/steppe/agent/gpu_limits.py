"""The limits of one GPU: recorded, set, rate-limited, checked and undone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from steppe.agent.baseline import AS_FOUND, Baseline
from steppe.agent.gpu_claim import GpuClaim
from steppe.agent.lease_file import HeldLimits
from steppe.agent.loss_policy import ClockFloor, PowerFloor
from steppe.agent.power_schedule import GpuPowerSchedule
from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_processes import compute_processes
from steppe.device.pacing import CHANGE_PERIOD_S, ClockPace
from steppe.errors import (
    AgentError,
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    SteppeError,
)

EMPTY_S = 2.0
"""A GPU of a lost holder without a process for so long is free, s; an engine that is started again
comes back within that time."""

_log = logging.getLogger(__name__)


class GpuLimiter:
    """One GPU, and the limits that this agent set on it.

    Every limit is recorded before it is set. The record is removed if the setter certainly did
    nothing. The claim keeps other agents away until every limit is undone.

    Attributes:
        knobs: The GPU.
        held: The limits that this agent set.
        is_wanted: Whether a client set a limit since the last undo; only then a floor applies.
        is_confirmed: Whether the SM clock has been observed to obey the limit in force.
        refusal: Error of the last attempt to set or undo a limit; None after a success.
        clock_fault: Error of the last check of the SM clock; None if it obeys.
        schedule: The board power limits that it follows; None if it follows none.
    """

    def __init__(
        self,
        knobs: NvmlGpu,
        held: HeldLimits,
        claim: GpuClaim,
        record: Callable[[], None],
        baseline: Baseline = AS_FOUND,
    ) -> None:
        """Take over a GPU.

        Args:
            knobs: The GPU.
            held: The limits that a predecessor left on it.
            claim: The right to limit it.
            record: Writes the limits of all GPUs to the lease file.
            baseline: What it returns to when its limits are undone.
        """
        self.knobs = knobs
        self.held = held
        self.is_wanted = False
        self.is_confirmed = True
        self.refusal: str | None = None
        self.clock_fault: str | None = None
        self._pace = ClockPace()
        self._set_again_s = -math.inf
        self.schedule: GpuPowerSchedule | None = None
        self._step_s = -math.inf
        self._had_processes, self._empty_since_s = False, math.inf
        self._before_floor: HeldLimits | None = None
        self._is_floor_over = False
        self._claim, self._record, self._baseline = claim, record, baseline

    @property
    def fault(self) -> str | None:
        """The error to show, if there is one."""
        return self.refusal or self.clock_fault

    @property
    def due_s(self) -> float:
        """When the pending clock limit may be set, s; infinite if none is pending."""
        return self._pace.due_s

    @property
    def step_s(self) -> float:
        """When the next step of the schedule begins, s; infinite without one."""
        return math.inf if self.schedule is None else self.schedule.next_s(self._step_s)

    @property
    def in_force_mhz(self) -> int | None:
        """The clock limit that the GPU accepted last, MHz; None if the clock is free."""
        return self._pace.in_force_mhz

    def request_clock_limit(self, clock_mhz: int, now_s: float) -> int:
        """Set a clock limit now or when it is due; return the supported clock, MHz.

        Once it is set, the board power limit of a floor is removed.

        Raises:
            DeviceError: The GPU refused.
        """
        if not self.knobs.capabilities.has_clock_limit:
            raise NotSupportedError(f"asked for {clock_mhz} MHz, the GPU has no clock limit")
        accepted_mhz = self.knobs.capabilities.nearest_clock_mhz(clock_mhz)
        self.is_wanted = True
        self._pace = self._pace.request(accepted_mhz)
        if self._pace.waiting_mhz is None or self._pace.due_s <= now_s:
            self.apply_waiting(now_s)
        return accepted_mhz

    def apply_waiting(self, now_s: float) -> None:
        """Set the pending clock limit; one that is refused is dropped.

        Raises:
            DeviceError: The GPU refused.
        """
        clock_mhz = self._pace.waiting_mhz
        if clock_mhz is not None:
            after, self._pace = self._pace.applied(now_s), replace(self._pace, waiting_mhz=None)
            held = replace(self.held, clock_mhz=clock_mhz)
            self._set(held, lambda: self.knobs.set_clock_limit(clock_mhz))
            self._pace, self.is_confirmed = after, False
        self._is_floor_over = True
        self._leave_power_floor()

    def retry(self, now_s: float) -> None:
        """Leave a power floor that is over, and follow the schedule, if that failed before.

        Raises:
            DeviceError: The GPU refused.
        """
        if self._is_floor_over:
            self._leave_power_floor()
        if self.schedule is not None:
            self.follow_schedule(now_s)

    def set_power_limit(self, limit_w: float) -> float:
        """Set the board power limit unless it is already set; return the limit in force, W.

        Raises:
            DeviceError: The GPU refused.
        """
        self.schedule, self.is_wanted = None, True
        in_force_w = self._limit_power(limit_w)
        self._before_floor = None
        return in_force_w

    def follow(self, schedule: GpuPowerSchedule, now_s: float) -> None:
        """Let the board power limit follow a schedule from now on.

        Raises:
            DeviceError: The GPU refused; it is tried again.
        """
        self.schedule, self.is_wanted, self._before_floor = schedule, True, None
        self.follow_schedule(now_s)

    def follow_schedule(self, now_s: float) -> None:
        """Set the limit of the present step.

        Raises:
            DeviceError: The GPU refused.
        """
        assert self.schedule is not None, "only a GPU with a schedule follows it"
        self._step_s = now_s
        self._limit_power(self.schedule.limit_w(now_s))

    def is_schedule_over(self, now_s: float) -> bool:
        """Whether nothing that a lost holder ran on the GPU is left to limit."""
        if self.schedule is None:
            return False
        if now_s >= self.schedule.until_s:
            return True
        if not self._had_processes or self._processes() != frozenset():
            self._empty_since_s = math.inf
            return False
        self._empty_since_s = min(self._empty_since_s, now_s)
        return now_s >= self._empty_since_s + EMPTY_S

    def end_schedule(self) -> None:
        """Restore the board power limit at the end of the schedule of a lost holder.

        Raises:
            DeviceError: The GPU refused.
        """
        self.schedule = None
        self._undo_power()
        self.refusal = None
        self._release_claim()

    def check(self, now_s: float) -> None:
        """Check that the clock obeys; set the limit again if another process removed it.

        A limit that is to be undone is not set again.

        Raises:
            DeviceError: The GPU refused.
        """
        limit_mhz = self._pace.in_force_mhz
        if limit_mhz is None or not self.is_wanted:
            self.clock_fault = None
            return
        if self._pace.waiting_mhz is not None:
            return
        clock_mhz = self.knobs.sm_clock_mhz()
        if self.knobs.capabilities.obeys_clock_limit(clock_mhz, limit_mhz):
            self.clock_fault = None
            # Under the board limit of a floor, a low clock does not prove the clock limit.
            self.is_confirmed = self._before_floor is None
        elif now_s >= max(self._pace.changed_s, self._set_again_s) + CHANGE_PERIOD_S:
            self.is_confirmed, self._set_again_s = False, now_s
            self.knobs.set_clock_limit(limit_mhz)
            self.clock_fault = f"the SM clock is {clock_mhz} MHz, limited to {limit_mhz} MHz"
            self._pace = replace(self._pace, changed_s=now_s)

    def note_refusal(self, error: SteppeError) -> None:
        """Keep the error of a setter, and log it if it is new."""
        if self.refusal != str(error):
            _log.error("GPU %s: %s", self.held.uuid, error)
        self.refusal = str(error)

    def note_clock_fault(self, error: SteppeError) -> None:
        """Keep the error of a clock check, and log it if it is new."""
        if self.clock_fault != str(error):
            _log.error("GPU %s: %s", self.held.uuid, error)
        self.clock_fault = str(error)

    def drop_waiting(self) -> None:
        """Drop the pending clock limit."""
        self._pace = replace(self._pace, waiting_mhz=None)

    def undo(self, now_s: float) -> None:
        """Undo the limits at once; the caller records what is left.

        Raises:
            DeviceError: A limit could not be undone; it stays in `held`.
        """
        self.schedule = None
        self.lose(now_s)

    def lose(self, now_s: float) -> None:
        """Undo the limits of a lost holder; a schedule goes on to its end, and only then ends.

        Raises:
            DeviceError: A limit could not be undone; it stays in `held`.
        """
        self.drop_waiting()
        if self.is_wanted and self.schedule is not None:
            self._had_processes = bool(self._processes())
        self.is_wanted = False
        if not self.held.is_free:
            self._claim.take()
        try:
            if self.held.clock_mhz is not None:
                self._free_clock()
                self._pace, self.is_confirmed = self._pace.undone(now_s), True
                self.held = replace(self.held, clock_mhz=None)
        finally:
            if self.schedule is None:
                self._undo_power()
        self.refusal = None
        self._release_claim()

    def lower(self, to: ClockFloor | PowerFloor, now_s: float) -> None:
        """Apply a floor at once; a limit that is already lower stays.

        Raises:
            DeviceError: The GPU refused.
        """
        self.drop_waiting()
        match to:
            case ClockFloor(clock_mhz):
                self._pace = replace(self._pace, changed_s=-math.inf)
                present_mhz = self._pace.in_force_mhz
                self.request_clock_limit(min(clock_mhz, present_mhz or clock_mhz), now_s)
            case PowerFloor(limit_w):
                before = self.held
                if self.schedule is not None:  # what it set is not for the next holder
                    before = HeldLimits(before.uuid, before.clock_mhz)
                self._before_floor, self._is_floor_over = self._before_floor or before, False
                self.schedule = None
                self.is_confirmed = self.in_force_mhz is None
                self._limit_power(min(limit_w, self.knobs.power_limit_w()))

    def _limit_power(self, limit_w: float) -> float:
        self._claim.take()  # before the limit is read: it could be that of another agent
        accepted_w = self.knobs.capabilities.nearest_power_limit_w(limit_w)
        present_w = self.knobs.power_limit_w()
        if abs(present_w - accepted_w) >= 1.0:
            before_w = self.held.power_limit_before_w or present_w
            held = replace(self.held, power_limit_w=accepted_w, power_limit_before_w=before_w)
            self._set(held, lambda: self.knobs.set_power_limit(accepted_w))
        self.refusal = None
        return self.knobs.enforced_power_limit_w()

    def _leave_power_floor(self) -> None:
        """Restore the board power limit that was set before a floor."""
        before = self._before_floor
        if before is None:
            return
        if before.power_limit_w is None:
            self._undo_power()
            with suppress(AgentError):  # a record that names too much is safe
                self._record()
        else:
            self._limit_power(before.power_limit_w)
        self._before_floor = self.refusal = None

    def _processes(self) -> frozenset[int] | None:
        """Return the processes on the GPU; None if unknown."""
        try:
            return compute_processes(self.knobs.index)
        except DeviceError:
            return None

    def _free_clock(self) -> None:
        if self._baseline.clock_mhz is None:
            self.knobs.reset_clock_limit()
        else:
            self.knobs.set_clock_limit(self._baseline.clock_mhz)

    def _undo_power(self) -> None:
        if self.held.power_limit_before_w is not None:
            before_w, baseline_w = self.held.power_limit_before_w, self._baseline.power_limit_w
            self.knobs.set_power_limit(before_w if baseline_w is None else baseline_w)
            self.held = HeldLimits(self.held.uuid, self.held.clock_mhz)
        self._before_floor = None

    def _set(self, held: HeldLimits, setter: Callable[[], object]) -> None:
        self._claim.take()
        before, self.held = self.held, held
        try:
            self._record_over(before)
            setter()
        except (NoPermissionError, NotSupportedError, OutOfRangeError, AgentError) as error:
            self.held = before
            self.note_refusal(error)
            with suppress(AgentError):  # a record that names too much is safe
                self._record()
            self._release_claim()
            raise
        except DeviceError as error:
            self.note_refusal(error)
            raise
        self.refusal = None

    def _record_over(self, before: HeldLimits) -> None:
        """Record the limits; if that fails, the old record may be enough to undo them."""
        try:
            self._record()
        except AgentError:
            if not self.held.is_undone_like(before):
                raise

    def _release_claim(self) -> None:
        if self.held.is_free:
            self._claim.release()
