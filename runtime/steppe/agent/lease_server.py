"""The leases of one host: their holders, and what happens after a holder is lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

from steppe.agent.gpu_limits import GpuLimiter
from steppe.agent.host_limits import HostLimits
from steppe.agent.lease import AtFloor, Held, Lease, LossHold, Peer
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
    FollowPowerLimits,
    GpuLimits,
    Heartbeat,
    LeaseStatus,
    NotHolder,
    Pulse,
    RaiseThread,
    RefusedAnswer,
    Release,
    Request,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.agent.metrics import AgentCounts
from steppe.agent.power_schedule import GpuPowerSchedule
from steppe.agent.priority import raise_thread_of
from steppe.errors import AgentError, SteppeError

# How often clocks are checked: soon after a change, and from then on.
UNCONFIRMED_CHECK_S = 0.1
CHECK_S = 1.0

_log = logging.getLogger(__name__)


class LeaseServer:
    """Answers requests, and applies the loss policy; time is passed in.

    Each client has a lease of its own. A GPU joins the lease that asks for it first, or that sets
    the first limit on it, and leaves it with a reset. A holder is lost when its connection closes
    without a release, or when it sends no message for the length of its lease.

    Attributes:
        counts: What has happened so far, for metrics.
    """

    def __init__(self, limits: HostLimits, loss: LossPolicy, lease_s: float) -> None:
        """Start without a lease.

        Args:
            limits: Sets and undoes the limits.
            loss: What to do when a holder is lost.
            lease_s: Longest lease that a client may take, s.
        """
        self._limits = limits
        self._loss = loss
        self._lease_s = lease_s
        self._leases: list[Lease] = []
        self._connected: set[Peer] = set()
        self._had_holder = False
        self._check_s = -math.inf
        self._again_s = -math.inf
        self._ended_s = -math.inf
        self.counts = AgentCounts()

    @property
    def holder_left(self) -> bool:
        """Whether there was a holder, and the connection of every holder has closed."""
        return self._had_holder and not self._connected

    @property
    def left(self) -> tuple[GpuLimiter, ...]:
        """The GPUs still to be undone or lowered, because no client holds them."""
        leased = {gpu for lease in self._leases for gpu in lease.gpus}
        unleased = [gpu for gpu in self._limits.limited if gpu not in leased]
        floors = (lease.state for lease in self._leases)
        lowered = [gpu for at in floors if isinstance(at, AtFloor) for gpu in at.left]
        return (*unleased, *lowered)

    def is_settled(self, now_s: float, retry_s: float) -> bool:
        """Whether no client holds a lease and the loss policy has been applied.

        A GPU that refuses is retried for at most `retry_s` after the end of the last lease, s.
        """
        if not all(isinstance(lease.state, AtFloor) for lease in self._leases):
            return False
        if self._limits.follows_schedule:
            return False
        return not self.left or now_s >= self._ended_s + retry_s

    @property
    def wake_s(self) -> float:
        """When `pass_time` must be called next, s."""
        states = (lease.state for lease in self._leases)
        ends_s = [state.until_s for state in states if not isinstance(state, AtFloor)]
        return min(*ends_s, self._limits.due_s, self._check_s)

    def answer(self, request: Request, peer: Peer, now_s: float) -> Answer:
        """Carry out a request of a client."""
        lease = next((each for each in self._leases if each.is_held and each.peer == peer), None)
        try:
            match request:
                case AskStatus():
                    return self.status(now_s)
                case TakeLease(lease_s, name, gpus) if lease is None:
                    return self._give_lease(peer, name, min(lease_s, self._lease_s), gpus, now_s)
                case _ if lease is None:
                    return NotHolder()
                case _:
                    lease.renew(now_s)
                    return self._answer_holder(request, lease, now_s)
        except SteppeError as error:
            self.counts.refused += 1
            return RefusedAnswer(type(error).__name__, str(error))

    def disconnect(self, peer: Peer, now_s: float) -> None:
        """Handle a connection that has closed."""
        self._connected.discard(peer)
        for lease in tuple(self._leases):
            if lease.is_held and lease.peer == peer:
                self._apply_loss_policy(lease, f"{lease.holder} is gone", now_s)

    def pass_time(self, now_s: float) -> None:
        """Do what is due: end a lease, apply a floor, set pending limits, check clocks."""
        for lease in tuple(self._leases):
            match lease.state:
                case Held(until_s) if until_s <= now_s:
                    why = f"{lease.holder} sent no heartbeat for {lease.lease_s:g} s"
                    self._apply_loss_policy(lease, why, now_s)
                case LossHold(until_s, to) if until_s <= now_s:
                    self._lower(lease, to, now_s)
        self._limits.apply_due(now_s)
        if self._check_s <= now_s:
            self._limits.end_schedules(self._unlimited_by_leases(), now_s)
            self._retry(now_s)
            self._limits.check(now_s)
            held = [gpu for lease in self._leases if lease.is_held for gpu in lease.gpus]
            is_new = not all(gpu.is_confirmed for gpu in held)
            self._check_s = now_s + (UNCONFIRMED_CHECK_S if is_new else CHECK_S)

    def _unlimited_by_leases(self) -> list[GpuLimiter]:
        """Return the GPUs whose holder is lost for good: nothing renews their schedule."""
        waiting = [lease for lease in self._leases if not isinstance(lease.state, AtFloor)]
        kept = {gpu for lease in waiting for gpu in lease.gpus}
        return [gpu for gpu in self._limits.gpus if gpu not in kept]

    def _retry(self, now_s: float) -> None:
        """Retry once a second what a GPU refused when a lease ended or when the next one began."""
        if now_s < self._again_s:
            return
        self._again_s = now_s + CHECK_S
        self._limits.retry(now_s)
        for lease in self._leases:
            match lease.state:
                case AtFloor(to, left) if left:
                    lease.state = AtFloor(to, self._limits.lower(to, now_s, left))

    def free(self, now_s: float) -> None:
        """End every lease and undo everything; `left` names the GPUs that are retried."""
        self._leases, self._ended_s = [], now_s
        self._limits.undo(now_s)

    def _give_lease(
        self, peer: Peer, name: str, lease_s: float, gpus: Sequence[str], now_s: float
    ) -> Answer:
        wanted = [self._limits.gpu(uuid) for uuid in gpus]
        self._require_unheld(wanted, None)
        held = {gpu for lease in self._leases if lease.is_held for gpu in lease.gpus}
        self._limits.probe_control([gpu for gpu in self._limits.gpus if gpu not in held])
        lease = Lease(peer, name, lease_s, Held(now_s))
        lease.renew(now_s)
        self._leases.append(lease)
        self._connected.add(peer)
        self._had_holder = True
        self.counts.leases += 1
        _log.info("%s takes a lease of %g s", lease.holder, lease_s)
        for gpu in wanted:
            self._join(lease, gpu)
        return Accepted(lease_s)

    def _answer_holder(self, request: Request, lease: Lease, now_s: float) -> Answer:
        match request:
            case SetClockLimit(uuid, clock_mhz):
                gpu = self._join(lease, self._limits.gpu(uuid))
                self._check_s = min(self._check_s, now_s + UNCONFIRMED_CHECK_S)
                return Accepted(gpu.request_clock_limit(clock_mhz, now_s))
            case SetPowerLimit(uuid, limit_w):
                return Accepted(self._join(lease, self._limits.gpu(uuid)).set_power_limit(limit_w))
            case FollowPowerLimits(after_s, limits_w, keep_s):
                self._limits.follow(
                    [
                        (
                            self._join(lease, self._limits.gpu(uuid)),
                            GpuPowerSchedule.of(after_s, each_w, keep_s, now_s),
                        )
                        for uuid, each_w in limits_w.items()
                    ],
                    now_s,
                )
            case ResetLimits(None):
                self._yield(lease, lease.gpus, now_s)
            case ResetLimits(str(uuid)):
                self._yield(lease, (self._join(lease, self._limits.gpu(uuid)),), now_s)
            case Release():
                gpus, lease.gpus = lease.gpus, []
                self._leases.remove(lease)
                self._ended_s = now_s
                _log.info("%s releases its lease", lease.holder)
                self._undo(gpus, now_s)
            case TakeLease(_, _, gpus):
                wanted = [self._limits.gpu(uuid) for uuid in gpus]
                self._require_unheld(wanted, lease)
                for gpu in wanted:
                    self._join(lease, gpu)
                return Accepted(lease.lease_s)
            case RaiseThread(thread):
                priority = raise_thread_of(lease.peer.pid, thread)
                _log.info("heartbeats of %s: %s priority", lease.holder, priority)
            case Heartbeat() | Pulse():
                pass
        return Done()

    def _require_unheld(self, gpus: Iterable[GpuLimiter], by: Lease | None) -> None:
        """Check that no other client holds these GPUs."""
        for lease in self._leases:
            taken = [gpu for gpu in gpus if gpu in lease.gpus]
            if taken and lease.is_held and lease is not by:
                raise AgentError(f"{taken[0].held.uuid}: {lease.holder} holds its lease")

    def _join(self, lease: Lease, gpu: GpuLimiter) -> GpuLimiter:
        """Make a GPU part of a lease; one of a lost holder leaves that lease.

        Raises:
            AgentError: Another client holds it.
        """
        if gpu not in lease.gpus:
            self._require_unheld((gpu,), lease)
            for other in tuple(self._leases):
                if gpu in other.gpus:
                    self._leave(other, gpu)
            lease.gpus.append(gpu)
        return gpu

    def _leave(self, lease: Lease, gpu: GpuLimiter) -> None:
        lease.gpus.remove(gpu)
        if isinstance(lease.state, AtFloor):
            left = tuple(each for each in lease.state.left if each is not gpu)
            lease.state = AtFloor(lease.state.to, left)
        if not lease.gpus and not lease.is_held:
            self._leases.remove(lease)

    def _yield(self, lease: Lease, gpus: Sequence[GpuLimiter], now_s: float) -> None:
        """Undo the limits of GPUs, which leave the lease if that worked."""
        gpus = tuple(gpus)
        try:
            self._undo(gpus, now_s)
        finally:
            lease.gpus = [g for g in lease.gpus if g not in gpus or not g.held.is_free]

    def _undo(self, gpus: Sequence[GpuLimiter], now_s: float) -> None:
        """Undo the limits of GPUs.

        Raises:
            AgentError: A GPU refused; it is tried again.
        """
        self._limits.undo(now_s, gpus)
        limited = tuple(gpu for gpu in gpus if not gpu.held.is_free)
        if limited:
            raise AgentError(f"not undone yet: {describe_faults(limited)}")

    def _apply_loss_policy(self, lease: Lease, why: str, now_s: float) -> None:
        self.counts.lost += 1
        _log.warning("%s: %s", why, format_loss(self._loss))
        for gpu in lease.gpus:
            gpu.drop_waiting()
        match self._loss:
            case Restore():
                self._leases.remove(lease)
                self._ended_s = now_s
                self._limits.lose(now_s, lease.gpus)
            case Floor(to):
                self._lower(lease, to, now_s)
            case HoldThenFloor(hold_s, to):
                lease.state = LossHold(now_s + hold_s, to)

    def _lower(self, lease: Lease, to: ClockFloor | PowerFloor, now_s: float) -> None:
        lease.gpus = lease.wanted
        lease.state = AtFloor(to, self._limits.lower(to, now_s, lease.gpus))
        self._ended_s = now_s
        if not lease.gpus:
            self._leases.remove(lease)

    def status(self, now_s: float) -> AgentStatus:
        """Return the leases and the limits of all GPUs."""
        holders = {gpu: lease for lease in self._leases if lease.is_held for gpu in lease.gpus}
        return AgentStatus(
            leases=tuple(
                LeaseStatus(each.name, each.peer.pid, max(0.0, each.state.until_s - now_s))
                for each in self._leases
                if isinstance(each.state, Held)
            ),
            loss=format_loss(self._loss),
            gpus=tuple(_status_of(gpu, holders.get(gpu)) for gpu in self._limits.gpus),
        )


def describe_faults(gpus: tuple[GpuLimiter, ...]) -> str:
    """Return the GPUs with an error, and the error of each, as text."""
    return "; ".join(f"GPU {gpu.held.uuid}: {gpu.fault}" for gpu in gpus)


def _status_of(gpu: GpuLimiter, lease: Lease | None) -> GpuLimits:
    return GpuLimits(
        uuid=gpu.held.uuid,
        clock_mhz=gpu.held.clock_mhz,
        in_force_mhz=gpu.in_force_mhz,
        power_limit_w=gpu.held.power_limit_w,
        is_confirmed=gpu.is_confirmed,
        fault=gpu.fault,
        holder=None if lease is None else lease.name,
        holder_pid=None if lease is None else lease.peer.pid,
    )
