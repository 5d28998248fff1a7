"""The limits of one node, set by an agent or zeusd; a node without either only meters.

Board power limits need an agent, for zeusd has no lease that undoes them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from steppe.agent.child_process import AgentProcess, start_agent
from steppe.agent.client import AgentClient, ask_status
from steppe.agent.loss_policy import Restore
from steppe.agent.zeusd_client import ZeusdClient
from steppe.errors import AgentError, ConfigError, NoPermissionError, SteppeError
from steppe.fleet.stale_runs import LEASE_FILE

RETRY_LEASES = 2
"""An agent or a lease of a node actor that died is free after so many lease times."""
NO_PERMISSION_S = 10.0
"""Time until a limit is requested again that this process had no permission to set, s."""
_RETRY_S = 0.2

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class LimitSetter(Protocol):
    """Sets clock limits."""

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock of a GPU; return the supported clock that was set, MHz."""
        ...

    def confirmed_mhz(self) -> dict[str, int]:
        """Return the clock limits that the GPUs were observed to keep, by UUID, MHz."""
        ...


class LoggedSetter:
    """Calls a setter, and logs an error once until it changes instead of raising it."""

    def __init__(self, setter: LimitSetter, clock: Callable[[], float]) -> None:
        """Begin without an error.

        Args:
            setter: Sets the limits.
            clock: Returns monotonic time, s.
        """
        self._setter, self._clock = setter, clock
        self._no_permission_s: dict[str, float] = {}
        self._failing: set[str] = set()
        self._is_unreachable = False

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock that was set, MHz; None if none was."""
        if self._clock() - self._no_permission_s.get(uuid, -math.inf) < NO_PERMISSION_S:
            return None
        try:
            set_mhz = self._setter.set_clock_limit(uuid, clock_mhz)
        except (SteppeError, OSError) as error:
            if isinstance(error, NoPermissionError):
                self._no_permission_s[uuid] = self._clock()
            if uuid not in self._failing:
                _log.warning("clock limit of %s: asked for %d MHz: %s", uuid, clock_mhz, error)
            self._failing.add(uuid)
            return None
        self._failing.discard(uuid)
        self._no_permission_s.pop(uuid, None)
        return set_mhz

    def refuses(self, uuid: str) -> bool:
        """Return whether there was no permission for a GPU at the last attempt."""
        return uuid in self._no_permission_s

    def confirmed_mhz(self) -> dict[str, int] | None:
        """Return the clock limits that hold, by UUID, MHz; None when they cannot be read."""
        try:
            found = self._setter.confirmed_mhz()
        except (SteppeError, OSError) as error:
            if not self._is_unreachable:
                _log.warning("clock limits cannot be read: %s", error)
            self._is_unreachable = True
            return None
        self._is_unreachable = False
        return found


class ClockLimits:
    """Holds a lease of the host's agent, or starts an agent where that is not available.

    An agent that was started here is started again when it dies.
    """

    def __init__(
        self,
        folder: Path,
        lease_s: float,
        host_agent: Path | None,
        clock: Callable[[], float] = time.monotonic,
        holder: str = "",
    ) -> None:
        """Take a lease; a GPU joins it with the first limit.

        Args:
            folder: Where the socket, lease file and log of an agent that is started here go.
            lease_s: Limits are lost after so long without a heartbeat, s. The host's agent then
                applies its loss policy; an agent that was started here undoes them.
            host_agent: Where the agent of this host may listen; None: do not use one.
            clock: Returns monotonic time, s.
            holder: Name of the run, which the agent gives to others that ask for its GPUs.
        """
        self._folder, self._lease_s, self._clock = folder, lease_s, clock
        self._holder = holder
        self._agent: AgentProcess | None = None
        self._client: AgentClient | None = None
        self._setter: LoggedSetter | None = None
        self._leases, self._power_error = 0, ""
        try:
            self._client = None if host_agent is None else self._join(host_agent)
            if self._client is None:
                self._agent = self._retry(self._start)
                self._client = self._retry(
                    partial(AgentClient, self._agent.socket, lease_s, holder)
                )
            self._setter = LoggedSetter(self._client, clock)
            self._leases = self._client.leases_taken
        except (SteppeError, OSError) as error:
            _log.warning("no clock limits on this node: %s", error)

    @property
    def can_set(self) -> bool:
        """Whether there is an agent."""
        return self._client is not None

    @property
    def can_set_power(self) -> bool:
        """Whether board power limits can be set by a process that also undoes them."""
        return self._client is not None

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock that was set, MHz; None if none was."""
        return None if self._setter is None else self._setter.set(uuid, clock_mhz)

    def refuses(self, uuid: str) -> bool:
        """Return whether there is no permission for a GPU, though there is for others."""
        return self._setter is not None and self._setter.refuses(uuid)

    def confirmed_mhz(self) -> dict[str, int] | None:
        """Return the clock limits that hold, by UUID, MHz; None when they cannot be read."""
        return None if self._setter is None else self._setter.confirmed_mhz()

    def follow_power_limits(
        self, after_s: Sequence[float], limits_w: Mapping[str, Sequence[float]], keep_s: float
    ) -> None:
        """Let board power limits follow a schedule, see `AgentClient.follow_power_limits`.

        An error is logged once until it changes; the next tick tries again.
        """
        if self._client is None:
            return
        try:
            self._client.follow_power_limits(after_s, limits_w, keep_s)
        except (SteppeError, OSError) as error:
            if str(error) != self._power_error:
                _log.warning("board power limits: %s", error)
            self._power_error = str(error)
        else:
            self._power_error = ""

    def were_undone(self) -> bool:
        """Return whether limits must be set again, because the lease was lost and taken again."""
        if self._client is None:
            return False
        if self._agent is not None and self._agent.has_ended:
            _log.warning("the agent died; starting another")
            with contextlib.suppress(SteppeError, OSError):
                self._agent = self._start()
        leases, self._leases = self._leases, self._client.leases_taken
        return leases != self._leases

    def close(self) -> None:
        """Undo every limit, release the lease, and end an agent that was started here."""
        if self._client is not None:
            try:
                self._client.release()
            except AgentError as error:
                _log.warning("%s; the agent undoes the limits when the lease ends", error)
        if self._agent is not None:
            self._agent.stop()

    def _join(self, socket: Path) -> AgentClient | None:
        """Take a lease from the host's agent; None where it cannot be used.

        Raises:
            AgentError: It answers, but gives no lease: a second agent would fight the first.
        """
        try:
            ask_status(socket)
        except AgentError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                _log.warning("the agent of this host cannot be used: %s", error)
            return None
        try:
            return self._retry(partial(AgentClient, socket, self._lease_s, self._holder))
        except NoPermissionError as error:
            _log.warning("the agent of this host sets no limits: %s", error)
            return None

    def _start(self) -> AgentProcess:
        return start_agent(
            self._folder / "agent.sock",
            lease_file=self._folder / LEASE_FILE,
            loss=Restore(),
            lease_s=self._lease_s,
        )

    def _retry(self, call: Callable[[], _Result]) -> _Result:
        """Call until what a node actor that died may still hold is free: a file or a lease."""
        give_up_s = self._clock() + RETRY_LEASES * self._lease_s
        while True:
            try:
                return call()
            except AgentError:
                if self._clock() >= give_up_s:
                    raise
                time.sleep(_RETRY_S)


