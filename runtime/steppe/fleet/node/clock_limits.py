"""The clock limits of one node, through an agent or zeusd; a node without either only meters."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from steppe.agent.child_process import AgentProcess, start_agent
from steppe.agent.client import AgentClient, ask_status
from steppe.agent.loss_policy import Restore
from steppe.agent.zeusd_client import ZeusdClient
from steppe.errors import AgentError, ConfigError, NoPermissionError, SteppeError
from steppe.fleet.stale_runs import LEASE_FILE

PATIENCE_LEASES = 2
"""What our predecessor holds, an agent or its lease, is free after so many leases."""
REFUSED_S = 10.0
"""Who was not permitted to set a limit asks again after this time, s."""
_RETRY_S = 0.2

_Taken = TypeVar("_Taken")

_log = logging.getLogger(__name__)


class LimitSetter(Protocol):
    """Who sets clock limits for us."""

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock of a GPU; return the supported clock that is taken, MHz."""
        ...

    def confirmed_mhz(self) -> dict[str, int]:
        """Return the clock limits that the GPUs have been seen to obey, by UUID, MHz."""
        ...


class Asking:
    """Asks for limits, and takes a refusal for an answer: nothing here raises."""

    def __init__(self) -> None:
        """Begin without a refusal."""
        self._refused_s: dict[str, float] = {}
        self._failing: set[str] = set()
        self._is_silent = False

    def set(self, setter: LimitSetter, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock it took, MHz; None when it took none."""
        if time.monotonic() - self._refused_s.get(uuid, -math.inf) < REFUSED_S:
            return None
        try:
            taken_mhz = setter.set_clock_limit(uuid, clock_mhz)
        except (SteppeError, OSError) as error:
            if isinstance(error, NoPermissionError):
                self._refused_s[uuid] = time.monotonic()
            if uuid not in self._failing:
                _log.warning("clock limit of %s: asked for %d MHz: %s", uuid, clock_mhz, error)
            self._failing.add(uuid)
            return None
        self._failing.discard(uuid)
        return taken_mhz

    def confirmed_mhz(self, setter: LimitSetter) -> dict[str, int] | None:
        """Return the clock limits that are known to hold, by UUID, MHz; None: nobody can tell."""
        try:
            found = setter.confirmed_mhz()
        except (SteppeError, OSError) as error:
            if not self._is_silent:
                _log.warning("no word about the clock limits: %s", error)
            self._is_silent = True
            return None
        self._is_silent = False
        return found


class ClockLimits:
    """Holds the lease of the host's agent; where there is none for us, of an agent of our own.

    One of our own is started again when it dies.
    """

    def __init__(self, folder: Path, lease_s: float, host_agent: Path | None) -> None:
        """Take the lease.

        Args:
            folder: Where the socket, lease file and log of an agent of our own go.
            lease_s: Limits are lost when the agent has heard nothing for so long, s. What
                becomes of them an agent of the host decides; one of our own undoes them.
            host_agent: Where the agent of this host may listen; None: do not look for it.
        """
        self._folder, self._lease_s = folder, lease_s
        self._agent: AgentProcess | None = None
        self._client: AgentClient | None = None
        self._leases = 0
        self._asking = Asking()
        try:
            self._client = None if host_agent is None else self._join(host_agent)
            if self._client is None:
                self._agent = self._patiently(self._start)
                self._client = self._patiently(partial(AgentClient, self._agent.socket, lease_s))
            self._leases = self._client.leases_taken
        except (SteppeError, OSError) as error:
            _log.warning("no clock limits on this node: %s", error)

    @property
    def can_set(self) -> bool:
        """Whether there is somebody to ask."""
        return self._client is not None

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock it took, MHz; None when it took none."""
        return None if self._client is None else self._asking.set(self._client, uuid, clock_mhz)

    def confirmed_mhz(self) -> dict[str, int] | None:
        """Return the clock limits that are known to hold, by UUID, MHz; None: nobody can tell."""
        return None if self._client is None else self._asking.confirmed_mhz(self._client)

    def were_undone(self) -> bool:
        """Tell whether limits must be set anew, because the lease was lost and taken again."""
        if self._client is None:
            return False
        if self._agent is not None and self._agent.has_ended:
            _log.warning("the agent died; another one is started")
            with contextlib.suppress(SteppeError, OSError):
                self._agent = self._start()
        leases, self._leases = self._leases, self._client.leases_taken
        return leases != self._leases

    def close(self) -> None:
        """Undo every limit, give the lease back and end an agent of our own."""
        if self._client is not None:
            try:
                self._client.release()
            except AgentError as error:
                _log.warning("%s; it undoes our limits by itself", error)
        if self._agent is not None:
            self._agent.stop()

    def _join(self, socket: Path) -> AgentClient | None:
        """Take the lease of the host's agent; None where there is none for us.

        Raises:
            AgentError: Somebody else holds the lease: an agent of our own would fight theirs.
        """
        try:
            ask_status(socket)
        except AgentError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                _log.warning("the agent of this host is not for us: %s", error)
            return None
        try:
            return self._patiently(partial(AgentClient, socket, self._lease_s))
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

    def _patiently(self, take: Callable[[], _Taken]) -> _Taken:
        """Take what a predecessor may still hold, a lease file or a lease, once it is free."""
        give_up_s = time.monotonic() + PATIENCE_LEASES * self._lease_s
        while True:
            try:
                return take()
            except AgentError:
                if time.monotonic() >= give_up_s:
                    raise
                time.sleep(_RETRY_S)


class ZeusdLimits:
    """Has a running zeusd set the limits; what it set it undoes on `close`."""

    def __init__(self, client: ZeusdClient) -> None:
        """Take the client; nobody is asked yet."""
        self._client, self._asking = client, Asking()

    def require(self) -> None:
        """Make sure that the daemon is there.

        Raises:
            ConfigError: It is not.
        """
        try:
            self._client.check()
        except AgentError as error:
            raise ConfigError(f"device.zeusd: {error}") from error

    @property
    def can_set(self) -> bool:
        """Whether there is somebody to ask."""
        return True

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock it took, MHz; None when it took none."""
        return self._asking.set(self._client, uuid, clock_mhz)

    def confirmed_mhz(self) -> dict[str, int] | None:
        """Return the clock limits that are known to hold, by UUID, MHz; None: nobody can tell."""
        return self._asking.confirmed_mhz(self._client)

    def were_undone(self) -> bool:
        """Tell whether limits must be set anew: never, for there is no lease to lose."""
        return False

    def close(self) -> None:
        """Undo every limit of ours."""
        try:
            self._client.release()
        except SteppeError as error:
            _log.warning("clock limits stay: %s", error)
