"""The observation of a live fleet, made from handles, reports and the loads of its pools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steppe.control.batch_work import BatchWork
from steppe.control.measurements import summed_by_clock
from steppe.control.state import Observation
from steppe.fleet.controller.live_measurements import (
    engine_queue,
    mean_asleep_w,
    with_known_clock,
)
from steppe.fleet.controller.live_pools import LivePools
from steppe.fleet.controller.model_loads import NO_LOAD, ModelLoad, together
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import ReplicaReport

Reports = dict[str, list[ReplicaReport]]


@dataclass(frozen=True, slots=True)
class ObservedFleet:
    """What was read of a fleet at one tick.

    Attributes:
        now_s: The time, s.
        budget_w: The budget of the GPUs, W.
        handles: The replicas, by name.
        fenced: Those that plans leave out.
        reports: The new reports, by replica.
        outstanding: Requests of each replica at the gateway.
        is_metered: Whether every replica of the last plan has a draw reading.
        cache_worth: Blocks of recent prompts that the prefix cache of each replica could serve.
        work: Batch work that runners have declared.
    """

    now_s: float
    budget_w: float
    handles: Mapping[str, ReplicaHandle]
    fenced: frozenset[str]
    reports: Reports
    outstanding: Mapping[str, int]
    is_metered: bool
    cache_worth: Mapping[str, float] = field(default_factory=dict)
    work: tuple[BatchWork, ...] = ()

    @property
    def by_model(self) -> dict[str, list[str]]:
        """Names of the replicas of each model."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for handle in self.handles.values():
            found[handle.placement.model].append(handle.name)
        return found

    def observation(self, pools: LivePools, loads: Mapping[str, ModelLoad]) -> Observation:
        """Return what all replicas do, with the part of each pool where there are several.

        Args:
            pools: The pools.
            loads: The load of each model.
        """
        whole = self._of(tuple(self.handles.values()), together(loads.values()))
        whole = replace(whole, batch=self.work)
        if len(pools.models) < 2:
            return whole
        parts = {
            pool: self._of(self._plannable(pool), load)
            for pool, load in self._of_pools(pools, loads).items()
        }
        return replace(whole, pools=parts)

    def _plannable(self, pool: str) -> tuple[ReplicaHandle, ...]:
        """Return the replicas of a pool that are not fenced."""
        handles = (h for h in self.handles.values() if h.placement.pool == pool)
        return tuple(handle for handle in handles if handle.name not in self.fenced)

    def _of_pools(self, pools: LivePools, loads: Mapping[str, ModelLoad]) -> dict[str, ModelLoad]:
        """Return the load of each pool; those of one model share it by what they can serve."""
        capacity: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for pool, model in pools.models.items():
            full_tps = pools.frontiers[pool].full.output_tps
            capacity[model][pool] = len(self._plannable(pool)) * full_tps
        found: dict[str, ModelLoad] = {}
        for pool, model in pools.models.items():
            load, whole = loads.get(model, NO_LOAD), sum(capacity[model].values())
            alone = len(capacity[model]) == 1 or not whole
            found[pool] = load if alone else load.part(capacity[model][pool] / whole)
        return found

    def _of(self, handles: Sequence[ReplicaHandle], load: ModelLoad) -> Observation:
        """Return the observation of some replicas and their load."""
        unfenced = {h.name: h for h in handles if h.name not in self.fenced}
        offered = load.load
        return Observation(
            now_s=self.now_s,
            gpu_budget_w=self.budget_w,
            draw_w=sum(handle.draw_w for handle in handles) if self.is_metered else None,
            demand_tps=offered.tps,
            waiting=load.waiting,
            replicas=tuple(
                h.observation(self.outstanding.get(h.name, 0), self.cache_worth.get(h.name, 0.0))
                for h in handles
            ),
            deferrable=offered.deferrable,
            asleep_w=mean_asleep_w(unfenced.values()) if self.is_metered else None,
            lengths=offered.lengths,
            engine_queue=engine_queue(unfenced.values()),
            latency=load.latency,
            work=summed_by_clock(
                report.work
                for name in (with_known_clock(unfenced.values()) or unfenced)
                for report in self.reports.get(name, ())
                if report.work is not None
            ),
        )