class ZeusdLimits:
    """Sets limits through a running zeusd, and undoes them on `close`."""

    def __init__(self, client: ZeusdClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the client; this calls no daemon yet."""
        self._client, self._setter = client, LoggedSetter(client, clock)

    def require(self) -> None:
        """Make sure that the daemon answers.

        Raises:
            ConfigError: It does not.
        """
        try:
            self._client.check()
        except AgentError as error:
            raise ConfigError(f"device.zeusd: {error}") from error

    @property
    def can_set(self) -> bool:
        """Whether limits can be set: the configuration requires it."""
        return True

    @property
    def can_set_power(self) -> bool:
        """Whether board power limits can be set: never, for nothing would undo them."""
        return False

    def follow_power_limits(self, *_: object) -> None:
        """Do nothing, see `can_set_power`."""

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock that was set, MHz; None if none was."""
        return self._setter.set(uuid, clock_mhz)

    def refuses(self, uuid: str) -> bool:
        """Return whether there is no permission for a GPU, though there is for others."""
        return self._setter.refuses(uuid)

    def confirmed_mhz(self) -> dict[str, int] | None:
        """Return the clock limits that hold, by UUID, MHz; None when they cannot be read."""
        return self._setter.confirmed_mhz()

    def were_undone(self) -> bool:
        """Return whether limits must be set again: never, for there is no lease to lose."""
        return False

    def close(self) -> None:
        """Undo every limit that was set here."""
        try:
            self._client.release()
        except SteppeError as error:
            _log.warning("clock limits stay: %s", error)
