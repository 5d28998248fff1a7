"""Restarts actors that hang: an actor that dies is restarted by Ray, one that hangs is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

_log = logging.getLogger(__name__)

HUNG_S = 20.0
"""An actor that has not answered for so long is ended, s, so that Ray restarts it. Its calls return
at once; a machine may be slow, and a restart is no cure for that."""


class ActorWatch:
    """Calls each actor again and again, and ends one that does not answer. No call blocks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without actors; `clock` returns monotonic time, s."""
        self._clock = clock
        self._pending: dict[str, _Ping] = {}

    def look(self, actors: Mapping[str, Any]) -> None:
        """Look once.

        Args:
            actors: Ray handles by the name for the log; each has a method `ping`.
        """
        now_s = self._clock()
        for name in self._pending.keys() - actors.keys():
            del self._pending[name]
        for name, actor in actors.items():
            ping = self._pending.get(name)
            if ping is None or ping.actor is not actor or ping.is_done:
                self._pending[name] = _Ping(actor, actor.ping.remote(), now_s)
            elif now_s - ping.since_s > HUNG_S and not ping.is_overdue:
                ping.is_overdue = True  # this process may have been paused, too: look again
            elif ping.is_overdue:
                _log.warning("%s has not answered for %.0f s: restarting it", name, HUNG_S)
                del self._pending[name]
                ray.kill(actor, no_restart=False)


@dataclass(slots=True)
class _Ping:
    """A call to an actor that has not returned yet."""

    actor: Any
    call: Any
    since_s: float
    is_overdue: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it has ended, also with an error: Ray restarts an actor that died."""
        done, _ = ray.wait([self.call], timeout=0)
        return bool(done)
