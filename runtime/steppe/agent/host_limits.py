"""The limits of every GPU of one host, and the lease file that survives this process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from steppe.agent.baseline import AS_FOUND, Baseline
from steppe.agent.gpu_limits import GpuLimiter
from steppe.agent.lease_file import HeldLimits, LeaseFile, owned_lease_file
from steppe.agent.loss_policy import ClockFloor, PowerFloor
from steppe.agent.power_schedule import GpuPowerSchedule
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.errors import (
    AgentError,
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    SteppeError,
)

_log = logging.getLogger(__name__)


class HostLimits:
    """Sets limits, records them first, and undoes them.

    An operation on all GPUs (probe, undo, floor, check) continues past a GPU that refuses, so
    that the others do not wait for it. The error is logged and shown in the status.

    Attributes:
        is_recorded: Whether the lease file holds exactly what is left to undo.
    """

    def __init__(
        self, gpus: Iterable[NvmlGpu], file: LeaseFile, baseline: Baseline = AS_FOUND
    ) -> None:
        """Take over the GPUs, with the limits that the lease file names.

        Args:
            gpus: The GPUs of this host.
            file: The lease file.
            baseline: What GPUs return to when their limits are undone.
        """
        self._file = file
        left = {limits.uuid: limits for limits in file.read()}
        self._gpus: dict[str, GpuLimiter] = {}
        for knobs in gpus:
            uuid = knobs.capabilities.uuid
            held = left.pop(uuid, HeldLimits(uuid))
            claim = file.claim(uuid)
            self._gpus[uuid] = GpuLimiter(knobs, held, claim, self._record, baseline)
        # Limits of GPUs that are absent now; the GPUs may come back.
        self._absent = tuple(left.values())
        self.is_recorded = True

    @property
    def gpus(self) -> tuple[GpuLimiter, ...]:
        """The GPUs in PCI order."""
        return tuple(self._gpus.values())

    @property
    def held(self) -> tuple[HeldLimits, ...]:
        """The limits that are left to undo."""
        return tuple(gpu.held for gpu in self.limited) + self._absent

    @property
    def limited(self) -> tuple[GpuLimiter, ...]:
        """The GPUs with limits that are left to undo."""
        return tuple(gpu for gpu in self.gpus if not gpu.held.is_free)

    @property
    def due_s(self) -> float:
        """When the next pending clock limit or step of a schedule is due, s; infinite without."""
        return min((min(gpu.due_s, gpu.step_s) for gpu in self.gpus), default=math.inf)

    @property
    def follows_schedule(self) -> bool:
        """Whether a GPU follows a schedule of board power limits."""
        return any(gpu.schedule is not None for gpu in self.gpus)

    def gpu(self, uuid: str) -> GpuLimiter:
        """Return one GPU.

        Raises:
            AgentError: This host has no such GPU.
        """
        if uuid not in self._gpus:
            raise AgentError(f"asked for GPU {uuid}, found {', '.join(self._gpus) or 'none'}")
        return self._gpus[uuid]

    def probe_control(self, gpus: Iterable[GpuLimiter]) -> None:
        """Check that this process may change limits; a GPU's error is kept for that GPU.

        The probe writes the present power limit back, so only GPUs without a holder are probed.

        Raises:
            NoPermissionError: It may change those of no GPU.
        """
        forbidden: NoPermissionError | None = None
        is_allowed = False
        for gpu in gpus:
            try:
                gpu.knobs.probe_control()
                is_allowed = True
            except NoPermissionError as error:
                forbidden = error
                gpu.note_refusal(error)
            except DeviceError as error:
                is_allowed = True
                gpu.note_refusal(error)
        if forbidden is not None and not is_allowed:
            raise forbidden

    def apply_due(self, now_s: float) -> None:
        """Set every pending clock limit and every board power limit that is due."""
        due = [gpu for gpu in self.gpus if gpu.due_s <= now_s]
        self._for_each(due, lambda gpu: gpu.apply_waiting(now_s))
        stepping = [gpu for gpu in self.gpus if gpu.step_s <= now_s]
        self._for_each(stepping, lambda gpu: gpu.follow_schedule(now_s))

    def follow(
        self, schedules: Iterable[tuple[GpuLimiter, GpuPowerSchedule]], now_s: float
    ) -> None:
        """Let the board power limits of GPUs follow schedules; refusals are kept for each GPU."""
        of = dict(schedules)
        self._for_each(of, lambda gpu: gpu.follow(of[gpu], now_s))

    def end_schedules(self, gpus: Iterable[GpuLimiter], now_s: float) -> None:
        """Restore the board power limits of GPUs whose lost holder has nothing left on them."""
        over = [gpu for gpu in gpus if gpu.is_schedule_over(now_s)]
        if over:
            self._for_each(over, lambda gpu: gpu.end_schedule())
            self._record_undone()

    def check(self, now_s: float) -> None:
        """Check that the clocks obey."""
        for gpu in self.gpus:
            try:
                gpu.check(now_s)
            except DeviceError as error:
                gpu.note_clock_fault(error)

    def undo(self, now_s: float, gpus: Iterable[GpuLimiter] | None = None) -> None:
        """Undo the limits of all GPUs, or of some; `held` has what is left."""
        self._for_each(self.gpus if gpus is None else gpus, lambda gpu: gpu.undo(now_s))
        self._record_undone()

    def lose(self, now_s: float, gpus: Iterable[GpuLimiter]) -> None:
        """Undo the limits of a lost holder; schedules of board power limits go on to their end."""
        self._for_each(gpus, lambda gpu: gpu.lose(now_s))
        self._record_undone()

    def _record_undone(self) -> None:
        was_recorded = self.is_recorded
        try:
            self._record()
        except AgentError as error:
            if was_recorded:
                _log.error("the lease file still names limits that are undone: %s", error)

    def retry(self, now_s: float) -> None:
        """Retry what GPUs refused: to undo unwanted limits, and to leave a floor."""
        unwanted = [gpu for gpu in self.limited if not gpu.is_wanted]
        if unwanted or not self.is_recorded:
            self.lose(now_s, unwanted)
        self._for_each(self.gpus, lambda gpu: gpu.retry(now_s))

    def lower(
        self, to: ClockFloor | PowerFloor, now_s: float, gpus: Iterable[GpuLimiter] | None = None
    ) -> tuple[GpuLimiter, ...]:
        """Apply a floor to every GPU that a client has limited, or to some GPUs.

        Returns those where it failed; a GPU without that knob is not among them.
        """
        wanted = [gpu for gpu in self.gpus if gpu.is_wanted] if gpus is None else gpus
        failed = self._for_each(wanted, lambda gpu: gpu.lower(to, now_s))
        return tuple(gpu for gpu, error in failed if not isinstance(error, NotSupportedError))

    def _for_each(
        self, gpus: Iterable[GpuLimiter], act: Callable[[GpuLimiter], None]
    ) -> list[tuple[GpuLimiter, SteppeError]]:
        """Call `act` for each GPU; return those that refused, with the error."""
        failed: list[tuple[GpuLimiter, SteppeError]] = []
        for gpu in gpus:
            try:
                act(gpu)
            except (DeviceError, AgentError) as error:
                gpu.note_refusal(error)
                failed.append((gpu, error))
        return failed

    def _record(self) -> None:
        self.is_recorded = False
        self._file.write(self.held)
        self.is_recorded = True


def undo_lease(lease_file: Path, baseline: Baseline = AS_FOUND) -> tuple[HeldLimits, ...]:
    """Undo the limits in the lease file of a dead agent; return those that remain.

    Raises:
        AgentError: A running agent owns the file, or it is not a lease file.
        BackendUnavailableError: There is no driver.
    """
    with owned_lease_file(lease_file) as file:
        limits = HostLimits(open_gpus(), file, baseline)
        limits.undo(time.monotonic())
        return limits.held
