"""The fleet's view of one simulated replica: its state, and the limits it was told."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from steppe.control.state import COMING, ReplicaObservation, ReplicaState
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue

CHANGE_PERIOD_S = 1.0
"""The clock limit of one GPU changes at most once in this time, s, as on a live node."""


@dataclass(slots=True)
class Wish:
    """A clock limit on its way to the device.

    Attributes:
        clock_mhz: The limit, MHz; until it is handed over the latest one replaces it.
        handed_s: When the device gets it, s; the clock follows a latency later.
    """

    clock_mhz: int
    handed_s: float


class SimulatedHandle:
    """One replica of the fleet.

    Attributes:
        name: Stable name.
        replica: What runs.
        state: Where it is in its life.
        clock_mhz: SM clock limit that it was told, MHz.
        batch_limit: Batch limit that it was told.
        drawn_j: Energy of the last window, J.
    """

    __slots__ = (
        "_clock_latency_s",
        "_counted",
        "_is_finishing",
        "_queue",
        "_since_s",
        "_wish",
        "batch_limit",
        "clock_mhz",
        "drawn_j",
        "name",
        "replica",
        "state",
    )

    def __init__(
        self, name: str, replica: SimulatedReplica, queue: EventQueue, clock_latency_s: float
    ) -> None:
        self.name, self.replica = name, replica
        self._queue, self._clock_latency_s = queue, clock_latency_s
        self.state = ReplicaState.AWAKE
        self.clock_mhz = replica.clock_mhz
        self.batch_limit = replica.batch.limit
        self.drawn_j = 0.0
        self._since_s, self._counted = queue.now_s, 0
        self._is_finishing = False
        self._wish = Wish(self.clock_mhz, -inf)

    def move(self, state: ReplicaState) -> None:
        """Come to a state."""
        if state != self.state:
            rested = self.state == ReplicaState.ASLEEP or self._is_waking
            self._is_finishing = rested and state == ReplicaState.DRAINING
            self.state, self._since_s = state, self._queue.now_s

    def limit(self, clock_mhz: int, batch_limit: int) -> None:
        """Set both limits; the clock follows when the device has taken it."""
        self.batch_limit = batch_limit
        self.replica.limit_batch(batch_limit)
        if clock_mhz == self.clock_mhz:
            return
        self.clock_mhz = clock_mhz
        if self._wish.handed_s >= self._queue.now_s:
            self._wish.clock_mhz = clock_mhz
            return
        self._wish = Wish(clock_mhz, max(self._queue.now_s, self._wish.handed_s + CHANGE_PERIOD_S))
        taken_s = self._wish.handed_s + self._clock_latency_s
        self._queue.at(taken_s, self._take_clock, self._wish)

    def seen(self, outstanding: int, window_s: float) -> ReplicaObservation:
        """Return what a policy sees; its meter was read over so long, s."""
        is_waking = self._is_waking
        if is_waking:
            self._since_s = self._queue.now_s
        starting_w = self.draw_w(window_s) if self.state in COMING else 0.0
        told = (outstanding, is_waking, starting_w, self._is_finishing)
        place = (self.name, self.state, self._since_s, self.clock_mhz, self.batch_limit)
        return ReplicaObservation(*place, *told)

    @property
    def _is_waking(self) -> bool:
        called = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING)
        return called and not self.replica.is_ready

    def draw_w(self, window_s: float) -> float:
        """Return the mean draw of the last window, W, which was so long, s; 0 before the first."""
        return self.drawn_j / window_s if window_s > 0 else 0.0

    def has_slept_since(self, time_s: float) -> bool:
        """Tell whether it was told to sleep at a time, s, or before."""
        return self.state == ReplicaState.ASLEEP and self._since_s <= time_s

    def take_tokens(self) -> int:
        """Return the tokens sampled since the last call."""
        before, self._counted = self._counted, self.replica.output_tokens
        return self._counted - before

    def _take_clock(self, now_s: float, wish: Wish) -> None:
        self.replica.limit_clock(wish.clock_mhz)
