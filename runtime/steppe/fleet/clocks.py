"""The clock limits of one node, through its agent; a node without one only meters."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

from steppe.device.agent_client import AgentClient, AgentProcess, start_agent
from steppe.device.lease import Restore
from steppe.errors import AgentError, NoPermissionError, NotSupportedError, SteppeError

PATIENCE_LEASES = 2
"""An agent that our predecessor left behind is gone after so many leases."""
_RETRY_S = 0.2

_log = logging.getLogger(__name__)


class ClockLimits:
    """Owns an agent and its lease; an agent that dies is started again."""

    def __init__(self, folder: Path, lease_s: float) -> None:
        """Start the agent and take the lease.

        Args:
            folder: Where its socket, lease file and log go.
            lease_s: It undoes our limits when it has heard nothing for so long, s.
        """
        self._folder, self._lease_s = folder, lease_s
        self._agent: AgentProcess | None = None
        self._client: AgentClient | None = None
        self._leases = 0
        self._is_refused = False
        try:
            self._agent = self._start(PATIENCE_LEASES * lease_s)
            self._client = AgentClient(self._agent.socket, lease_s)
            self._leases = self._client.leases_taken
        except (SteppeError, OSError) as error:
            _log.warning("no agent, so no clock limits on this node: %s", error)

    def set(self, uuid: str, clock_mhz: int) -> int | None:
        """Limit the SM clock of a GPU; return the clock it took, MHz; None when it took none."""
        if self._client is None or self._is_refused:
            return None
        try:
            return self._client.set_clock_limit(uuid, clock_mhz)
        except (NoPermissionError, NotSupportedError) as error:
            self._is_refused = True
            _log.warning("no clock limits from now on: %s", error)
        except (SteppeError, OSError) as error:
            _log.warning("clock limit of %s: asked for %d MHz: %s", uuid, clock_mhz, error)
        return None

    def were_undone(self) -> bool:
        """Tell whether limits must be set anew, because the lease was lost and taken again."""
        if self._client is None or self._agent is None:
            return False
        if self._agent.process.poll() is not None:
            _log.warning("the agent died; another one is started")
            with contextlib.suppress(SteppeError, OSError):
                self._agent = self._start(0.0)
        leases, self._leases = self._leases, self._client.leases_taken
        return leases != self._leases

    def close(self) -> None:
        """Undo every limit, give the lease back and end the agent."""
        if self._client is not None:
            try:
                self._client.release()
            except AgentError as error:
                _log.warning("%s; it undoes our limits by itself", error)
        if self._agent is not None:
            self._agent.stop()

    def _start(self, patience_s: float) -> AgentProcess:
        """Start an agent, once the one before has let go of the lease file."""
        give_up_s = time.monotonic() + patience_s
        while True:
            try:
                return start_agent(
                    self._folder / "agent.sock",
                    lease_file=self._folder / "lease.json",
                    loss=Restore(),
                    lease_s=self._lease_s,
                )
            except AgentError:
                if time.monotonic() >= give_up_s:
                    raise
                time.sleep(_RETRY_S)
