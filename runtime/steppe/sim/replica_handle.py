"""The fleet's view of one simulated replica: its state and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from steppe.control.sleep_ladder import SleepDepth, SleepRung
from steppe.control.state import COMING, ReplicaObservation, ReplicaState
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue

CHANGE_PERIOD_S = 1.0
"""The clock limit of a GPU changes at most once in this time, s, as on a live node."""


@dataclass(slots=True)
class PendingClock:
    """A clock limit on its way to the GPU.

    Attributes:
        clock_mhz: The limit, MHz; until it is set a newer one replaces it.
        set_s: When it is set, s; the clock follows a latency later.
    """

    clock_mhz: int
    set_s: float


class SimulatedHandle:
    """One replica of the fleet.

    Attributes:
        name: Stable name.
        replica: The replica.
        state: State in its life cycle.
        clock_mhz: SM clock limit of the last action, MHz.
        batch_limit: Batch limit of the last action.
        tokens_per_step: Most tokens in a step of the last action; 0: the engine's own limit.
        drawn_j: Energy of the last window, J.
        depth: How deep it sleeps, if it is asleep.
        node: Name of its node.
        pool: Name of its pool; empty if there is only one.
        is_here: Whether the pool has it now; another one may.
        planned_tps: Output tokens/s of the operating point of the last action; 0 if unknown.
    """

    __slots__ = (
        "_clock_latency_s",
        "_clock_moves_s",
        "_counted_tokens",
        "_pending",
        "_queue",
        "_since_s",
        "_woke_to_drain",
        "batch_limit",
        "clock_mhz",
        "depth",
        "drawn_j",
        "is_here",
        "name",
        "node",
        "planned_tps",
        "pool",
        "replica",
        "state",
        "tokens_per_step",
    )

    def __init__(
        self,
        name: str,
        replica: SimulatedReplica,
        queue: EventQueue,
        clock_latency_s: float,
        node: str = "",
    ) -> None:
        self.name, self.replica, self.node = name, replica, node
        self.pool, self.is_here = "", True
        self.depth = SleepDepth.PAUSED
        self._queue, self._clock_latency_s = queue, clock_latency_s
        self.state = ReplicaState.AWAKE
        self.clock_mhz = replica.clock_mhz
        self.batch_limit = replica.batch.limit
        self.drawn_j, self.tokens_per_step, self.planned_tps = 0.0, 0, 0.0
        self._since_s, self._counted_tokens = queue.now_s, 0
        self._woke_to_drain = False
        self._pending = PendingClock(self.clock_mhz, -inf)
        self._clock_moves_s = -inf

    def move(self, state: ReplicaState) -> None:
        """Change the state."""
        if state != self.state:
            had_slept = self.state == ReplicaState.ASLEEP or self._is_waking
            self._woke_to_drain = had_slept and state == ReplicaState.DRAINING
            self.state, self._since_s = state, self._queue.now_s

    def set_limits(
        self, clock_mhz: int, batch_limit: int, *, holds: bool = True, tokens_per_step: int = 0
    ) -> None:
        """Set the limits; the clock follows after its latency.

        Args:
            clock_mhz: SM clock limit, MHz.
            batch_limit: Batch limit.
            holds: Whether it binds running requests, too.
            tokens_per_step: Most tokens in a step; 0: the engine's own limit.
        """
        self.tokens_per_step = tokens_per_step
        self.batch_limit = batch_limit
        self.replica.limit_batch(batch_limit, holds=holds)
        self.replica.limit_tokens(tokens_per_step)
        if clock_mhz == self.clock_mhz:
            return
        self.clock_mhz = clock_mhz
        if self._pending.set_s >= self._queue.now_s:
            self._pending.clock_mhz = clock_mhz
            return
        set_s = max(self._queue.now_s, self._pending.set_s + CHANGE_PERIOD_S)
        self._pending = PendingClock(clock_mhz, set_s)
        self._queue.at(set_s + self._clock_latency_s, self._take_clock, self._pending)

    def observe(
        self, outstanding: int, window_s: float, cache_worth: float = 0.0
    ) -> ReplicaObservation:
        """Return what a policy observes.

        Args:
            outstanding: Requests that the replica has.
            window_s: Length of the window of `drawn_j`, s.
            cache_worth: Blocks of recent prompts that its cache could serve.
        """
        is_waking = self._is_waking
        if is_waking:
            self._since_s = self._queue.now_s
        return ReplicaObservation(
            id=self.name,
            state=self.state,
            since_s=self._since_s,
            clock_mhz=self.clock_mhz,
            batch_limit=self.batch_limit,
            outstanding=outstanding,
            is_waking=is_waking,
            starting_w=self.draw_w(window_s) if self.state in COMING else 0.0,
            woke_to_drain=self._woke_to_drain,
            tokens_per_step=self.tokens_per_step,
            depth=self.depth,
            deep_w=self.draw_w(window_s) if self.is_deep else 0.0,
            node=self.node,
            pool=self.pool,
            cache_worth=cache_worth,
        )

    @property
    def serves(self) -> bool:
        """Whether requests may go to it."""
        return self.is_here and self.state == ReplicaState.AWAKE

    @property
    def is_deep(self) -> bool:
        """Whether it sleeps deeper than a pause."""
        return self.state == ReplicaState.ASLEEP and self.depth.is_deep

    def deepen(self, rung: SleepRung) -> None:
        """Sleep deeper."""
        self.move(ReplicaState.ASLEEP)
        self.depth = rung.depth
        self.replica.deepen(rung)

    def start(self, duration_s: float) -> None:
        """Start, or come back from a deep sleep; serves after so long, s."""
        self.move(ReplicaState.STARTING)
        self.depth = SleepDepth.PAUSED
        self.replica.start(lambda now_s, epoch: self._serve(epoch), duration_s)

    def _serve(self, _: object) -> None:
        self.move(ReplicaState.AWAKE)

    @property
    def _is_waking(self) -> bool:
        called = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING)
        return called and not self.replica.is_ready

    def draw_w(self, window_s: float) -> float:
        """Return the mean draw of the last window, W; 0 before the first."""
        return self.drawn_j / window_s if window_s > 0 else 0.0

    def has_slept_since(self, time_s: float) -> bool:
        """Return whether it was paused at a time, s, or before."""
        is_paused = self.state == ReplicaState.ASLEEP and not self.depth.is_deep
        return is_paused and self._since_s <= time_s

    def take_tokens(self) -> int:
        """Return the tokens sampled since the last call."""
        before, self._counted_tokens = self._counted_tokens, self.replica.output_tokens
        return self._counted_tokens - before

    def has_kept_its_clock_since(self, time_s: float) -> bool:
        """Return whether its clock was the same from a time, s, until now."""
        return self._clock_moves_s <= time_s and self.replica.clock_mhz == self.clock_mhz

    def _take_clock(self, now_s: float, pending: PendingClock) -> None:
        self._clock_moves_s = now_s
        self.replica.limit_clock(pending.clock_mhz)
