"""The pools of a live fleet: their operating points, their policies, and the loop over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from steppe.config import PoolSection, RunConfig
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.loop import ControlLoop, Fleet
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy, with_ladder
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.pool_moves import MovablePool, MovePools
from steppe.control.pools import Pool, ShareBudget
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.control.sleep_ladder import SleepDepth, SleepLadder, SleepRung, ladder_of, rungs_of
from steppe.control.tick_times import TickTimes
from steppe.control.variants import ChooseVariants
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.controller.sleep_times import SleepTimes
from steppe.fleet.messages import Placement
from steppe.fleet.replica import settings_from_config
from steppe.frontier.pareto import Frontier
from steppe.grid.service.seam import FleetPoints
from steppe.power.budget import PowerBudget

LOAD_S = 60.0
"""Time to load a model on GPUs of another one, s, if none is stated or measured."""


class LivePools:
    """What the controller has of each pool, by its name; empty for the only one.

    Attributes:
        models: Name of the model of each pool, for clients.
        frontiers: Operating points of one replica of each pool.
        sleep_times: How long wakes and sleeps take in each pool.
    """

    def __init__(self, config: RunConfig, budget: PowerBudget) -> None:
        """Begin without a pool.

        Args:
            config: The run.
            budget: The power budget.
        """
        self._config, self._configs, self._budget = config, config.pools, budget
        self.models: dict[str, str] = {}
        self.frontiers: dict[str, Frontier] = {}
        self.sleep_times: defaultdict[str, SleepTimes] = defaultdict(SleepTimes)
        self._rungs: dict[str, tuple[SleepRung, ...]] = {}
        self._policies: dict[str, Policy] = {}
        self._replicas: dict[str, int] = {}

    def begin(
        self,
        frontiers: Mapping[str, Frontier],
        models: Mapping[str, str],
        handles: Iterable[ReplicaHandle],
    ) -> None:
        """Begin with the pools of these frontiers.

        Args:
            frontiers: Operating points of one replica, by pool.
            models: Name of the model of each pool, for clients.
            handles: The replicas.
        """
        handles, self.models = tuple(handles), dict(models)
        for pool, frontier in frontiers.items():
            self.use(pool, frontier, handles)

    def use(self, pool: str, frontier: Frontier, handles: Iterable[ReplicaHandle]) -> None:
        """Plan a pool with other operating points; what its policy has learned is lost.

        Args:
            pool: Its name.
            frontier: The operating points.
            handles: The replicas.
        """
        nodes = _nodes_of(pool, handles)
        self.frontiers[pool], self._replicas[pool] = frontier, len(nodes)
        self._rungs[pool] = self.sleep_times[pool].rungs(self._stated(pool, nodes))
        facts = PoolFacts.of(
            self.config_of(pool), frontier, len(nodes), self._budget, self._rungs[pool]
        )
        self._policies[pool] = make_policy(facts)

    def reconfigure(self, config: RunConfig, handles: Iterable[ReplicaHandle]) -> None:
        """Plan all pools by a changed configuration; what their policies have learned is lost."""
        self._config, self._configs = config, config.pools
        handles = tuple(handles)
        for pool, frontier in list(self.frontiers.items()):
            self.use(pool, frontier, handles)

    @property
    def fleet_points(self) -> FleetPoints | None:
        """What the fleet can do; None before it has begun, and with several models."""
        if len(self.frontiers) != 1:
            return None
        ((pool, frontier),) = self.frontiers.items()
        return FleetPoints(frontier, self._replicas[pool])

    def config_of(self, pool: str) -> RunConfig:
        """Return the configuration of the model of a pool alone."""
        return self._configs[self.models[pool]]

    def loop(self, fleet: Fleet) -> ControlLoop:
        """Return the loop over all pools."""
        control, budget = self._config.control, self._budget
        rules = {n: DrainRule(f.drain, control.drain_s) for n, f in self.frontiers.items()}
        times = TickTimes(budget.gpu_budget_at, control.period_s, control.lead_s)
        first = next(iter(self.frontiers))
        if len(self.frontiers) == 1:
            policy = self._with_batch(self._policies[first])
            return ControlLoop(fleet, policy, rules[first], times, limits=budget.limits_ahead)
        pools = {
            name: Pool(
                at_slo_if_any(frontier, self.config_of(name).slo.tpot_s),
                frontier.drain.draw_w,
                self._policies[name],
                self.config_of(name).model.weight,
            )
            for name, frontier in self.frontiers.items()
        }
        shared, aliases = ShareBudget(pools), self._config.aliases
        chosen = ChooseVariants(shared, aliases) if aliases else shared
        policy = self._with_batch(self._with_moves(chosen))
        return ControlLoop(fleet, policy, rules[first], times, rules, budget.limits_ahead)

    def _with_batch(self, policy: Policy) -> Policy:
        """Return the policy with a plan of batch work; each model counts its first kind of GPU."""
        first_pools = {model: pool for pool, model in reversed(self.models.items())}
        pools = [
            BatchPool(
                model,
                at_slo_if_any(self.frontiers[pool], self.config_of(pool).slo.tpot_s),
                sum(self._replicas[p] for p, m in self.models.items() if m == model),
            )
            for model, pool in first_pools.items()
            if pool in self.frontiers
        ]
        return PlanBatch(policy, pools, BatchTerms.of(self._config, self._budget))

    def _with_moves(self, policy: Policy) -> Policy:
        """Return the policy, with moves of replicas between pools if any are allowed."""
        sections = {model.client_name: model for model in self._config.models}
        if all(section.least == section.most for section in sections.values()):
            return policy
        movable = {
            name: self._movable(name, sections[self.models[name]]) for name in self.frontiers
        }
        return MovePools(policy, movable)

    def _movable(self, pool: str, section: PoolSection) -> MovablePool:
        frontier, config = self.frontiers[pool], self.config_of(pool)
        measured = self.sleep_times[pool].wake_quantiles_s().get((SleepDepth.STOPPED, "0.5"))
        return MovablePool(
            frontier=at_slo_if_any(frontier, config.slo.tpot_s),
            drain_w=frontier.drain.draw_w,
            value=section.weight,
            gpus=(pool.partition(" on ")[2], section.gpus_per_replica),
            least=section.least,
            most=section.most,
            load_s=measured or section.load_s or LOAD_S,
            load_w=frontier.idle_w,
        )

    def placed_in(self, pool: str, placement: Placement) -> Placement:
        """Return where a replica runs once it belongs to another pool."""
        settings = settings_from_config(self.config_of(pool))
        return placement.in_pool(pool, self.models[pool], settings)

    def ladder(self, pool: str) -> SleepLadder | None:
        """Return the depths of a pool with what they cost; None if there are none below a pause."""
        return ladder_of(self._rungs[pool], self.frontiers[pool])

    @property
    def points(self) -> ShortagePoints:
        """The operating points by which shortages are computed."""
        return ShortagePoints.of_pools(
            {
                name: ShortagePoints.of(frontier, self.config_of(name).slo.tpot_s)
                for name, frontier in self.frontiers.items()
            }
        )

    @property
    def off_w(self) -> float:
        """Draw of a replica whose node is off, W."""
        rungs = (rung for rungs in self._rungs.values() for rung in rungs)
        return next((r.asleep_w for r in rungs if r.depth is SleepDepth.OFF), 0.0)

    def wake_quantiles_s(self) -> dict[tuple[SleepDepth, str], float]:
        """Return the quantiles of the wakes by depth, s; of several pools, those of the slowest."""
        found: dict[tuple[SleepDepth, str], float] = {}
        for times in self.sleep_times.values():
            for key, wake_s in times.wake_quantiles_s().items():
                found[key] = max(wake_s, found.get(key, 0.0))
        return found

    def use_measured_times(self, handles: Iterable[ReplicaHandle]) -> None:
        """Plan with the times of wakes and sleeps that have been measured since."""
        handles = tuple(handles)
        for pool, frontier in self.frontiers.items():
            rungs = self.sleep_times[pool].rungs(self._stated(pool, _nodes_of(pool, handles)))
            if rungs != self._rungs[pool]:
                self._rungs[pool] = rungs
                with_ladder(self._policies[pool], ladder_of(rungs, frontier))

    def _stated(self, pool: str, nodes: list[str]) -> tuple[SleepRung, ...]:
        """Return the depths of the configuration with the times that it states."""
        config = self.config_of(pool)
        node_w = config.site.node_rest_w * len(set(nodes)) / max(1, len(nodes))
        gpus, asleep_w = config.fleet.gpus_per_replica, self.frontiers[pool].asleep_w
        return rungs_of(config.fleet.sleep, gpus, asleep_w, node_w=node_w)


def _nodes_of(pool: str, handles: Iterable[ReplicaHandle]) -> list[str]:
    """Return the node of each replica of a pool."""
    places = (handle.placement for handle in handles)
    return [place.node_id for place in places if place.pool == pool]
