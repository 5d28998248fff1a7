"""The limits of one GPU: set with a record, paced, checked, and undone."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from steppe.agent.gpu_claim import GpuClaim
from steppe.agent.lease_file import HeldLimits
from steppe.agent.loss_policy import ClockFloor, PowerFloor
from steppe.device.nvml import NvmlGpu
from steppe.device.pacing import CHANGE_PERIOD_S, ClockPace
from steppe.errors import (
    AgentError,
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    OutOfRangeError,
    SteppeError,
)

_log = logging.getLogger(__name__)


class LimitedGpu:
    """One GPU, with the limits on it that are ours.

    Every limit is recorded before it is set; the record is taken back when the setter
    certainly did nothing. Other agents are kept away until every limit is undone.

    Attributes:
        knobs: The GPU.
        held: Its limits that are ours.
        is_wanted: Whether somebody set a limit since the last undo; a floor goes only there.
        is_confirmed: Whether the SM clock has been seen to obey the limit in force.
        refusal: What went wrong when a limit was last set or undone, until that works again.
        doubt: What is wrong with the clock, or with reading it, as the last check saw it.
    """

    def __init__(
        self, knobs: NvmlGpu, held: HeldLimits, claim: GpuClaim, record: Callable[[], None]
    ) -> None:
        """Take over a GPU.

        Args:
            knobs: The GPU.
            held: What a predecessor left on it.
            claim: The right to limit it.
            record: Writes the limits of all GPUs to the lease file.
        """
        self.knobs = knobs
        self.held = held
        self.is_wanted = False
        self.is_confirmed = True
        self.refusal: str | None = None
        self.doubt: str | None = None
        self._pace = ClockPace()
        self._set_again_s = -math.inf
        self._before_floor: HeldLimits | None = None
        self._is_floor_over = False
        self._claim, self._record = claim, record

    @property
    def fault(self) -> str | None:
        """What is wrong, if anything is."""
        return self.refusal or self.doubt

    @property
    def due_s(self) -> float:
        """When the clock limit that waits may be set, s; infinite where none waits."""
        return self._pace.due_s

    @property
    def in_force_mhz(self) -> int | None:
        """The clock limit that the GPU took last, MHz; None where the clock is free."""
        return self._pace.in_force_mhz

    def wish_clock(self, clock_mhz: int, now_s: float) -> int:
        """Set a clock limit now or when it is due; return the supported clock, MHz.

        Once it is set, the board power limit of a floor is over.

        Raises:
            DeviceError: The GPU refused.
        """
        if not self.knobs.capabilities.has_clock_limit:
            raise NotSupportedError(f"asked for {clock_mhz} MHz, the GPU has no clock limit")
        accepted_mhz = self.knobs.capabilities.nearest_clock_mhz(clock_mhz)
        self.is_wanted = True
        self._pace = self._pace.wish(accepted_mhz)
        if self._pace.waiting_mhz is None or self._pace.due_s <= now_s:
            self.apply_waiting(now_s)
        return accepted_mhz

    def apply_waiting(self, now_s: float) -> None:
        """Set the clock limit that waits; one that is refused does not wait any longer.

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

    def finish(self) -> None:
        """Leave a power floor that is over, but could not be left before.

        Raises:
            DeviceError: The GPU refused.
        """
        if self._is_floor_over:
            self._leave_power_floor()

    def set_power_limit(self, limit_w: float) -> float:
        """Set the board power limit, unless it is there already; return what is in force, W.

        Raises:
            DeviceError: The GPU refused.
        """
        in_force_w = self._limit_power(limit_w)
        self._before_floor = None
        return in_force_w

    def check(self, now_s: float) -> None:
        """See whether the clock obeys; set the limit again where somebody else lifted it.

        A limit that is to be undone is not set again.

        Raises:
            DeviceError: The GPU refused.
        """
        limit_mhz = self._pace.in_force_mhz
        if limit_mhz is None or not self.is_wanted:
            self.doubt = None
            return
        if self._pace.waiting_mhz is not None:
            return
        clock_mhz = self.knobs.sm_clock_mhz()
        if self.knobs.capabilities.obeys_clock_limit(clock_mhz, limit_mhz):
            self.doubt = None
            # Under the board limit of a floor a low clock says nothing.
            self.is_confirmed = self._before_floor is None
        elif now_s >= max(self._pace.changed_s, self._set_again_s) + CHANGE_PERIOD_S:
            self.is_confirmed, self._set_again_s = False, now_s
            self.knobs.set_clock_limit(limit_mhz)
            self.doubt = f"the SM clock is {clock_mhz} MHz, limited to {limit_mhz} MHz"
            self._pace = replace(self._pace, changed_s=now_s)

    def note_refusal(self, error: SteppeError) -> None:
        """Remember why a limit could not be set or undone, and log what is new."""
        if self.refusal != str(error):
            _log.error("GPU %s: %s", self.held.uuid, error)
        self.refusal = str(error)

    def note_doubt(self, error: SteppeError) -> None:
        """Remember why the clock could not be checked, and log what is new."""
        if self.doubt != str(error):
            _log.error("GPU %s: %s", self.held.uuid, error)
        self.doubt = str(error)

    def drop_waiting(self) -> None:
        """Forget the clock limit that waits."""
        self._pace = replace(self._pace, waiting_mhz=None)

    def undo(self, now_s: float) -> None:
        """Undo what is ours, at once; the caller records what is left.

        Raises:
            DeviceError: Something could not be undone; it stays in `held`.
        """
        self.drop_waiting()
        self.is_wanted = False
        if not self.held.is_free:
            self._claim.take()
        try:
            if self.held.clock_mhz is not None:
                self.knobs.reset_clock_limit()
                self._pace, self.is_confirmed = self._pace.undone(now_s), True
                self.held = replace(self.held, clock_mhz=None)
        finally:
            self._undo_power()
        self.refusal = None
        self._let_go()

    def lower(self, to: ClockFloor | PowerFloor, now_s: float) -> None:
        """Go down to a floor at once; a limit that is lower already stays.

        Raises:
            DeviceError: The GPU refused.
        """
        self.drop_waiting()
        match to:
            case ClockFloor(clock_mhz):
                self._pace = replace(self._pace, changed_s=-math.inf)
                present_mhz = self._pace.in_force_mhz
                self.wish_clock(min(clock_mhz, present_mhz or clock_mhz), now_s)
            case PowerFloor(limit_w):
                self._before_floor, self._is_floor_over = self._before_floor or self.held, False
                self.is_confirmed = self.in_force_mhz is None
                self._limit_power(min(limit_w, self.knobs.power_limit_w()))

    def _limit_power(self, limit_w: float) -> float:
        self._claim.take()  # before the present limit is read, which might be another agent's
        accepted_w = self.knobs.capabilities.nearest_power_limit_w(limit_w)
        present_w = self.knobs.power_limit_w()
        self.is_wanted = True
        if abs(present_w - accepted_w) >= 1.0:
            before_w = self.held.power_limit_before_w or present_w
            held = replace(self.held, power_limit_w=accepted_w, power_limit_before_w=before_w)
            self._set(held, lambda: self.knobs.set_power_limit(accepted_w))
        self.refusal = None
        return self.knobs.enforced_power_limit_w()

    def _leave_power_floor(self) -> None:
        """Go back to the board power limit from before a floor."""
        before = self._before_floor
        if before is None:
            return
        if before.power_limit_w is None:
            self._undo_power()
            with suppress(AgentError):  # a file that names too much is safe
                self._record()
        else:
            self._limit_power(before.power_limit_w)
        self._before_floor = self.refusal = None

    def _undo_power(self) -> None:
        if self.held.power_limit_before_w is not None:
            self.knobs.set_power_limit(self.held.power_limit_before_w)
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
            with suppress(AgentError):  # a file that names too much is safe
                self._record()
            self._let_go()
            raise
        except DeviceError as error:
            self.note_refusal(error)
            raise
        self.refusal = None

    def _record_over(self, before: HeldLimits) -> None:
        """Record what is held; where that fails, the record of before may do to undo it."""
        try:
            self._record()
        except AgentError:
            if not self.held.is_undone_like(before):
                raise

    def _let_go(self) -> None:
        if self.held.is_free:
            self._claim.give_back()
