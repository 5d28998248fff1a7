"""What a fleet can offer the grid now, from what its controller has.

The draw between its floor, where every replica is paused, and the present one is divided into what
nothing needs, work that can wait, and streams. So the sources are never more than the draw, and the
cheapest come first. Watts are those of the site: what the GPUs draw, times the PUE.

The limit of the grid binds the draw of the site, whatever covers it. So a battery counts only where
the meter of the grid sees it: give `stored` then, and not otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from steppe.config.offers import OffersSection
from steppe.control.batch_work import BatchWork
from steppe.control.sleep_ladder import SleepDepth, SleepLadder, SleepRung
from steppe.control.state import COMING, Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.grid.events.comply import Flexibility, Reach
from steppe.grid.offers.sources import (
    Now,
    Source,
    battery_down,
    battery_up,
    given_up_work,
    more_work,
    stopped_work,
)
from steppe.grid.plan.terms import Edge, Site, Work, edges_of, per_mwh
from steppe.grid.verify.delivery import Direction
from steppe.power.battery import NO_BATTERY, Battery

REAL_SHARE = 0.9
"""Part of the hull's output that is counted on: replicas are whole, and some watts stay free."""
SETTLE_S = 1.0
"""Time in which a clock limit takes effect, s: it changes at most once a second."""
CALL_S = 3600.0
"""Length of a call for which the recovery is stated, s."""
HOLDS_S = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 86_400.0, math.inf)
"""Lengths of an event for which it is said how far down the site gets, s."""
NEVER_DUE_S = 10 * 365 * 86_400
"""Time within which work without a deadline is due, s."""
USABLE = frozenset({ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.DRAINING})
"""States of replicas that serve, or could."""
_STEP_S = 1.0
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Worth:
    """What tokens and energy are worth, money.

    Attributes:
        token_value: An output token that cannot wait.
        deferrable_value: An output token that can wait, if it is done in time.
        late_penalty: What a token costs that is late, beside its worth.
        energy_price: A joule.
    """

    token_value: float = 0.0
    deferrable_value: float = 0.0
    late_penalty: float = 0.0
    energy_price: float = 0.0

    @classmethod
    def of(cls, section: OffersSection | None) -> Worth:
        """Return what the configuration says; nothing has a worth without it."""
        if section is None:
            return cls()
        return cls(
            token_value=section.token_value_per_million / _MILLION,
            deferrable_value=section.deferrable_value_per_million / _MILLION,
            late_penalty=section.late_penalty_per_million / _MILLION,
            energy_price=per_mwh(section.energy_price_per_mwh),
        )


@dataclass(frozen=True, slots=True)
class PoolNow:
    """The replicas of one model on one kind of GPU.

    Attributes:
        frontier: Operating points of one replica.
        observation: The pool now; watts are those of its GPUs.
        model: The model that it serves, by the name that clients use.
        ladder: The depths of sleep with their times; None if there is none below a pause.
    """

    frontier: Frontier
    observation: Observation
    model: str = ""
    ladder: SleepLadder | None = None


@dataclass(frozen=True, slots=True)
class StoredEnergy:
    """A battery that the meter of the grid sees.

    Attributes:
        battery: Its limits and losses, W at the site.
        stored_j: Energy in it, J.
        wear: Cost of a joule through it, money.
    """

    battery: Battery
    stored_j: float
    wear: float = 0.0


@dataclass(frozen=True, slots=True)
class FleetNow:
    """What the controller has.

    Attributes:
        pools: The pools, at least one.
        jobs: Batch work of all models, as its runners declare it.
        gpu_budget_w: Power that the GPUs may draw now, W; what waited may have it later.
        pue: Site watts per watt of a GPU.
        period_s: Control period, s: the longest time until a limit is read.
        patience_s: How long requests that may wait do so, s, if they belong to no batch job.
        worth: What tokens and energy are worth.
        stored: A battery that the meter of the grid sees; None without one.
        import_w: How many more watts the connection to the grid allows than are drawn now, W.
    """

    pools: tuple[PoolNow, ...]
    jobs: tuple[BatchWork, ...] = ()
    gpu_budget_w: float = math.inf
    pue: float = 1.0
    period_s: float = 1.0
    patience_s: float = 0.0
    worth: Worth = field(default_factory=Worth)
    stored: StoredEnergy | None = None
    import_w: float = math.inf


def sources_of(fleet: FleetNow, hold_s: float = CALL_S) -> tuple[Source, ...]:
    """Return what the fleet can give in both directions; nothing where its draw is unknown.

    Args:
        fleet: What the controller has.
        hold_s: Length of a call for which the recovery is stated, s.
    """
    if any(pool.observation.draw_w is None for pool in fleet.pools):
        return ()
    alike = Counter(pool.model for pool in fleet.pools)
    whole_w = sum(_most_w(pool) for pool in fleet.pools)
    found: list[Source] = []
    for pool in fleet.pools:
        jobs = [job for job in fleet.jobs if job.model == pool.model or len(alike) == 1]
        share = _most_w(pool) / whole_w if whole_w else 0.0
        found += _PoolSources.of(fleet, pool, jobs, share, alike[pool.model]).all(hold_s)
    if fleet.stored is not None:
        found += _battery(fleet, fleet.stored)
    return tuple(one for one in found if one.watts > 0.0)


