"""The one place that makes the record of a tick, for live and simulated runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steppe.control.batch_work import BatchPace
from steppe.control.plan import Plan
from steppe.control.shortage_forecast import ShortageForecast, ShortagePoints, power_needs
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.power.budget import Budget
from steppe.report.records import (
    BatchTick,
    Bound,
    GpuEvent,
    GridTick,
    PoolTick,
    ReplicaTick,
    TickRecord,
)
from steppe.report.shortages import shortage_ticks

Variants = Mapping[str, Mapping[str, float]]
"""The share of each model in the requests for each alias, by its name."""


@dataclass(frozen=True, slots=True)
class ReplicaWindow:
    """What one replica did in a window.

    Attributes:
        draw_w: Mean draw of its GPUs, W.
        output_tokens: Output tokens that it sampled.
        conditions: What holds for its GPUs, see `ReplicaTick`.
    """

    draw_w: float
    output_tokens: int
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetWindow:
    """What the fleet did in a window.

    Attributes:
        draw_w: Mean draw of the fleet, W.
        energy_j: Energy of the fleet, J.
        output_tokens: Output tokens of the fleet, including replicas that are lost since.
        running: Requests in the engines at its end.
        replicas: What each replica did, in the order of the observation.
        gpu_events: What happened to GPUs.
    """

    draw_w: float
    energy_j: float
    output_tokens: int
    running: int
    replicas: Sequence[ReplicaWindow]
    gpu_events: tuple[GpuEvent, ...] = ()


class TickRecords:
    """Makes a record of each window between two ticks.

    The budget that governs a window is that of the tick that began it.

    Attributes:
        budget: The budget that governs the present window; None before the first tick.
        began_s: Begin of the present window, s since the run began.
        shares_w: The share of each pool in that budget, W; empty with one pool.
    """

    def __init__(self) -> None:
        """Begin before the first window."""
        self.budget: Budget | None = None
        self.began_s = 0.0
        self.shares_w: Mapping[str, float] = {}
        self._next_shares_w: Mapping[str, float] = {}
        self._variants: Variants = {}
        self._next_variants: Variants = {}
        self._paces: Mapping[str, BatchPace] = {}

    def begin(self, now_s: float, budget: Budget) -> None:
        """Begin the next window at a tick with this budget."""
        self.budget, self.began_s = budget, now_s

    def note_plan(self, plan: Plan) -> None:
        """Note the plan of a tick, before its record is made."""
        self._next_shares_w = {name: part.share_w for name, part in plan.pools.items()}
        self._next_variants = plan.variants
        self._paces = plan.batch

    def record(
        self,
        observation: Observation,
        budget: Budget,
        window: FleetWindow,
        shortages: ShortageForecast,
        points: ShortagePoints,
        *,
        grid: GridTick | None = None,
        took_s: float | None = None,
    ) -> TickRecord | None:
        """Return the record of the window that ends at a tick, None for the first; begin the next.

        Args:
            observation: What the tick observed.
            budget: The budget at the tick.
            window: What the fleet did since the tick before.
            shortages: What the budget is not enough for, now or in the forecast.
            points: Operating points of one replica.
            grid: What the grid asked when the window began; None if nothing.
            took_s: How long the controller worked on the tick before, s; None if unknown.
        """
        governing, began_s = self.budget, self.began_s
        shares_w, self.shares_w = self.shares_w, self._next_shares_w
        variants, self._variants = self._variants, self._next_variants
        self.begin(observation.now_s, budget)
        if governing is None:
            return None
        width_s = observation.now_s - began_s
        return TickRecord(
            t_s=observation.now_s,
            budget_w=governing.gpu_budget_w,
            budget_source=governing.source,
            draw_w=window.draw_w,
            supply_w=governing.supply_w,
            demand_tps=observation.demand_tps,
            output_tps=window.output_tokens / width_s,
            energy_j=window.energy_j,
            output_tokens=window.output_tokens,
            waiting=observation.waiting + observation.frozen,
            running=window.running,
            engine_queue=observation.engine_queue,
            shortages=shortage_ticks(shortages),
            battery=budget.charge,
            curtailed_w=budget.settled.curtailed_w,
            site_w=budget.settled.site_w,
            sources_w=budget.settled.sources_w,
            stale=governing.stale,
            node_rest_w=governing.node_rest_w,
            node_rest_source=governing.node_rest_source,
            bound=bound_of(observation, window.draw_w, governing.gpu_budget_w, points),
            one_awake_w=_one_awake_w(observation, points),
            gpu_events=window.gpu_events,
            pools=_pool_ticks(observation, window, width_s, shares_w),
            variants=variants,
            batch=_batch_tick(observation, window, governing, self._paces),
            grid=grid,
            took_s=took_s,
            replicas=_replica_ticks(observation, window, width_s),
        )


def _replica_ticks(
    observation: Observation, window: FleetWindow, width_s: float
) -> tuple[ReplicaTick, ...]:
    return tuple(
        [
            ReplicaTick(
                id=replica.id,
                state=replica.state.value,
                clock_mhz=replica.clock_mhz,
                batch_limit=replica.batch_limit,
                draw_w=own.draw_w,
                output_tps=own.output_tokens / width_s,
                depth=replica.depth if replica.state == ReplicaState.ASLEEP else "",
                fault=replica.fault,
                conditions=own.conditions,
                pool=replica.pool,
            )
            for replica, own in zip(observation.replicas, window.replicas, strict=True)
        ]
    )


def _batch_tick(
    observation: Observation,
    window: FleetWindow,
    governing: Budget,
    paces: Mapping[str, BatchPace],
) -> BatchTick | None:
    jobs, running = observation.batch, observation.deferrable.running
    if not jobs:
        return None
    share = running / max(1, running, observation.outstanding)
    fastest = max(paces.values(), key=lambda pace: pace.tokens_per_s, default=None)
    return BatchTick(
        jobs=len(jobs),
        rows=sum(job.rows for job in jobs),
        tokens=sum(job.output_tokens for job in jobs),
        running=running,
        draw_w=share * window.draw_w,
        surplus_w=governing.surplus_w,
        output_tps=sum(pace.tokens_per_s for pace in paces.values()),
        reason="" if fastest is None else fastest.reason.value,
    )


def _pool_ticks(
    observation: Observation, window: FleetWindow, width_s: float, shares_w: Mapping[str, float]
) -> tuple[PoolTick, ...]:
    did = dict(zip((r.id for r in observation.replicas), window.replicas, strict=True))
    return tuple(
        PoolTick(
            name=name,
            budget_w=shares_w.get(name, 0.0),
            draw_w=sum(did[r.id].draw_w for r in part.replicas if r.id in did),
            demand_tps=part.demand_tps,
            output_tps=sum(did[r.id].output_tokens for r in part.replicas if r.id in did) / width_s,
            waiting=part.waiting + part.frozen,
            awake=part.counts.awake,
        )
        for name, part in observation.pools.items()
    )


def bound_of(
    observation: Observation, draw_w: float, budget_w: float, points: ShortagePoints
) -> Bound | None:
    """Return which end of its range keeps a fleet from its budget; None if it could follow.

    `ceiling`: every replica is awake at the highest point that the SLO allows, so it cannot draw
    as much as the budget. `floor`: no replica is awake; or the only one is at its lowest point and
    its draw exceeds the budget.

    Args:
        observation: The fleet, with the limits that were in force.
        draw_w: Its draw, W.
        budget_w: The budget that governed, W.
        points: Operating points of one replica.
    """
    if observation.pools:
        return _bound_of_pools(observation, draw_w, budget_w, points)
    replicas, counts = _usable(observation), observation.counts
    if draw_w <= budget_w and counts.awake == len(replicas):
        full = points.kept.full
        is_full = (
            r.clock_mhz >= full.clock_mhz and r.batch_limit >= full.batch_limit for r in replicas
        )
        return "ceiling" if all(is_full) else None
    if observation.count(ReplicaState.DRAINING, ReplicaState.STARTING):
        return None
    awake = [replica for replica in replicas if replica.state == ReplicaState.AWAKE]
    if not awake:
        return "floor"
    lowest_mhz = points.frontier.floor.clock_mhz
    is_lowest = len(awake) == 1 and awake[0].clock_mhz <= lowest_mhz
    return "floor" if is_lowest and draw_w > budget_w else None


def _bound_of_pools(
    observation: Observation, draw_w: float, budget_w: float, points: ShortagePoints
) -> Bound | None:
    """Return the bound of all pools; at the ceiling, those without waiting work do not count."""
    ends = {
        name: bound_of(part, draw_w, budget_w, points.pools[name])
        for name, part in observation.pools.items()
    }
    busy = {ends[name] for name, part in observation.pools.items() if part.work_waits}
    if busy == {"ceiling"}:
        return "ceiling"
    return next(iter(ends.values())) if len(set(ends.values())) == 1 else None


def _one_awake_w(observation: Observation, points: ShortagePoints) -> float | None:
    """Return the draw with one replica awake, W, if every replica is asleep."""
    if observation.count(ReplicaState.ASLEEP) < len(_usable(observation)):
        return None
    return power_needs(observation, points).serving_w


def _usable(observation: Observation) -> list[ReplicaObservation]:
    """Return the replicas that are not quarantined."""
    return [r for r in observation.replicas if r.state != ReplicaState.QUARANTINED]
