"""The limits of every GPU of one host, and the lease file that outlives us."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from steppe.agent.gpu_limits import LimitedGpu
from steppe.agent.lease_file import HeldLimits, LeaseFile, owned_lease_file
from steppe.agent.loss_policy import ClockFloor, PowerFloor
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

    What is done for all GPUs (probe, undo, floor, checks) goes on past one that refuses: the
    others must not wait for it. Its fault is logged and shown.

    Attributes:
        is_recorded: Whether the lease file names what is left to undo, and nothing else.
    """

    def __init__(self, gpus: Iterable[NvmlGpu], file: LeaseFile) -> None:
        """Take over the GPUs, with what the lease file says a predecessor left on them."""
        self._file = file
        left = {limits.uuid: limits for limits in file.read()}
        self._gpus: dict[str, LimitedGpu] = {}
        for knobs in gpus:
            uuid = knobs.capabilities.uuid
            held = left.pop(uuid, HeldLimits(uuid))
            self._gpus[uuid] = LimitedGpu(knobs, held, file.claim(uuid), self._record)
        # Of GPUs that are not there now; they may come back.
        self._absent = tuple(left.values())
        self.is_recorded = True

    @property
    def gpus(self) -> tuple[LimitedGpu, ...]:
        """The GPUs in PCI order."""
        return tuple(self._gpus.values())

    @property
    def held(self) -> tuple[HeldLimits, ...]:
        """What is left to undo."""
        return tuple(gpu.held for gpu in self.limited) + self._absent

    @property
    def limited(self) -> tuple[LimitedGpu, ...]:
        """The GPUs of which something is left to undo."""
        return tuple(gpu for gpu in self.gpus if not gpu.held.is_free)

    @property
    def due_s(self) -> float:
        """When the next waiting clock limit may be set, s; infinite where none waits."""
        return min((gpu.due_s for gpu in self.gpus), default=math.inf)

    def gpu(self, uuid: str) -> LimitedGpu:
        """Return one GPU.

        Raises:
            AgentError: This host has no such GPU.
        """
        if uuid not in self._gpus:
            raise AgentError(f"asked for GPU {uuid}, found {', '.join(self._gpus) or 'none'}")
        return self._gpus[uuid]

    def probe_control(self) -> None:
        """Find out whether limits may be changed at all; what else a GPU says is its own fault.

        Raises:
            NoPermissionError: They may not.
        """
        for gpu in self.gpus:
            try:
                gpu.knobs.probe_control()
            except NoPermissionError:
                raise
            except DeviceError as error:
                gpu.note_refusal(error)

    def apply_due(self, now_s: float) -> None:
        """Set every clock limit whose turn has come."""
        due = [gpu for gpu in self.gpus if gpu.due_s <= now_s]
        self._for_each(due, lambda gpu: gpu.apply_waiting(now_s))

    def check(self, now_s: float) -> None:
        """See whether the clocks obey."""
        for gpu in self.gpus:
            try:
                gpu.check(now_s)
            except DeviceError as error:
                gpu.note_doubt(error)

    def drop_waiting(self) -> None:
        """Forget every clock limit that waits."""
        for gpu in self.gpus:
            gpu.drop_waiting()

    def undo(self, now_s: float, gpus: Iterable[LimitedGpu] | None = None) -> None:
        """Undo everything that is ours, or that of some GPUs; `held` tells what is left."""
        self._for_each(self.gpus if gpus is None else gpus, lambda gpu: gpu.undo(now_s))
        was_recorded = self.is_recorded
        try:
            self._record()
        except AgentError as error:
            if was_recorded:
                _log.error("what is undone stays on record: %s", error)

    def finish(self, now_s: float) -> None:
        """Try again what GPUs refused: to undo what nobody wants, and to leave a floor."""
        unwanted = [gpu for gpu in self.limited if not gpu.is_wanted]
        if unwanted:
            self.undo(now_s, unwanted)
        self._for_each(self.gpus, lambda gpu: gpu.finish())

    def lower(
        self, to: ClockFloor | PowerFloor, now_s: float, gpus: Iterable[LimitedGpu] | None = None
    ) -> tuple[LimitedGpu, ...]:
        """Bring every GPU that somebody wanted limits on, or some GPUs, down to a floor.

        Returns those that are not there yet; one without that knob never will be.
        """
        wanted = [gpu for gpu in self.gpus if gpu.is_wanted] if gpus is None else gpus
        failed = self._for_each(wanted, lambda gpu: gpu.lower(to, now_s))
        return tuple(gpu for gpu, error in failed if not isinstance(error, NotSupportedError))

    def _for_each(
        self, gpus: Iterable[LimitedGpu], act: Callable[[LimitedGpu], None]
    ) -> list[tuple[LimitedGpu, SteppeError]]:
        """Do something to GPUs; return those that refused, and why."""
        failed: list[tuple[LimitedGpu, SteppeError]] = []
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


def undo_lease(lease_file: Path) -> tuple[HeldLimits, ...]:
    """Undo what the lease file of a dead agent names; return what could not be undone.

    Raises:
        AgentError: A running agent owns the file, or it is no lease file.
        BackendUnavailableError: There is no driver.
    """
    with owned_lease_file(lease_file) as file:
        keeper = HostLimits(open_gpus(), file)
        keeper.undo(time.monotonic())
        return keeper.held