def flexibility_of(sources: Iterable[Source], above_w: float = 0.0) -> Flexibility:
    """Return how far, how fast and for how long a site gets down, whatever that costs.

    Args:
        sources: What it can give.
        above_w: How much the baseline of an event is above the present draw, W; below zero if it
            is under it.
    """
    down = [one for one in sources if one.direction is Direction.LESS]
    first_s = min((one.notice_s for one in down), default=0.0)
    quick = [one for one in down if one.notice_s <= first_s]
    within_s = {id(one): _within_s(one, first_s) for one in down}
    reaches = [Reach(max(0.0, above_w), 0.0, math.inf)]
    for hold_s in HOLDS_S:
        for at_s in sorted(set(within_s.values())):
            acting = (one for one in down if within_s[id(one)] <= at_s)
            down_w = above_w + sum(one.sustained_w(hold_s) for one in acting)
            reaches.append(Reach(max(0.0, down_w), at_s, hold_s))
    return Flexibility(tuple(reaches), sum(one.ramp_w_per_s for one in quick))


def _within_s(source: Source, first_s: float) -> float:
    """Return when a source begins to act, s; that of a slow one is when it has acted."""
    if source.notice_s <= first_s:
        return source.notice_s
    return source.notice_s + source.watts / source.ramp_w_per_s


@dataclass(frozen=True, slots=True)
class _PoolSources:
    """A pool as a site of its own, W at the site.

    Attributes:
        pool: The pool.
        site: Its floor and edges.
        now: Its state.
        notice_s: Time until a limit acts, s.
        pue: Site watts per watt of a GPU.
        import_w: How many more watts may be drawn, W.
    """

    pool: PoolNow
    site: Site
    now: Now
    notice_s: float
    pue: float
    import_w: float

    @classmethod
    def of(
        cls, fleet: FleetNow, pool: PoolNow, jobs: Sequence[BatchWork], share: float, alike: int
    ) -> _PoolSources:
        """Return a pool.

        Args:
            fleet: What the controller has.
            pool: The pool.
            jobs: The batch work of its model.
            share: Its share of the budget.
            alike: How many pools serve this model.
        """
        seen, worth, pue = pool.observation, fleet.worth, fleet.pue
        site = _site_of(pool, worth, pue)
        draw_w = pue * (seen.draw_w or 0.0)
        firm_tps = max(0.0, seen.demand_tps - seen.deferrable.tps)
        now = Now(
            draw_w=draw_w,
            firm_tps=min(firm_tps, site.output_of(draw_w)),
            stored_j=0.0,
            work=_work_of(seen, jobs, fleet, alike),
            energy_price=worth.energy_price,
            later_w=pue * share * fleet.gpu_budget_w if share else 0.0,
        )
        return cls(pool, site, now, fleet.period_s, pue, share * fleet.import_w if share else 0.0)

    def all(self, hold_s: float) -> list[Source]:
        """Return all sources of the pool, the cheapest downwards first."""
        beyond_w = max(0.0, self.now.draw_w - self.site.draw_of(self.now.firm_tps))
        ramp = beyond_w / SETTLE_S
        found = [
            stopped_work(self.site, self.now, hold_s, notice_s=self.notice_s, ramp_w_per_s=ramp),
            given_up_work(self.site, self.now, notice_s=self.notice_s, ramp_w_per_s=ramp),
        ]
        if not self.now.work:
            found = [Source("what nothing needs", beyond_w, self.notice_s, ramp, 0.0)]
        return [*found, *self._streams(), *self._deeper(), self._more()]

    def _streams(self) -> list[Source]:
        """Return what streams draw, from the watts that yield the fewest tokens."""
        found, left_tps = [], self.now.firm_tps
        for number, edge in enumerate(self.site.edges):
            used = min(1.0, left_tps / edge.output_tps) if edge.output_tps else 0.0
            left_tps -= used * edge.output_tps
            watts, rate = used * edge.draw_w, edge.tokens_per_j
            stops = number == 0
            found.append(
                Source(
                    name="stopped streams" if stops else "slower streams",
                    watts=watts,
                    notice_s=self.notice_s,
                    ramp_w_per_s=watts / SETTLE_S,
                    price=max(0.0, self.site.firm_token_value * rate - self.now.energy_price),
                    tokens_per_j=rate,
                    slo_tokens_per_j=rate,
                    rebound_share=1.0 if stops else 0.0,
                )
            )
        return found[::-1]

    def _deeper(self) -> list[Source]:
        """Return what replicas without requests stop to draw when they leave the pause."""
        ladder, seen = self.pool.ladder, self.pool.observation
        rung = None if ladder is None else _deepest(ladder)
        idle = sum(map(_may_deepen, seen.replicas))
        if ladder is None or rung is None or not idle:
            return []
        depth, after_s = rung
        saved_w = self.pue * idle * (ladder.paused_w - depth.asleep_w)
        sleep_s = max(SETTLE_S, depth.sleep_s)
        back_j = self.pue * idle * ladder.waking_w * depth.wake_s
        return [
            Source(
                name="deeper sleep",
                watts=saved_w,
                notice_s=self.notice_s + after_s,
                ramp_w_per_s=saved_w / sleep_s,
                price=0.0,
                rebound_share=min(1.0, back_j / (saved_w * CALL_S)) if saved_w > 0.0 else 0.0,
                recovery_s=depth.wake_s + depth.sleep_s,
            )
        ]

    def _more(self) -> Source:
        up = more_work(self.site, self.now, notice_s=self.notice_s, ramp_w_per_s=0.0)
        watts = max(0.0, min(up.watts, self.import_w))
        return replace(up, watts=watts, ramp_w_per_s=watts / SETTLE_S)


