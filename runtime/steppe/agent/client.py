"""The agent's client: takes the lease, sends heartbeats, sets limits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from steppe.agent.connection import AgentConnection
from steppe.agent.messages import (
    Accepted,
    AgentStatus,
    Answer,
    AskStatus,
    FollowPowerLimits,
    GpuLimits,
    Heartbeat,
    NotHolder,
    RaiseThread,
    Release,
    Request,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
)
from steppe.agent.priority import Priority, raise_this_thread
from steppe.device.inventory import AgentHolding
from steppe.errors import AgentError, SteppeError

BEATS_PER_LEASE = 4

_log = logging.getLogger(__name__)


def ask_status(socket: Path) -> AgentStatus:
    """Return the limits in force and the holders of leases, without taking a lease.

    Raises:
        AgentError: There is no agent, or it refused.
    """
    with AgentConnection(socket) as line:
        try:
            answer = line.ask(AskStatus())
        except OSError as error:
            raise AgentError(f"{socket}: the agent does not answer: {error}") from error
    assert isinstance(answer, AgentStatus), "a status is answered with a status"
    return answer


def holdings(socket: Path) -> dict[str, AgentHolding] | None:
    """Return what the agent behind a socket holds, by UUID; None where no agent answers."""
    try:
        status = ask_status(socket)
    except AgentError:
        return None
    return {
        gpu.uuid: AgentHolding(_in_words(gpu), gpu.holder or None, gpu.holder_pid)
        for gpu in status.gpus
    }


def _in_words(limits: GpuLimits) -> str:
    clock = [] if limits.clock_mhz is None else [f"{limits.clock_mhz} MHz"]
    power = [] if limits.power_limit_w is None else [f"{limits.power_limit_w:.0f} W"]
    return ", ".join(clock + power) or "nothing"


class AgentClient:
    """Holds a lease and sets limits; a thread sends four heartbeats per lease.

    The thread has real-time or high priority where that is permitted, and does not wait for a
    request of another thread, so that a busy node does not cost the lease.

    A GPU joins the lease with the first limit, or when the lease is taken, and leaves it with a
    reset. If the agent was restarted, or the lease expired during a delay of this process, the
    next request takes a lease again. All limits are then undone, or at the floor: `leases_taken`
    has increased, and the caller must set its limits again.
    """

    def __init__(
        self, socket: Path, lease_s: float, holder: str = "", gpus: Sequence[str] = ()
    ) -> None:
        """Take a lease.

        Args:
            socket: Where the agent listens.
            lease_s: Longest time between two messages, s; the agent may grant less.
            holder: Name of this client for people.
            gpus: The GPUs to hold from the start, by UUID.

        Raises:
            AgentError: There is no agent, or another client holds one of the GPUs.
            NoPermissionError: The agent itself may not change limits: only meter.
            OSError: The connection was lost during the request.
        """
        self._socket = socket
        self._take = TakeLease(lease_s, holder, tuple(gpus))
        self._granted_s = lease_s
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._leases_taken = 0
        self._line = self._take_lease()
        self._beating = threading.Thread(target=self._beat, name="agent-beat", daemon=True)
        self._beating.start()

    @property
    def leases_taken(self) -> int:
        """How often the lease was taken; after an increase, limits must be set again."""
        return self._leases_taken

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock; return the supported clock that was chosen, MHz.

        It is set at once, or a second after the last change if that is later (`ClockPace`).

        Raises:
            DeviceError: The GPU refused.
            AgentError: The agent refused or is gone, or another client holds the GPU.
        """
        return round(self._value(SetClockLimit(uuid, clock_mhz)))

    def set_power_limit(self, uuid: str, limit_w: float) -> float:
        """Set the board power limit; return the limit in force, W.

        Raises:
            DeviceError: The GPU refused.
            AgentError: The agent refused or is gone.
        """
        return self._value(SetPowerLimit(uuid, limit_w))

    def follow_power_limits(
        self,
        after_s: Sequence[float],
        limits_w: Mapping[str, Sequence[float]],
        keep_s: float,
    ) -> None:
        """Let board power limits follow a schedule, whatever becomes of this client.

        A GPU that refuses shows its error in the status; the others follow all the same.

        Args:
            after_s: When each step begins, s from now; the first at 0.
            limits_w: The limits of each GPU in these steps, W, by UUID.
            keep_s: How long the last step lasts if the lease is lost, s from now.

        Raises:
            AgentError: The agent refused or is gone, or another client holds a GPU.
        """
        limits = {uuid: tuple(each_w) for uuid, each_w in limits_w.items()}
        self._ask(FollowPowerLimits(tuple(after_s), limits, keep_s))

    def reset(self, uuid: str | None = None) -> None:
        """Undo this client's limits on one GPU, or on all; the lease goes on without them.

        Raises:
            AgentError: The agent refused or is gone, or a limit could not be undone.
        """
        self._ask(ResetLimits(uuid))

    def status(self) -> AgentStatus:
        """Return the limits, and whether the GPUs obey them."""
        answer = self._ask(AskStatus())
        assert isinstance(answer, AgentStatus), "a status is answered with a status"
        return answer

    def confirmed_mhz(self) -> dict[str, int]:
        """Return the clock limits that the GPUs have been observed to obey, by UUID, MHz.

        Raises:
            AgentError: The agent refused or is gone.
        """
        return {
            gpu.uuid: gpu.in_force_mhz
            for gpu in self.status().gpus
            if gpu.in_force_mhz is not None and gpu.is_confirmed
        }

    def release(self) -> None:
        """Undo all limits of this client and release the lease; the client is closed then.

        Raises:
            AgentError: The agent is gone, or a limit could not be undone; the agent retries.
        """
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        with self._lock, self._line:
            try:
                self._line.ask(Release())
            except OSError as error:
                raise AgentError(f"{self._socket}: the agent is gone: {error}") from error

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _value(self, request: Request) -> float:
        answer = self._ask(request)
        assert isinstance(answer, Accepted), "a limit is answered with the value in force"
        return answer.value

    def _ask(self, request: Request) -> Answer:
        with self._lock:
            return self._ask_locked(request)

    def _ask_locked(self, request: Request) -> Answer:
        # Checked under the lock: a call that waited for `release` must not retake the lease.
        if self._is_closed.is_set():
            raise AgentError("the lease has been released")
        try:
            answer = self._line.ask(request)
        except OSError:
            answer = NotHolder()
        if isinstance(answer, NotHolder):
            self._line.close()
            answer = self._ask_anew(request)
        return answer

    def _ask_anew(self, request: Request) -> Answer:
        try:
            self._line = self._take_lease()
            return self._line.ask(request)
        except OSError as error:
            raise AgentError(f"{self._socket}: the agent does not answer: {error}") from error

    def _take_lease(self) -> AgentConnection:
        line = AgentConnection(self._socket)
        try:
            answer = line.ask(self._take)
        except (OSError, SteppeError):
            line.close()
            raise
        assert isinstance(answer, Accepted), "a lease is given for a time"
        self._granted_s = answer.value
        self._leases_taken += 1
        return line

    def _beat(self) -> None:
        is_raised = raise_this_thread() != Priority.NORMAL
        while not self._is_closed.wait(self._granted_s / BEATS_PER_LEASE):
            if self._lock.acquire(blocking=False):
                try:
                    request = Heartbeat() if is_raised else RaiseThread(threading.get_native_id())
                    self._ask_locked(request)
                    is_raised = True
                except SteppeError as error:
                    if not self._is_closed.is_set():
                        _log.warning("cannot renew the lease: %s", error)
                finally:
                    self._lock.release()
            else:  # a request is under way; its thread may have to wait for a core
                with suppress(OSError, ValueError):
                    self._line.pulse()
