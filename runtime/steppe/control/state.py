"""What the controller observes at one tick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from steppe.control.batch_work import BatchWork
from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.control.sleep_ladder import SleepDepth
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import AS_MODELLED, CostFactors


class ReplicaState(StrEnum):
    """The state of a replica."""

    STARTING = "starting"
    AWAKE = "awake"
    DRAINING = "draining"
    ASLEEP = "asleep"
    GONE = "gone"
    QUARANTINED = "quarantined"
    """Not started again in this run: a GPU of it has a fault, or too many starts failed."""


COMING = frozenset({ReplicaState.STARTING, ReplicaState.GONE})
"""States of replicas that start, or are gone and will be started."""


@dataclass(frozen=True, slots=True)
class ReplicaObservation:
    """One replica at one instant.

    Attributes:
        id: Stable name, such as "replica-1".
        state: Its state.
        since_s: When it entered this state, s; after a wake, when it was ready to compute.
        clock_mhz: SM clock limit that was set last, MHz; it may take effect a second later.
        batch_limit: Batch limit that is set.
        outstanding: Requests it has accepted and not finished.
        is_waking: Whether it was woken and has not computed anything since.
        starting_w: Its draw while it starts or is gone and no limit applies, W; otherwise 0.
        woke_to_drain: Whether it drains and was asleep, or waking, when that began.
        tokens_per_step: Most tokens in a step that is set; 0: the engine's own limit.
        depth: How deep it sleeps, if it is asleep.
        deep_w: Its draw while it sleeps deeper than a pause, W; otherwise 0.
        node: Name of its node; empty if it is unknown or has no other replica.
        lowest_limit_w: Sum of the lowest board power limits of its GPUs, W; 0 where none are set.
        fault: Why it is quarantined; empty if it is not.
        clock_is_free: Whether its clock cannot be limited, so that it runs at the highest.
        pool: The pool that it belongs to; empty where there is only one.
        cache_worth: Blocks of recent prompts that its prefix cache could serve, recent requests
            weighted more; 0 if unknown.
    """

    id: str
    state: ReplicaState
    since_s: float
    clock_mhz: int
    batch_limit: int
    outstanding: int
    is_waking: bool = False
    starting_w: float = 0.0
    woke_to_drain: bool = False
    tokens_per_step: int = 0
    depth: SleepDepth = SleepDepth.PAUSED
    deep_w: float = 0.0
    node: str = ""
    lowest_limit_w: float = 0.0
    fault: str = ""
    clock_is_free: bool = False
    pool: str = ""
    cache_worth: float = 0.0

    @property
    def is_deep(self) -> bool:
        """Whether it sleeps deeper than a pause."""
        return self.state == ReplicaState.ASLEEP and self.depth is not SleepDepth.PAUSED

    @property
    def has_drained(self) -> bool:
        """Whether it drains and has no request left: it may sleep, or serve again."""
        return self.state == ReplicaState.DRAINING and not self.outstanding


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    """How many replicas are in which state.

    Attributes:
        awake: Serving replicas.
        asleep: Sleeping replicas, and drained ones, which may sleep at once.
        draining: Draining replicas with requests to finish.
        coming: Replicas that start, or are gone and will be started.
    """

    awake: int
    asleep: int
    draining: int
    coming: int

    @property
    def usable(self) -> int:
        """Replicas that can serve at once, or after a wake."""
        return self.awake + self.asleep


@dataclass(frozen=True, slots=True)
class DeferrableWork:
    """Requests of class `deferrable`, which may wait.

    Attributes:
        tps: Their part of the demand, output tokens per second.
        waiting: Number of them that no replica has taken yet.
        tokens: Output tokens of the waiting ones.
        running: Number of them that replicas have.
    """

    tps: float
    waiting: int
    tokens: float
    running: int = 0


NO_DEVIATION = CostFactors(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a policy has learned from earlier windows.

    Attributes:
        factors: Measured over modelled costs of a step.
        deviations: Standard deviation of each factor.
        reserve: Capacity above the demand that the SLO needs, share of the demand.
        at_ceiling: Whether the fleet must run at its ceiling, because requests miss the SLO while
            watts are unused.
        tokens_per_step: Most tokens in a step, so that prompts delay the other requests less; 0:
            the engine's own limit.
    """

    factors: CostFactors = AS_MODELLED
    deviations: CostFactors = NO_DEVIATION
    reserve: float = 0.0
    at_ceiling: bool = False
    tokens_per_step: int = 0


@dataclass(frozen=True, slots=True)
class AliasLoad:
    """The requests that ask for an alias, which any of its variants may serve.

    Attributes:
        tps: Output tokens per second that they ask for.
        by_model: The part of the demand of each model that they are, output tokens per second.
        required_tps: The part of `tps` that requires the first variant.
    """

    tps: float
    by_model: Mapping[str, float]
    required_tps: float = 0.0