def _site_of(pool: PoolNow, worth: Worth, pue: float) -> Site:
    """Return a pool as a site: its floor, and what its usable replicas yield above it."""
    usable = _usable(pool)
    edges = edges_of(pool.frontier, usable)[1] if usable else ()
    return Site(
        floor_w=pue * _floor_w(pool),
        edges=tuple(Edge(pue * e.draw_w, REAL_SHARE * e.output_tps) for e in edges),
        import_limit_w=math.inf,
        firm_token_value=worth.token_value,
        later_price=worth.energy_price,
        step_s=_STEP_S,
        late_penalty=worth.late_penalty,
    )


def _floor_w(pool: PoolNow) -> float:
    """Return the draw of the GPUs while every replica that can is paused, W."""
    frontier, floor_w = pool.frontier, 0.0
    for replica in pool.observation.replicas:
        if replica.state in COMING:
            floor_w += max(frontier.idle_w, replica.starting_w)
        elif replica.is_deep:
            floor_w += replica.deep_w
        else:
            floor_w += min(frontier.asleep_w, frontier.floor.draw_w)
    return floor_w


def _most_w(pool: PoolNow) -> float:
    """Return the draw of the GPUs at full output, W."""
    least_w = min(pool.frontier.asleep_w, pool.frontier.floor.draw_w)
    return _floor_w(pool) + _usable(pool) * (pool.frontier.full.draw_w - least_w)


def _usable(pool: PoolNow) -> int:
    """Return how many replicas serve, or could at once."""
    return sum(r.state in USABLE and not r.is_deep for r in pool.observation.replicas)


def _work_of(
    seen: Observation, jobs: Sequence[BatchWork], fleet: FleetNow, alike: int
) -> tuple[Work, ...]:
    """Return the work of a pool that can wait, with the time until it is due."""
    value = fleet.worth.deferrable_value
    if not jobs:
        tokens = max(seen.deferrable.tokens, seen.deferrable.tps * _STEP_S)
        return (Work(tokens, _due_step(fleet.patience_s), value),) if tokens > 0.0 else ()
    return tuple(
        Work(job.output_tokens / alike, _due_step(job.due_in_s), value)
        for job in jobs
        if job.output_tokens > 0.0
    )


def _due_step(due_in_s: float | None) -> int:
    """Return the last step that ends within a time; -1 if none does."""
    return math.floor((NEVER_DUE_S if due_in_s is None else max(0.0, due_in_s)) / _STEP_S) - 1


def _deepest(ladder: SleepLadder) -> tuple[SleepRung, float] | None:
    """Return the deepest rung that pays, and after how long, s; nodes are not counted on.

    A node is switched off as a whole, and what it stops to draw beside its GPUs is not known here.
    """
    pairs = zip(ladder.rungs, ladder.pays_after_s, strict=True)
    paying = [(r, s) for r, s in pairs if math.isfinite(s) and r.depth is not SleepDepth.OFF]
    return paying[-1] if paying else None


def _may_deepen(replica: ReplicaObservation) -> bool:
    """Return whether a replica has no request and could leave the pause for a deeper sleep."""
    return replica.state in USABLE and not replica.outstanding and not replica.is_deep


def _battery(fleet: FleetNow, stored: StoredEnergy) -> list[Source]:
    """Return what a battery gives and takes."""
    price = fleet.worth.energy_price
    site = Site(0.0, (), math.inf, 0.0, price, stored.battery)
    now = Now(0.0, 0.0, stored.stored_j, (), price)
    if stored.battery == NO_BATTERY:
        return []
    return [battery_down(site, now, stored.wear), battery_up(site, now, stored.wear)]
