"""How deep one replica sleeps, and how long its ways there and back take."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import ray

from steppe.control.sleep_ladder import SleepDepth
from steppe.fleet.controller.pending_call import PendingCall

OFFLOAD_S = 120.0
"""Longest time in which weights move to the memory of the host, s."""
LEAVE_S = 30.0
"""Longest time in which a process ends by itself, s; then it is killed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DepthTime:
    """How long a replica took to get to a depth, or to serve again from there.

    Attributes:
        depth: The depth.
        is_wake: Whether it is the way back.
        time_s: The time, s.
    """

    depth: SleepDepth
    is_wake: bool
    time_s: float


@dataclass(slots=True)
class DeepSleep:
    """The depth of one replica's sleep.

    Attributes:
        depth: The depth it is at, or is going to; that of a pause if it does not sleep.
        woke_from: The depth that it comes back from; None if it starts for another reason.
        waits_for_node: Whether it starts as soon as its node is on.
        cannot: Depths that its engine does not have.
        times: Times since they were taken last.
        cache_losses: How often it has lost its cache though its process went on.
    """

    depth: SleepDepth = SleepDepth.PAUSED
    woke_from: SleepDepth | None = None
    waits_for_node: bool = False
    cannot: set[SleepDepth] = field(default_factory=set)
    times: list[DepthTime] = field(default_factory=list)
    cache_losses: int = 0
    _leaving: PendingCall | None = None
    _began_s: float = 0.0

    @property
    def has_no_process(self) -> bool:
        """Whether its engine has ended, or is about to."""
        return self.depth.rank >= SleepDepth.STOPPED.rank

    @property
    def is_leaving(self) -> bool:
        """Whether its process has not ended yet."""
        return self._leaving is not None

    def may_go_to(self, depth: SleepDepth) -> bool:
        """Return whether a depth is deeper than the present one, and possible."""
        return depth.rank > self.depth.rank and depth not in self.cannot and not self.is_leaving

    def begin(self, depth: SleepDepth, now_s: float, leaving: Any | None) -> None:
        """Go to a depth; `leaving` is the call that ends its process, if it has one to end."""
        self.depth, self._began_s = depth, now_s
        self.cache_losses += depth is SleepDepth.OFFLOADED
        self._leaving = None if leaving is None else PendingCall(leaving, now_s + LEAVE_S)

    def arrived(self, now_s: float) -> None:
        """Note that the depth is reached."""
        self.times.append(DepthTime(self.depth, False, now_s - self._began_s))

    def refuse(self) -> None:
        """Stay at a pause: the engine does not have the depth."""
        self.cannot.add(self.depth)
        self.depth = SleepDepth.PAUSED

    def finish_leaving(self, actor: Any, now_s: float) -> None:
        """Note that its process has ended; kill one that does not."""
        if self._leaving is None:
            return
        if self._leaving.is_done:
            try:
                ray.get(self._leaving.call)
            except ray.exceptions.RayError as error:
                _log.info("a process ended before its answer: %s", error)
        elif now_s >= self._leaving.due_s:
            ray.kill(actor, no_restart=False)
        else:
            return
        self._leaving = None
        self.arrived(now_s)

    def wake(self, now_s: float) -> None:
        """Begin to come back."""
        self.woke_from = self.depth if self.depth.is_deep else None
        self.depth, self._began_s = SleepDepth.PAUSED, now_s

    def serves(self, now_s: float, start_s: float) -> None:
        """Note that it serves again.

        Args:
            now_s: Now, s.
            start_s: What its engine took to start, s; 0 if unknown. It counts as a wake of a
                stopped replica where it was no wake.
        """
        if self.woke_from is not None:
            self.times.append(DepthTime(self.woke_from, True, now_s - self._began_s))
        elif start_s > 0:
            self.times.append(DepthTime(SleepDepth.STOPPED, True, start_s))
        self.woke_from, self.waits_for_node = None, False

    def take_times(self) -> list[DepthTime]:
        """Return the times since the last call."""
        taken, self.times = self.times, []
        return taken
