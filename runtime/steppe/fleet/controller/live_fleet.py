"""The live fleet behind the control loop: observes nodes and gateways, carries out actions."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray

from steppe.config import SiteSection
from steppe.control.aliases import AliasLoads
from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.plan import Plan
from steppe.control.reconcile import (
    Action,
    Deepen,
    Drain,
    Move,
    Retune,
    Sleep,
    Start,
    Wake,
)
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Observation, ReplicaState
from steppe.fleet.controller.board_limits import BoardLimits
from steppe.fleet.controller.gateway_calls import GatewayCalls
from steppe.fleet.controller.live_measurements import NodeRests
from steppe.fleet.controller.live_observation import ObservedFleet, Reports
from steppe.fleet.controller.live_pools import LivePools
from steppe.fleet.controller.model_loads import ModelLoads
from steppe.fleet.controller.node_power import NodePower, on_node
from steppe.fleet.controller.nodes import Nodes
from steppe.fleet.controller.pending_call import Answers
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.controller.stream_moves import to_hand_over
from steppe.fleet.messages import ReplicaReport, SetLimits, mean_draw_w
from steppe.gateway.server import Route
from steppe.power.budget import Budget, PowerBudget
from steppe.report.records import GpuEvent

_NOTHING_OF_CLIENTS: dict[str, Any] = {
    "output_tokens": 0,
    "running": 0,
    "waiting": 0,
    "work": None,
}
"""The changes to the report of a replica that is lent to a measurement."""
LENDING_SHARE = 0.9
"""Most of the budget that lent replicas and the draw of the others may take when a loan begins."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How far the nodes were read: the last report of each, and what is known up to there.

    Output tokens are those of each model.
    """

    numbers: dict[str, int]
    output_tokens: Mapping[str, int]
    gpu_events: tuple[GpuEvent, ...] = ()


@dataclass(slots=True)
class FleetSnapshot:
    """One observation and what it was made from.

    Attributes:
        observation: All replicas and their surroundings.
        fenced: Names of the replicas that plans leave out.
        fenced_w: Draw to deduct for them, W.
        budget: The power budget.
        draw_w: Draw of the fleet, W; a replica without a reading counts with its last one.
        running: Requests in the engines.
        reports: The new reports by replica; two or more where a node answered late before.
        gpu_events: What happened to GPUs since `forget_gpu_events`.
    """

    observation: Observation
    fenced: frozenset[str]
    fenced_w: float
    budget: Budget
    draw_w: float
    running: int
    reports: Reports
    gpu_events: tuple[GpuEvent, ...] = ()

    @property
    def unfenced(self) -> Observation:
        """The observation without the fenced replicas; the budget is still that of all."""
        replicas = (r for r in self.observation.replicas if r.id not in self.fenced)
        return replace(self.observation, replicas=tuple(replicas))

    @property
    def all_reports(self) -> list[ReplicaReport]:
        """The new reports of all replicas."""
        return [report for reports in self.reports.values() for report in reports]


class LiveFleet:
    """Implements the control loop's `Fleet` over Ray actors; no call blocks for long.

    A replica whose GPUs are unreachable or exceed their clock limit is fenced: it is frozen, plans
    leave it out, and its draw is deducted from the budget of the others, until it recovers.

    Attributes:
        handles: The replicas, by name.
        nodes: The nodes.
        snapshot: The latest observation; None before the first.
        power: Which nodes are to be off.
        pools: Their pools.
        models: Name of the model that a replica serves, by its name, also of lost ones.
        moved: The pool of each replica that was moved to another one, by its name.
    """

    def __init__(
        self,
        gateways: GatewayCalls,
        budget: PowerBudget,
        timeout_s: float,
        pools: LivePools,
        site: SiteSection | None = None,
    ) -> None:
        """Begin without replicas.

        Args:
            gateways: The gateways.
            budget: The power budget.
            timeout_s: Longest wait for the actors in one observation, s.
            pools: The pools of the fleet.
            site: What its nodes draw beside the GPUs; None for nothing.
        """
        self.pools, self.rests = pools, NodeRests(site or SiteSection())
        self.handles: dict[str, ReplicaHandle] = {}
        self.nodes = Nodes()
        self.snapshot: FleetSnapshot | None = None
        self.power = NodePower()
        self._gateways, self._budget, self._timeout_s = gateways, budget, timeout_s
        self._loads, self._aliases = ModelLoads(), AliasLoads()
        self.models: dict[str, str] = {}
        self.moved: dict[str, str] = {}
        self._observed_s = 0.0
        self._gpu_events: list[GpuEvent] = []
        self._fenced: frozenset[str] = frozenset()
        self._lent_w: dict[str, float] = {}

    def observe(self, now_s: float) -> Observation:
        """Return what plans may use: replicas that are not fenced, and the budget left for them."""
        reports = self._poll_actors(now_s)
        for name, new in reports.items():
            if name in self._lent_w:  # requests of a measurement are not those of clients
                new[:] = [replace(report, **_NOTHING_OF_CLIENTS) for report in new]
            if name in self.handles:
                self.handles[name].add_reports(new)
                self.models[name] = self.handles[name].placement.model
            tokens = sum(report.output_tokens for report in new)
            self._loads.output_tokens[self.models.get(name, "")] += tokens
        updated = [h for name, h in self.handles.items() if name not in self._lent_w]
        answers = Answers.of(call for handle in updated for call in handle.pending)
        for handle in updated:
            handle.update(now_s, answers)
        for handle in self.handles.values():
            self._add_times(handle)
        draw_w = sum(handle.draw_w for handle in self.handles.values())
        self._budget.settle(now_s, sum(handle.assumed_w for handle in self.handles.values()))
        self._budget.set_node_rest(*self.rests.total(self.nodes.actors, now_s))
        budget = self._budget.at(now_s)
        self._end_loans(budget.gpu_budget_w)
        is_metered = self._update_fences(reports)
        observed = ObservedFleet(
            now_s,
            budget.gpu_budget_w,
            self.handles,
            self._fenced,
            reports,
            self._gateways.outstanding,
            is_metered,
            {} if self._gateways.status is None else self._gateways.status.cache_worth,
            () if self._gateways.status is None else self._gateways.status.work,
        )
        loads = self._loads.update(now_s, self._gateways.status, observed.by_model)
        observation = self._with_aliases(observed.observation(self.pools, loads))
        self.snapshot = FleetSnapshot(
            observation=observation,
            fenced=self._fenced,
            fenced_w=sum(
                max(self.handles[name].assumed_w, self._lent_w.get(name, 0.0))
                for name in self._fenced
            ),
            budget=budget,
            draw_w=draw_w,
            running=sum(h.report.running for h in self.handles.values() if h.report is not None),
            reports=reports,
            gpu_events=tuple(self._gpu_events),
        )
        return self._plannable(self.snapshot)

    def _with_aliases(self, observation: Observation) -> Observation:
        """Return an observation with the load of each alias, if there are any."""
        status = self._gateways.status
        if status is None or not status.aliases or not observation.pools:
            return observation
        given = {name: counts.arrived for name, counts in status.models.items()}
        demand_tps = {name: part.demand_tps for name, part in observation.pools.items()}
        loads = self._aliases.update(observation.now_s, status.aliases, given, demand_tps)
        return replace(observation, aliases=loads)

    @property
    def nodes_off(self) -> frozenset[str]:
        """Nodes that are to be off, by Ray's id."""
        return self.power.off(self.handles)

    def node_is_off(self, node: str, asleep_w: float) -> None:
        """Read a node no more that is off; its replicas draw `asleep_w` each from now on."""
        self.nodes.actors.pop(node, None)
        for handle in on_node(node, self.handles.values()):
            handle.report, handle.draw_w = None, asleep_w

    def _add_times(self, handle: ReplicaHandle) -> None:
        for time_ in handle.sleep.take_times():
            times = self.pools.sleep_times[handle.placement.pool]
            add = times.add_wake if time_.is_wake else times.add_sleep
            add(time_.depth, time_.time_s)

    def position(self) -> ReadPosition:
        """Return how far the nodes were read."""
        numbers, tokens = dict(self.nodes.numbers), dict(self._loads.output_tokens)
        return ReadPosition(numbers, tokens, tuple(self._gpu_events))

    def rewind(self, position: ReadPosition) -> None:
        """Have the next observation read the reports after `position` again; nodes keep them."""
        self.nodes.numbers = dict(position.numbers)
        self._loads.output_tokens = Counter(position.output_tokens)
        self._gpu_events = list(position.gpu_events)

    def forget_gpu_events(self) -> None:
        """Leave out of the next observations what happened to GPUs until now: it is recorded."""
        self._gpu_events.clear()

    def apply(self, actions: list[Action]) -> None:
        """Freeze fenced replicas, carry out the actions in their order, and renew the limits."""
        assert self.snapshot is not None, "apply comes after observe"
        fenced = [
            Sleep(name)
            for name in sorted(self._fenced - self._lent_w.keys())
            if self.handles[name].state not in (ReplicaState.ASLEEP, ReplicaState.QUARANTINED)
        ]
        changes: defaultdict[str, list[SetLimits]] = defaultdict(list)
        skipped = {action.replica for action in actions} | self._lent_w.keys()
        for handle in self.handles.values():
            if handle.can_lower_clock and handle.name not in skipped:
                limits = SetLimits(handle.name, None, 1, handle.state)
                changes[handle.placement.node_id].append(limits)
                handle.in_last_step = False
        for action in [*fenced, *actions]:
            handle = self.handles[action.replica]
            changes[handle.placement.node_id].append(self._carry_out(action, handle))
        for node, limits_of_node in changes.items():
            if node in self.nodes.actors:  # it may be off
                self.nodes.actors[node].apply.remote(limits_of_node, time.monotonic())
        self.nodes.renew_limits()

    def limit_power(self, limits: BoardLimits, plan: Plan) -> None:
        """Send the nodes the board power limits of a plan that was carried out."""
        limits.send(plan, self.handles, self._lent_w, self.nodes.actors, self._observed_s)

    def route(self, retry_after_s: float | None) -> None:
        """Send the gateways the replicas that serve.

        Args:
            retry_after_s: Time until a replica serves again, s; None while one does, or if unknown.
        """
        routes = tuple(
            Route(
                handle.name,
                handle.url,
                handle.batch_limit + QUEUE_PER_REPLICA,
                handle.placement.model,
                handle.planned_tps,
                handle.sleep.cache_losses,
            )
            for handle in self.handles.values()
            if handle.state == ReplicaState.AWAKE
            and handle.url
            and handle.name not in self._lent_w
            and not handle.is_silent
        )
        models = self.pools.models.values()
        self._gateways.set_routes(routes, dict.fromkeys(models, retry_after_s))
        for name in to_hand_over(self.handles.values(), routes, self._gateways.outstanding):
            self._gateways.hand_over(name)

    # Loans to measurements

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a replica without requests to a measurement, or change the watts of a loan.

        A lent replica gets no requests and no limits from plans, and the reserved watts are
        deducted from the budget of the others. The loan ends by itself as soon as requests wait,
        or the budget no longer covers the reserved watts and the draw of the others.

        Args:
            replica: Its name.
            reserve_w: Most that it is going to draw, W.

        Returns:
            Whether it is lent.
        """
        if self.snapshot is None or replica not in self.handles:
            return False
        needs_w = reserve_w + self._others_draw_w(replica)
        if needs_w > LENDING_SHARE * self.snapshot.budget.gpu_budget_w:
            return False
        if replica not in self._lent_w:
            if not self._is_spare(replica):
                return False
            handle = self.handles[replica]
            if handle.state == ReplicaState.ASLEEP:
                handle.thaw(self._observed_s)
        self._lent_w[replica] = reserve_w
        return True

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts."""
        return replica in self._lent_w

    def take_back(self, replica: str) -> None:
        """End a loan; the next plan includes the replica again."""
        self._lent_w.pop(replica, None)

    def _others_draw_w(self, replica: str) -> float:
        return sum(handle.draw_w for name, handle in self.handles.items() if name != replica)

    def _is_spare(self, replica: str) -> bool:
        """Whether a replica has no requests, and the others suffice for those that clients send."""
        status, handle = self._gateways.status, self.handles[replica]
        if status is None or status.waiting or status.outstanding.get(replica, 0):
            return False
        is_up = handle.state in (ReplicaState.AWAKE, ReplicaState.ASLEEP) and bool(handle.url)
        if (
            not is_up
            or handle.is_deep
            or handle.is_fenced
            or (handle.report is not None and handle.report.running)
        ):
            return False
        others = (handle for name, handle in self.handles.items() if name != replica)
        serves = any(handle.state == ReplicaState.AWAKE for handle in others)
        return serves or not any(status.outstanding.values())

    def _end_loans(self, budget_w: float) -> None:
        """End the loans whose replicas the fleet needs."""
        status = self._gateways.status
        waiting = status is not None and status.waiting > 0
        for name in list(self._lent_w):
            handle = self.handles.get(name)
            draw_w = max(self._lent_w[name], handle.assumed_w) if handle is not None else 0.0
            if handle is None or waiting or draw_w + self._others_draw_w(name) > budget_w:
                _log.info("%s: the measurement ends, the fleet needs the replica", name)
                del self._lent_w[name]

    # Observing

    def _poll_actors(self, now_s: float) -> Reports:
        """Call nodes and gateways at once and read what comes back in time."""
        self._observed_s = now_s
        of_nodes = self.nodes.request_reports()
        of_gateways = self._gateways.request_status()
        calls = [*of_nodes, *of_gateways]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=self._timeout_s)
        if late:
            _log.warning("%d of %d actors answered too late", len(late), len(calls))
        reports: Reports = {}
        for call in done:
            if call in of_gateways:
                self._gateways.read(call, of_gateways[call])
                continue
            for window in self.nodes.read(call, of_nodes[call]):
                self.rests.note(of_nodes[call], window, now_s)
                self._gpu_events += window.events
                for report in window.replicas:
                    reports.setdefault(report.replica, []).append(report)
        return reports

    def _update_fences(self, reports: Reports) -> bool:
        """Update the fences; return whether all replicas of the last plan have a draw reading."""
        before = self._fenced
        self._fenced = frozenset(
            name for name, h in self.handles.items() if h.is_fenced or name in self._lent_w
        )
        planned = {name for name, h in self.handles.items() if _is_metered(h)} - self._fenced
        metered = {name for name, new in reports.items() if mean_draw_w(new) is not None}
        return bool(reports) and before == self._fenced and planned <= metered

    def _plannable(self, snapshot: FleetSnapshot) -> Observation:
        """Return the observation without the fenced replicas and their draw."""
        unfenced = snapshot.unfenced
        metered_w = sum(self.handles[name].draw_w for name in snapshot.fenced)
        return replace(
            unfenced,
            gpu_budget_w=max(0.0, unfenced.gpu_budget_w - snapshot.fenced_w),
            draw_w=None if unfenced.draw_w is None else unfenced.draw_w - metered_w,
        )

    # Acting

    def _step_mhz(self, handle: ReplicaHandle) -> int | None:
        """Return the clock limit of a replica that goes to sleep now, MHz; None: the lowest.

        At the lowest clock its last step would take several times as long as at the floor.
        """
        frontier = self.pools.frontiers.get(handle.placement.pool)
        if not handle.in_last_step or frontier is None:
            return None
        return min(handle.clock_mhz, frontier.floor.clock_mhz) or None

    def _start(self, handle: ReplicaHandle, now_s: float) -> None:
        """Start a replica; if its node is off, the other replicas of the node are stopped then."""
        was_off = handle.is_deep and handle.depth is SleepDepth.OFF
        handle.start(now_s)
        for other in on_node(handle.placement.node_id, self.handles.values()) if was_off else ():
            if other.is_deep:
                other.sleep.depth = SleepDepth.STOPPED

    def _carry_out(self, action: Action, handle: ReplicaHandle) -> SetLimits:
        now_s, holds, tokens = self._observed_s, True, 0
        match action:
            case Start(name):
                self._start(handle, now_s)
                return SetLimits(name, None, 1, handle.state)
            case Sleep(name):
                handle.freeze(now_s)
                return SetLimits(name, self._step_mhz(handle), 1, handle.state)
            case Deepen(name, depth):
                handle.deepen(self.power.depth_for(handle, depth, now_s), now_s)
                return SetLimits(name, None, 1, handle.state)
            case Move(name, pool):
                handle.move(self.pools.placed_in(pool, handle.placement), now_s)
                self.moved[name] = pool
                return SetLimits(name, None, 1, handle.state)
            case Drain(name, clock_mhz, batch_limit):
                if handle.state == ReplicaState.ASLEEP:
                    handle.thaw(now_s)
                handle.enter(ReplicaState.DRAINING, now_s)
            case Wake(name, clock_mhz, batch_limit, tokens):
                handle.planned_tps = action.output_tps
                handle.thaw(now_s)
            case Retune(name, clock_mhz, batch_limit, holds, tokens):
                handle.planned_tps = action.output_tps
                handle.enter(ReplicaState.AWAKE, now_s)
        handle.clock_mhz, handle.batch_limit = clock_mhz, batch_limit
        handle.tokens_per_step = tokens
        return SetLimits(
            name, clock_mhz, batch_limit, handle.state, tokens_per_step=tokens, holds=holds
        )


def _is_metered(handle: ReplicaHandle) -> bool:
    """Return whether a replica has a meter: the meter of a node that is off is gone."""
    return handle.report is not None and handle.depth is not SleepDepth.OFF