NOTHING_LEARNED = Learned()
NONE_DEFERRABLE = DeferrableWork(0.0, 0, 0.0)


@dataclass(frozen=True)
class Observation:
    """The fleet, its demand and its budget at one instant; watts are those of the GPUs.

    Counts of its replicas are cached, because a decision uses them many times.

    Attributes:
        now_s: Time since the run began, s.
        gpu_budget_w: Power the GPUs may draw until the next tick, W.
        draw_w: Mean draw over the window that just ended, W; None if no meter answered.
        demand_tps: Output tokens per second that clients ask for.
        waiting: Requests that no replica has taken yet.
        replicas: All replicas, in a fixed order.
        deferrable: The part of the demand and of the waiting requests that may wait.
        asleep_w: Mean draw of a sleeping replica in the last metered window, W; None if none slept
            all through it, or no meter answered.
        lengths: The mean request of the demand; None if unknown.
        engine_queue: Requests that replicas hold and that their engines have not admitted; prompts
            in progress do not count.
        latency: Requests against the SLO; None if unknown.
        work: Steps of the last window, by clock; empty if unknown.
        learned: What the policy has learned from earlier windows; set by the policy.
        pools: The part of each pool, by its name, in a fixed order; empty where there is only one.
            The budget in a part is that of all.
        aliases: The load of each alias, by its name.
        batch: Batch work, as its runners declare it; the rows that are sent are requests of class
            `deferrable`, too.
        lowest_ahead_w: The lowest limit of the GPUs' power within the time for which a replica may
            drain, as far as limits are known ahead, W; infinite if none is.
    """

    now_s: float
    gpu_budget_w: float
    draw_w: float | None
    demand_tps: float
    waiting: int
    replicas: tuple[ReplicaObservation, ...]
    deferrable: DeferrableWork = NONE_DEFERRABLE
    asleep_w: float | None = None
    lengths: RequestLengths | None = None
    engine_queue: int = 0
    latency: LatencyCounts | None = None
    work: tuple[ClockWork, ...] = ()
    learned: Learned = NOTHING_LEARNED
    pools: Mapping[str, Observation] = field(default_factory=dict)
    aliases: Mapping[str, AliasLoad] = field(default_factory=dict)
    batch: tuple[BatchWork, ...] = ()
    lowest_ahead_w: float = math.inf

    def with_learned(self, learned: Learned) -> Observation:
        """Return the same instant with what was learned; cached counts are kept."""
        other = copy(self)
        vars(other)["learned"] = learned
        return other

    def with_budget(self, gpu_budget_w: float) -> Observation:
        """Return the same instant with another budget, W; cached counts are kept."""
        other = copy(self)
        vars(other)["gpu_budget_w"] = gpu_budget_w
        return other

    def with_limit_ahead(self, lowest_ahead_w: float) -> Observation:
        """Return the same instant with another limit ahead, W; cached counts are kept."""
        other = copy(self)
        vars(other)["lowest_ahead_w"] = lowest_ahead_w
        return other

    @cached_property
    def frozen(self) -> int:
        """Requests inside sleeping replicas."""
        asleep = ReplicaState.ASLEEP
        return sum([r.outstanding for r in self.replicas if r.outstanding and r.state == asleep])

    @cached_property
    def is_waking(self) -> bool:
        """Whether any replica is waking."""
        return True in [replica.is_waking for replica in self.replicas]

    @property
    def work_waits(self) -> bool:
        """Whether any request waits for watts."""
        return self.waiting > 0 or self.frozen > 0

    @property
    def firm_work_waits(self) -> bool:
        """Whether a request waits for watts that is not deferrable."""
        return self.waiting > self.deferrable.waiting or self.frozen > 0

    @cached_property
    def outstanding(self) -> int:
        """Requests that replicas have accepted and not finished."""
        return sum([replica.outstanding for replica in self.replicas])

    @cached_property
    def counts(self) -> ReplicaCounts:
        """How many replicas are in which state."""
        found = [replica.state for replica in self.replicas]
        draining = found.count(ReplicaState.DRAINING)
        drained = sum([replica.has_drained for replica in self.replicas]) if draining else 0
        return ReplicaCounts(
            found.count(ReplicaState.AWAKE),
            found.count(ReplicaState.ASLEEP) + drained,
            draining - drained,
            found.count(ReplicaState.STARTING) + found.count(ReplicaState.GONE),
        )

    def count(self, *states: ReplicaState) -> int:
        """Return how many replicas are in one of these states."""
        found = [replica.state for replica in self.replicas]
        return sum(found.count(state) for state in states)
