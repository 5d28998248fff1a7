"""The starts of the engines at the begin of a run: waits for some of them, and keeps the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import ray

from steppe.config import FleetSection
from steppe.errors import ReplicaError, SteppeError, UsageError, notes_of
from steppe.fleet.cluster import call_result
from steppe.fleet.messages import Placement

POLL_S = 0.5
"""Longest time between two lines of progress, s."""
LOG_TIMEOUT_S = 5.0
"""Longest wait for the log of an engine that failed, s."""

_log = logging.getLogger(__name__)


class EngineStarts:
    """Starts the engines of a fleet; the first that serves lets the run begin soon.

    Attributes:
        ready: Names of the replicas whose engines have started.
        failures: Why the others could not, by name.
    """

    def __init__(self, fleet: FleetSection, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without replicas; `clock` returns monotonic time, s."""
        self._fleet, self._clock = fleet, clock
        self.ready: set[str] = set()
        self.failures: dict[str, SteppeError] = {}
        self._began_s: float | None = None
        self._calls: dict[str, Any] = {}
        self._places: dict[str, Placement] = {}

    def start(self, place: Placement, folder: Any) -> None:
        """Start the engine of a replica.

        Args:
            place: Where it runs.
            folder: The folder of the model there, or the call that is going to return it.
        """
        if self._began_s is None:
            self._began_s = self._clock()
        status = place.actor.status.remote()
        assignment = place.node.assign.remote(
            place.replica, place.gpu_indices, place.cores, status, place.model
        )
        self._calls[place.replica] = place.actor.start.remote(assignment, folder)
        self._places[place.replica] = place

    def running(self) -> dict[str, Any]:
        """Return the starts that have not ended, by name: the controller waits for them."""
        self._take(timeout_s=0.0)
        return dict(self._calls)

    @property
    def is_too_late(self) -> bool:
        """Whether the first start was requested longer ago than one may take."""
        return self._began_s is not None and self._clock() - self._began_s >= self._fleet.start_s

    def wait(self, note: Callable[[str], None], details: Callable[[], str]) -> None:
        """Wait until every engine has started or failed, or long enough for the later ones.

        Args:
            note: Gets a line about how far the start is.
            details: Returns what else happens meanwhile, in one line.

        Raises:
            UsageError: No engine can run this configuration.
            ReplicaError: No engine could start, or none has in time; a note of the error has
                the last lines of its log.
        """
        ready_s: float | None = None
        while self._calls:
            self._take(POLL_S)
            now_s = self._clock()
            ready_s = now_s if ready_s is None and self.ready else ready_s
            if ready_s is not None and now_s - ready_s >= self._fleet.wait_s:
                break
            if ready_s is None and self.is_too_late:
                raise self._none_in_time()
            note(self._line(details()))
        if not self.ready:
            name, error = next(iter(self.failures.items()))
            self._add_log(name, error)
            raise error

    def _take(self, timeout_s: float) -> None:
        """Take the results of starts that have ended; wait for one at most so long, s."""
        if not self._calls:
            return
        names = {call: name for name, call in self._calls.items()}
        done, _ = ray.wait([*names], num_returns=1, timeout=timeout_s)
        for call in done:
            name = names[call]
            del self._calls[name]
            try:
                call_result(call, name, LOG_TIMEOUT_S)
                self.ready.add(name)
            except (ReplicaError, UsageError) as error:
                self.failures[name] = error
                if self.ready or self._calls:
                    self._add_log(name, error)
                    _log.warning("%s", "\n".join([str(error), *notes_of(error)]))

    def _line(self, details: str) -> str:
        parts = [f"{len(self.ready)} of {len(self._places)} replicas serve"]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        return ", ".join(parts) + (f"; {details}" if details else "")

    def _none_in_time(self) -> SteppeError:
        name = next(iter(self._calls))
        asked = f"no replica serves after {self._fleet.start_s:.0f} s (fleet.start_s)"
        error = ReplicaError(f"{asked}: {name} is still starting")
        self._add_log(name, error)
        return error

    def _add_log(self, name: str, error: SteppeError) -> None:
        """Add the last lines of the engine's log to an error, once, unless the user caused it."""
        if isinstance(error, UsageError) or notes_of(error):
            return
        call = self._places[name].node.last_log_lines.remote(name)
        try:
            lines: str = call_result(call, name, LOG_TIMEOUT_S)
        except (ReplicaError, UsageError):
            return
        if lines:
            error.add_note(f"last lines of the log of {name}:\n{lines}")
