"""Restarts actors that hang: an actor that dies is restarted by Ray, one that hangs is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray

_log = logging.getLogger(__name__)

HUNG_S = 20.0
"""An actor that has not answered for so long is ended, s, so that Ray restarts it. Its calls return
at once; a machine may be slow, and a restart is no cure for that."""
GAP_S = 5.0
"""After such a gap between two looks the wait begins anew, s: this process was paused, too."""


class ActorWatch:
    """Calls each actor again and again, and ends one that does not answer. No call blocks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without actors; `clock` returns monotonic time, s."""
        self._clock = clock
        self._pending: dict[str, tuple[Any, Any, float]] = {}
        self._looked_s = 0.0

    def look(self, actors: Mapping[str, Any]) -> None:
        """Look once.

        Args:
            actors: Ray handles by the name for the log; each has a method `ping`.
        """
        now_s, was_paused = self._clock(), self._clock() - self._looked_s > GAP_S
        self._looked_s = now_s
        for name in self._pending.keys() - actors.keys():
            del self._pending[name]
        for name, actor in actors.items():
            known, call, since_s = self._pending.get(name, (None, None, now_s))
            if known is not actor or self._is_done(call):
                self._pending[name] = (actor, actor.ping.remote(), now_s)
            elif was_paused:
                self._pending[name] = (actor, call, now_s)
            elif now_s - since_s > HUNG_S:
                _log.warning("%s has not answered for %.0f s: restarting it", name, now_s - since_s)
                del self._pending[name]
                ray.kill(actor, no_restart=False)

    def _is_done(self, call: Any) -> bool:
        """Return whether a call has ended, also with an error: Ray restarts an actor that died."""
        done, _ = ray.wait([call], timeout=0)
        return bool(done)
