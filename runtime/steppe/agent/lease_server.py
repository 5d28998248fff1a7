"""Who holds the lease of one host, and what happens when nobody does any more."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from steppe.agent.gpu_limits import LimitedGpu
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
    Beat,
    Done,
    GpuLimits,
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

# A lease ends this share early, so that limits are undone when it is over, not just being undone.
EARLY_SHARE = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """One connection of a client.

    Attributes:
        number: Tells connections apart.
        pid: Process at the other end, as the kernel says.
    """

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody holds the lease, and no limit should be left."""


@dataclass(frozen=True, slots=True)
class Held:
    """A client holds the lease; without a further word it ends at `until_s`."""

    peer: Peer
    lease_s: float
    until_s: float

    def renewed(self, now_s: float) -> Held:
        """Return the lease after a word from its holder."""
        return Held(self.peer, self.lease_s, now_s + (1 - EARLY_SHARE) * self.lease_s)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The holder is gone; limits stay until `until_s`, then go down to a floor."""

    until_s: float
    to: ClockFloor | PowerFloor


@dataclass(frozen=True, slots=True)
class Floored:
    """The holder is gone and its GPUs are at the floor, until a new holder limits them.

    Attributes:
        to: The floor.
        left: The GPUs that are not there yet.
    """

    to: ClockFloor | PowerFloor
    left: tuple[LimitedGpu, ...]


class LeaseServer:
    """Answers requests, and applies the loss policy; time is passed in.

    The holder is gone when its connection closes without a release, or when it says nothing
    for its lease.
    """

    def __init__(self, keeper: HostLimits, loss: LossPolicy, lease_s: float) -> None:
        """Begin with a free lease.

        Args:
            keeper: Sets and undoes the limits.
            loss: What to do when the holder is gone.
            lease_s: Longest lease that a client may take, s.
        """
        self._keeper = keeper
        self._loss = loss
        self._lease_s = lease_s
        self._state: Free | Held | Waiting | Floored = Free()
        self._last_holder: Peer | None = None
        self._check_s = -math.inf
        self._again_s = -math.inf
        self._ended_s = -math.inf
        self.was_left = False

    @property
    def left(self) -> tuple[LimitedGpu, ...]:
        """The GPUs that are still to be undone or lowered, now that nobody holds the lease."""
        match self._state:
            case Free():
                return self._keeper.limited
            case Floored(_, left):
                return left
            case _:
                return ()

    def is_settled(self, now_s: float, patience_s: float) -> bool:
        """Whether nobody holds the lease and no floor is still to come.

        What a GPU refuses is waited for, but no longer than `patience_s` after the lease, s.
        """
        if not isinstance(self._state, Free | Floored):
            return False
        return not self.left or now_s >= self._ended_s + patience_s

    @property
    def wake_s(self) -> float:
        """When `pass_time` has something to do, s."""
        ends_s = self._state.until_s if isinstance(self._state, Held | Waiting) else math.inf
        return min(ends_s, self._keeper.due_s, self._check_s)

    def answer(self, request: Request, peer: Peer, now_s: float) -> Answer:
        """Do what a client asks."""
        try:
            match request, self._state:
                case AskStatus(), _:
                    return self._status(now_s)
                case TakeLease(lease_s), Free() | Waiting() | Floored():
                    return self._give_lease(peer, min(lease_s, self._lease_s), now_s)
                case _, Held(holder) if holder == peer:
                    return self._answer_holder(request, self._state, now_s)
                case _, Held(holder):
                    return NotHolder(holder.pid)
                case _:
                    return NotHolder(None)
        except SteppeError as error:
            return RefusedAnswer(type(error).__name__, str(error))

    def leave(self, peer: Peer, now_s: float) -> None:
        """Take note that a connection has closed."""
        if peer == self._last_holder:
            self.was_left = True
        if isinstance(self._state, Held) and self._state.peer == peer:
            self._lose(f"process {peer.pid} is gone", now_s)

    def pass_time(self, now_s: float) -> None:
        """Do what is due: end a lease, go to a floor, set waiting limits, check clocks."""
        match self._state:
            case Held(peer, lease_s, until_s) if until_s <= now_s:
                self._lose(f"process {peer.pid} said nothing for {lease_s:g} s", now_s)
            case Waiting(until_s, to) if until_s <= now_s:
                self._lower(to, now_s)
        self._keeper.apply_due(now_s)
        if self._check_s <= now_s:
            self._finish(now_s)
            self._keeper.check(now_s)
            is_asked = isinstance(self._state, Held)
            is_new = is_asked and not all(gpu.is_confirmed for gpu in self._keeper.gpus)
            self._check_s = now_s + (UNCONFIRMED_CHECK_S if is_new else CHECK_S)

    def _finish(self, now_s: float) -> None:
        """Try again what a GPU refused when a lease ended or when the next one began."""
        match self._state:
            case Free() if self.left or not self._keeper.is_recorded:
                self._keeper.undo(now_s)
            case Floored(to, left) if left:
                self._state = Floored(to, self._keeper.lower(to, now_s, left))
            case Held() if self._again_s <= now_s:
                self._keeper.finish(now_s)
                self._again_s = now_s + CHECK_S

    def free(self, now_s: float) -> None:
        """End the lease and undo everything; `left` tells of what, and it is tried again."""
        self._state, self._ended_s = Free(), now_s
        self._keeper.undo(now_s)

    def _give_lease(self, peer: Peer, lease_s: float, now_s: float) -> Answer:
        self._keeper.probe_control()
        self._state = Held(peer, lease_s, now_s).renewed(now_s)
        self._last_holder, self.was_left = peer, False
        return Accepted(lease_s)

    def _answer_holder(self, request: Request, held: Held, now_s: float) -> Answer:
        self._state = held.renewed(now_s)
        match request:
            case SetClockLimit(uuid, clock_mhz):
                self._check_s = min(self._check_s, now_s + UNCONFIRMED_CHECK_S)
                return Accepted(self._keeper.gpu(uuid).wish_clock(clock_mhz, now_s))
            case SetPowerLimit(uuid, limit_w):
                return Accepted(self._keeper.gpu(uuid).set_power_limit(limit_w))
            case ResetLimits(None):
                self._keeper.undo(now_s)
                _require_free(self._keeper.limited)
            case ResetLimits(str(uuid)):
                gpu = self._keeper.gpu(uuid)
                self._keeper.undo(now_s, (gpu,))
                _require_free((gpu,))
            case Release():
                self.free(now_s)
                _require_free(self.left)
            case TakeLease():
                return Accepted(held.lease_s)
            case Beat() | AskStatus():
                pass
        return Done()

    def _lose(self, why: str, now_s: float) -> None:
        _log.warning("%s: %s", why, format_loss(self._loss))
        self._keeper.drop_waiting()
        match self._loss:
            case Restore():
                self.free(now_s)
            case Floor(to):
                self._lower(to, now_s)
            case HoldThenFloor(hold_s, to):
                self._state = Waiting(now_s + hold_s, to)

    def _lower(self, to: ClockFloor | PowerFloor, now_s: float) -> None:
        self._state, self._ended_s = Floored(to, self._keeper.lower(to, now_s)), now_s

    def _status(self, now_s: float) -> AgentStatus:
        held = self._state if isinstance(self._state, Held) else None
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
                for gpu in self._keeper.gpus
            ),
        )


def tell(gpus: tuple[LimitedGpu, ...]) -> str:
    """Return which GPUs are not as they should be, and why."""
    return "; ".join(f"GPU {gpu.held.uuid}: {gpu.fault}" for gpu in gpus)


def _require_free(gpus: tuple[LimitedGpu, ...]) -> None:
    limited = tuple(gpu for gpu in gpus if not gpu.held.is_free)
    if limited:
        raise AgentError(f"not undone yet: {tell(limited)}")
