"""The lease of one host: its holder, and what happens after the holder is lost."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from steppe.agent.gpu_limits import GpuLimiter
from steppe.agent.host_limits import HostLimits
from steppe.agent.loss_policy import (
    ClockFloor,
    Floor,
    HoldThenFloor,
    LossPolicy,
    PowerFloor,
    Restore,
    format_loss,
)
from steppe.agent.messages import (
    Accepted,
    AgentStatus,
    Answer,
    AskStatus,
    Done,
    GpuLimits,
    Heartbeat,
    NotHolder,
    RefusedAnswer,
    Release,
    Request,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.errors import AgentError, SteppeError

# How often clocks are checked: soon after a change, and from then on.
UNCONFIRMED_CHECK_S = 0.1
CHECK_S = 1.0

# A lease ends this share early, so that its limits are undone by its nominal end.
EARLY_SHARE = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """One connection of a client.

    Attributes:
        number: Distinguishes connections.
        pid: Process at the other end, from the socket's peer credentials.
    """

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class LeaseFree:
    """No client holds the lease, and no limit should be left."""


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """A client holds the lease; without a further message it ends at `until_s`."""

    peer: Peer
    lease_s: float
    until_s: float

    def renewed(self, now_s: float) -> LeaseHeld:
        """Return the lease after a message from its holder."""
        return LeaseHeld(self.peer, self.lease_s, now_s + (1 - EARLY_SHARE) * self.lease_s)


@dataclass(frozen=True, slots=True)
class LossHold:
    """The holder is lost; limits stay until `until_s`, then a floor applies."""

    until_s: float
    to: ClockFloor | PowerFloor


@dataclass(frozen=True, slots=True)
class AtFloor:
    """The holder is lost and its GPUs are at the floor, until a new holder limits them.

    Attributes:
        to: The floor.
        left: The GPUs where the floor could not be applied yet.
    """

    to: ClockFloor | PowerFloor
    left: tuple[GpuLimiter, ...]


class LeaseServer:
    """Answers requests, and applies the loss policy; time is passed in.

    The holder is lost when its connection closes without a release, or when it sends no message
    for the length of its lease.
    """

    def __init__(self, limits: HostLimits, loss: LossPolicy, lease_s: float) -> None:
        """Start with a free lease.

        Args:
            limits: Sets and undoes the limits.
            loss: What to do when the holder is lost.
            lease_s: Longest lease that a client may take, s.
        """
        self._limits = limits
        self._loss = loss
        self._lease_s = lease_s
        self._state: LeaseFree | LeaseHeld | LossHold | AtFloor = LeaseFree()
        self._last_holder: Peer | None = None
        self._check_s = -math.inf
        self._again_s = -math.inf
        self._ended_s = -math.inf
        self.holder_left = False

    @property
    def left(self) -> tuple[GpuLimiter, ...]:
        """The GPUs still to be undone or lowered, while no client holds the lease."""
        match self._state:
            case LeaseFree():
                return self._limits.limited
            case AtFloor(_, left):
                return left
            case _:
                return ()

    def is_settled(self, now_s: float, retry_s: float) -> bool:
        """Whether no client holds the lease and the loss policy has been applied.

        A GPU that refuses is retried for at most `retry_s` after the end of the lease, s.
        """
        if not isinstance(self._state, LeaseFree | AtFloor):
            return False
        return not self.left or now_s >= self._ended_s + retry_s

    @property
    def wake_s(self) -> float:
        """When `pass_time` must be called next, s."""
        ends_s = self._state.until_s if isinstance(self._state, LeaseHeld | LossHold) else math.inf
        return min(ends_s, self._limits.due_s, self._check_s)

    def answer(self, request: Request, peer: Peer, now_s: float) -> Answer:
        """Carry out a request of a client."""
        try:
            match request, self._state:
                case AskStatus(), _:
                    return self._status(now_s)
                case TakeLease(lease_s), LeaseFree() | LossHold() | AtFloor():
                    return self._give_lease(peer, min(lease_s, self._lease_s), now_s)
                case _, LeaseHeld(holder) if holder == peer:
                    return self._answer_holder(request, self._state, now_s)
                case _, LeaseHeld(holder):
                    return NotHolder(holder.pid)
                case _:
                    return NotHolder(None)
        except SteppeError as error:
            return RefusedAnswer(type(error).__name__, str(error))

    def disconnect(self, peer: Peer, now_s: float) -> None:
        """Handle a connection that has closed."""
        if peer == self._last_holder:
            self.holder_left = True
        if isinstance(self._state, LeaseHeld) and self._state.peer == peer:
            self._apply_loss_policy(f"process {peer.pid} is gone", now_s)

    def pass_time(self, now_s: float) -> None:
        """Do what is due: end a lease, apply a floor, set pending limits, check clocks."""
        match self._state:
            case LeaseHeld(peer, lease_s, until_s) if until_s <= now_s:
                self._apply_loss_policy(
                    f"process {peer.pid} sent no heartbeat for {lease_s:g} s", now_s
                )
            case LossHold(until_s, to) if until_s <= now_s:
                self._lower(to, now_s)
        self._limits.apply_due(now_s)
        if self._check_s <= now_s:
            self._retry(now_s)
            self._limits.check(now_s)
            is_asked = isinstance(self._state, LeaseHeld)
            is_new = is_asked and not all(gpu.is_confirmed for gpu in self._limits.gpus)
            self._check_s = now_s + (UNCONFIRMED_CHECK_S if is_new else CHECK_S)

    def _retry(self, now_s: float) -> None:
        """Retry what a GPU refused when a lease ended or when the next one began."""
        match self._state:
            case LeaseFree() if self.left or not self._limits.is_recorded:
                self._limits.undo(now_s)
            case AtFloor(to, left) if left:
                self._state = AtFloor(to, self._limits.lower(to, now_s, left))
            case LeaseHeld() if self._again_s <= now_s:
                self._limits.retry(now_s)
                self._again_s = now_s + CHECK_S

    def free(self, now_s: float) -> None:
        """End the lease and undo everything; `left` names the GPUs that are retried."""
        self._state, self._ended_s = LeaseFree(), now_s
        self._limits.undo(now_s)

    def _give_lease(self, peer: Peer, lease_s: float, now_s: float) -> Answer:
        self._limits.probe_control()
        self._state = LeaseHeld(peer, lease_s, now_s).renewed(now_s)
        self._last_holder, self.holder_left = peer, False
        return Accepted(lease_s)

    def _answer_holder(self, request: Request, held: LeaseHeld, now_s: float) -> Answer:
        self._state = held.renewed(now_s)
        match request:
            case SetClockLimit(uuid, clock_mhz):
                self._check_s = min(self._check_s, now_s + UNCONFIRMED_CHECK_S)
                return Accepted(self._limits.gpu(uuid).request_clock_limit(clock_mhz, now_s))
            case SetPowerLimit(uuid, limit_w):
                return Accepted(self._limits.gpu(uuid).set_power_limit(limit_w))
            case ResetLimits(None):
                self._limits.undo(now_s)
                _require_free(self._limits.limited)
            case ResetLimits(str(uuid)):
                gpu = self._limits.gpu(uuid)
                self._limits.undo(now_s, (gpu,))
                _require_free((gpu,))
            case Release():
                self.free(now_s)
                _require_free(self.left)
            case TakeLease():
                return Accepted(held.lease_s)
            case Heartbeat() | AskStatus():
                pass
        return Done()

    def _apply_loss_policy(self, why: str, now_s: float) -> None:
        _log.warning("%s: %s", why, format_loss(self._loss))
        self._limits.drop_waiting()
        match self._loss:
            case Restore():
                self.free(now_s)
            case Floor(to):
                self._lower(to, now_s)
            case HoldThenFloor(hold_s, to):
                self._state = LossHold(now_s + hold_s, to)

    def _lower(self, to: ClockFloor | PowerFloor, now_s: float) -> None:
        self._state, self._ended_s = AtFloor(to, self._limits.lower(to, now_s)), now_s

    def _status(self, now_s: float) -> AgentStatus:
        held = self._state if isinstance(self._state, LeaseHeld) else None
        return AgentStatus(
            holder_pid=held.peer.pid if held else None,
            lease_left_s=max(0.0, held.until_s - now_s) if held else 0.0,
            loss=format_loss(self._loss),
            gpus=tuple(
                GpuLimits(
                    uuid=gpu.held.uuid,
                    clock_mhz=gpu.held.clock_mhz,
                    in_force_mhz=gpu.in_force_mhz,
                    power_limit_w=gpu.held.power_limit_w,
                    is_confirmed=gpu.is_confirmed,
                    fault=gpu.fault,
                )
                for gpu in self._limits.gpus
            ),
        )


def describe_faults(gpus: tuple[GpuLimiter, ...]) -> str:
    """Return the GPUs with an error, and the error of each, as text."""
    return "; ".join(f"GPU {gpu.held.uuid}: {gpu.fault}" for gpu in gpus)


def _require_free(gpus: tuple[GpuLimiter, ...]) -> None:
    limited = tuple(gpu for gpu in gpus if not gpu.held.is_free)
    if limited:
        raise AgentError(f"not undone yet: {describe_faults(limited)}")
