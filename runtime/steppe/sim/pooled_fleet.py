"""Several pools as one simulated fleet: one budget, one observation, one set of books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from steppe.config import SiteSection
from steppe.control.batch_work import BatchWork
from steppe.control.reconcile import Action, Move
from steppe.control.state import DeferrableWork, Observation, ReplicaObservation
from steppe.control.variants import Shares
from steppe.load.arrivals import Arrival
from steppe.power.budget import Budget, PowerBudget
from steppe.report.tick_records import FleetWindow, ReplicaWindow
from steppe.sim.alias_router import AliasRouter
from steppe.sim.events import EventQueue
from steppe.sim.fleet import SimulatedFleet, SimulatedTotals
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class PooledSettings:
    """Size and kind of the pools of a simulated fleet.

    Attributes:
        pools: Each pool, by the name of its model.
        aliases: The variants of each alias, best first.
    """

    pools: Mapping[str, FleetSettings]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """Number of replicas of all pools."""
        return sum(pool.replicas for pool in self.pools.values())

    @property
    def nodes(self) -> int:
        """Number of nodes; each pool begins with a node of its own."""
        return sum(pool.nodes for pool in self.pools.values())

    @property
    def site(self) -> SiteSection:
        """What joules enclose, the same for all pools."""
        return next(iter(self.pools.values())).site

    @property
    def placed(self) -> dict[str, FleetSettings]:
        """The pools, each with its place after those before it."""
        found: dict[str, FleetSettings] = {}
        first = first_node = 0
        for name, pool in self.pools.items():
            place = replace(
                pool.place,
                pool=name,
                first=first,
                replicas=self.replicas,
                first_node=first_node,
            )
            found[name] = replace(pool, place=place)
            first, first_node = first + pool.replicas, first_node + pool.nodes
        nodes = tuple(
            pool.node(pool.place.first + each)
            for pool in found.values()
            for each in range(pool.replicas)
        )
        return {n: replace(p, place=replace(p.place, nodes=nodes)) for n, p in found.items()}


BATCH = 8
"""Waiting requests that go to another variant at once, before its room is looked at again."""


class PooledFleet:
    """Implements the control loop's `Fleet` over one simulated fleet for each model.

    A replica has the same name in every pool, so that it can go from one to another.

    Attributes:
        pools: The fleet of each pool.
        observation: The last observation; None before the first.
        budget: The budget of the last observation.
        work: Returns the batch work that runners declare.
    """

    def __init__(
        self,
        settings: PooledSettings,
        budget: PowerBudget,
        queue: EventQueue,
        ended: Callable[[Request], None],
    ) -> None:
        """Begin with every replica awake, without limits and without work.

        Args:
            settings: The pools.
            budget: The power budget of all of them.
            queue: Virtual time.
            ended: Takes each request that has ended, once its energy is complete.
        """
        self._settings, self._power = settings.placed, budget
        self._ended, self._aliases = ended, AliasRouter(settings.aliases)
        self.pools = {
            name: SimulatedFleet(pool, budget, queue, self._end)
            for name, pool in self._settings.items()
        }
        self._node_rest_w = next(iter(self._settings.values())).node_rest_w
        self._moved: dict[str, ReplicaWindow] = {}
        self.observation: Observation | None = None
        self.work: Callable[[float], tuple[BatchWork, ...]] = lambda _: ()
        self.budget: Budget = budget.at(queue.now_s)

    @property
    def totals(self) -> SimulatedTotals:
        """Energy of all pools so far."""
        parts = [fleet.totals for fleet in self.pools.values()]
        return SimulatedTotals(
            sum(part.energy_j for part in parts),
            sum(part.idle_j for part in parts),
            sum(part.transition_j for part in parts),
        )

    def observe(self, now_s: float) -> Observation:
        """Observe all pools on one budget."""
        draws_w = [fleet.draw_w or 0.0 for fleet in self.pools.values()]
        self._power.set_node_rest(self._node_rest_w * len(self._nodes_on))
        self._power.settle(now_s, sum(draws_w))
        self.budget = self._power.at(now_s)
        budget_w = self.budget.gpu_budget_w
        parts = {n: fleet.observe_within(now_s, budget_w) for n, fleet in self.pools.items()}
        aliases = self._aliases.loads(now_s, parts)
        whole = together(parts)
        self.observation = replace(whole, aliases=aliases, batch=self.work(now_s))
        return self.observation

    def apply(self, actions: list[Action]) -> None:
        """Carry out actions in their order, then give each gateway its awake replicas."""
        homes = {handle.name: fleet for fleet in self.pools.values() for handle in fleet.here}
        self._moved.clear()
        for action in actions:
            home = homes[action.replica]
            if isinstance(action, Move):
                given = home.give(action.replica)
                self.pools[action.pool].take(action.replica, given)
                self._moved[action.replica] = given.window
            else:
                home.carry_out(action)
        for fleet in self.pools.values():
            fleet.route()

    def arrive(self, number: int, arrival: Arrival) -> None:
        """Let a client send a request to the model, or the alias, that it asks for."""
        asked = arrival.model if arrival.model in self._aliases.traffics else ""
        model = self._aliases.choose(arrival, self._rooms(asked)) if asked else arrival.model
        self._aliases.give(model, asked)
        self.pools[model].arrive(number, arrival, asked)

    def choose(self, variants: Mapping[str, Shares]) -> None:
        """Deal the requests for aliases by these shares, those that wait in vain too."""
        self._aliases.share(variants)
        for alias, traffic in self._aliases.traffics.items():
            for name in traffic.variants:
                others = [self.pools[other] for other in traffic.variants if other != name]
                self._hand_over(alias, self.pools[name], others)

    def _hand_over(self, alias: str, source: SimulatedFleet, others: list[SimulatedFleet]) -> None:
        """Give requests that wait at one variant to others that have room."""

        def is_wanted(request: Request) -> bool:
            return request.asked == alias and not request.arrival.required

        for other in others:
            while other.has_room and (taken := source.take_waiting(is_wanted, BATCH)):
                for request in taken:
                    self._aliases.give(other.pool, alias)
                    other.arrive(request.number, request.arrival, alias)

    def _rooms(self, alias: str) -> list[str]:
        """Return the variants of an alias that would serve a request at once."""
        if not alias:
            return []
        return [n for n in self._aliases.traffics[alias].variants if self.pools[n].has_room]

    def _end(self, request: Request) -> None:
        if request.asked:
            self._aliases.traffics[request.asked].end(request)
        self._ended(request)

    def set_row_ended(self, row_ended: Callable[[Request], None]) -> None:
        """Let this take each deferrable request as it ends, at once."""
        for fleet in self.pools.values():
            fleet.row_ended = row_ended

    def fail(self, index: int) -> None:
        """Let a replica die; requests without a token yet go to others of its pool."""
        for fleet in self.pools.values():
            fleet.fail(index)

    def read_meters(self) -> None:
        """Close a window of every meter, and hand over the requests that ended in it."""
        gpus_on = {n: s.place.gpus * self.pools[n].replicas_on for n, s in self._settings.items()}
        nodes, on = len(self._nodes_on), sum(gpus_on.values())
        for name, fleet in self.pools.items():
            settings = self._settings[name]
            fleet.read_meters(settings.beside(nodes, on / settings.place.gpus))

    def window(self) -> FleetWindow:
        """Return what the fleet did since the last call; replicas in the order of their names."""
        windows = [fleet.window() for fleet in self.pools.values()]
        did: dict[str, ReplicaWindow] = {}
        for fleet, window in zip(self.pools.values(), windows, strict=True):
            did |= zip((handle.name for handle in fleet.here), window.replicas, strict=True)
        did |= self._moved
        observed = self.observation
        assert observed is not None, "the loop observed the fleet"
        return FleetWindow(
            draw_w=sum(window.draw_w for window in windows),
            energy_j=sum(window.energy_j for window in windows),
            output_tokens=sum(window.output_tokens for window in windows)
            + sum(moved.output_tokens for moved in self._moved.values()),
            running=sum(window.running for window in windows),
            replicas=[did[replica.id] for replica in observed.replicas],
        )

    def close(self) -> None:
        """End the run: cancel what is outstanding, and read the meters."""
        for fleet in self.pools.values():
            fleet.cancel()
        self.read_meters()

    @property
    def _nodes_on(self) -> set[str]:
        return {node for fleet in self.pools.values() for node in fleet.nodes_on}


def together(parts: Mapping[str, Observation]) -> Observation:
    """Return one observation of several pools; lengths, latency and work are those of the parts."""
    first = next(iter(parts.values()))
    replicas = sorted((r for part in parts.values() for r in part.replicas), key=_number)
    draws_w = [part.draw_w for part in parts.values()]
    known_w = [draw_w for draw_w in draws_w if draw_w is not None]
    waiting = [part.deferrable for part in parts.values()]
    return Observation(
        now_s=first.now_s,
        gpu_budget_w=first.gpu_budget_w,
        draw_w=sum(known_w) if len(known_w) == len(draws_w) else None,
        demand_tps=sum(part.demand_tps for part in parts.values()),
        waiting=sum(part.waiting for part in parts.values()),
        replicas=tuple(replicas),
        deferrable=DeferrableWork(
            sum(work.tps for work in waiting),
            sum(work.waiting for work in waiting),
            sum(work.tokens for work in waiting),
            sum(work.running for work in waiting),
        ),
        engine_queue=sum(part.engine_queue for part in parts.values()),
        pools=parts,
    )


def _number(replica: ReplicaObservation) -> int:
    return int(replica.id.rpartition("-")[2])
