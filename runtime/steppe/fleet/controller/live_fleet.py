"""The live fleet behind the control loop: observes nodes and gateway, carries out actions."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from steppe.control.demand import Demand, OfferedLoad, Traffic
from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.reconcile import Action, Drain, Retune, Sleep, Start, Wake
from steppe.control.state import NONE_DEFERRABLE, Observation, ReplicaState
from steppe.fleet.cluster import error_line
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import NodeReport, ReplicaReport, SetLimits, mean_draw_w
from steppe.gateway.server import GatewayStatus, Route
from steppe.power.budget import Budget, PowerBudget

Reports = dict[str, list[ReplicaReport]]

LENDING_SHARE = 0.9
"""Most of the budget that lent replicas and the draw of the others may take when a loan begins."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Nodes:
    """The node actors, and how far their reports were seen."""

    actors: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def ask(self) -> dict[Any, str]:
        """Ask every node for its reports; return the calls with the node of each."""
        return {
            actor.report.remote(self.numbers.get(node, 0)): node
            for node, actor in self.actors.items()
        }

    def take(self, call: Any, node: str) -> list[NodeReport]:
        """Return the fresh reports of a call that has an answer; none if its node is gone."""
        try:
            reports: list[NodeReport] = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("node %s does not answer: %s", node[:8], error_line(error))
            return []
        seen = self.numbers.get(node, 0)
        fresh = [report for report in reports if report.number > seen]
        if fresh:
            self.numbers[node] = fresh[-1].number
        return fresh


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a fleet was read: the last window of each node, and the tokens up to there."""

    numbers: dict[str, int]
    output_tokens: int


@dataclass(slots=True)
class Seen:
    """What one look at the fleet brought beside the observation.

    Attributes:
        observation: All that was seen.
        fenced: Names of the replicas that no plan counts on.
        fenced_w: What they draw, as far as it must be reckoned with, W.
        budget: Where its budget comes from.
        draw_w: Draw of the fleet; the last one known of a replica that was not metered, W.
        running: Requests in the engines.
        reports: What the nodes said, by replica; where a tick got no answer the next gets two.
    """

    observation: Observation
    fenced: frozenset[str]
    fenced_w: float
    budget: Budget
    draw_w: float
    running: int
    reports: Reports

    @property
    def unfenced(self) -> Observation:
        """What was seen without the fenced replicas; the budget is still that of all."""
        counted_on = (r for r in self.observation.replicas if r.id not in self.fenced)
        return replace(self.observation, replicas=tuple(counted_on))


class LiveFleet:
    """Implements the control loop's `Fleet` over Ray actors; no call waits for long.

    A replica whose GPUs do not obey is fenced: it is frozen, no plan counts on it, and what it
    draws is taken off the budget of the others, until it obeys again.

    Attributes:
        members: The replicas, by name.
        nodes: The nodes.
        seen: The last look; None before the first.
        last_step_mhz: SM clock at which replicas end the step in which they are put to sleep, MHz:
            at the lowest clock, which None stands for, it would take several times as long.
    """

    def __init__(self, gateway: Any, budget: PowerBudget, patience_s: float) -> None:
        """Begin without replicas.

        Args:
            gateway: Ray handle of the gateway's actor.
            budget: Where the watts come from.
            patience_s: Longest wait for the answers of one look, s.
        """
        self.members: dict[str, ReplicaHandle] = {}
        self.nodes = Nodes()
        self.seen: Seen | None = None
        self.last_step_mhz: int | None = None
        self._gateway, self._budget, self._patience_s = gateway, budget, patience_s
        self._status: GatewayStatus | None = None
        self._demand, self._output_tokens = Demand(), 0
        self._looked_s = 0.0
        self._fenced: frozenset[str] = frozenset()
        self._lent_w: dict[str, float] = {}

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a replica without requests to a measurement, or change the watts of a loan.

        A lent replica gets no requests and no limits from plans, and the reserved watts are taken
        off the budget of the others. The loan ends by itself as soon as requests wait, or the
        budget no longer holds the reserved watts beside the draw of the others.

        Args:
            replica: Its name.
            reserve_w: Most that it is going to draw, W.

        Returns:
            Whether it is lent.
        """
        if self.seen is None or replica not in self.members:
            return False
        needs_w = reserve_w + self._others_draw_w(replica)
        if needs_w > LENDING_SHARE * self.seen.budget.gpu_budget_w:
            return False
        if replica not in self._lent_w:
            if not self._is_spare(replica):
                return False
            member = self.members[replica]
            if member.state == ReplicaState.ASLEEP:
                member.thaw(self._looked_s)
        self._lent_w[replica] = reserve_w
        return True

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts."""
        return replica in self._lent_w

    def take_back(self, replica: str) -> None:
        """End a loan; the next plan counts on the replica again."""
        self._lent_w.pop(replica, None)

    def observe(self, now_s: float) -> Observation:
        """Look at nodes, gateway, replicas and budget."""
        reports = self._ask(now_s)
        for name, told in reports.items():
            if name in self._lent_w:  # the requests of a measurement are no client's
                told[:] = [replace(report, output_tokens=0, running=0) for report in told]
            if name in self.members:
                self.members[name].take(told)
            self._output_tokens += sum(report.output_tokens for report in told)
        for member in self.members.values():
            if member.name not in self._lent_w:
                member.settle(now_s)
        draw_w = sum(member.draw_w for member in self.members.values())
        self._budget.settle(now_s, sum(member.assumed_w for member in self.members.values()))
        budget = self._budget.at(now_s)
        self._end_loans(budget.gpu_budget_w)
        is_metered = self._is_metered(reports)
        status = self._status or GatewayStatus(0, {}, 0, 0, 0, 0, 0)
        asked = self._asked(now_s)
        observation = Observation(
            now_s=now_s,
            gpu_budget_w=budget.gpu_budget_w,
            draw_w=draw_w if is_metered else None,
            demand_tps=asked.tps,
            waiting=status.waiting,
            replicas=tuple(
                m.seen(status.outstanding.get(m.name, 0)) for m in self.members.values()
            ),
            deferrable=asked.deferrable,
            asleep_w=self._asleep_w() if is_metered else None,
        )
        running = sum(m.report.running for m in self.members.values() if m.report is not None)
        fenced_w = sum(
            max(self.members[name].assumed_w, self._lent_w.get(name, 0.0)) for name in self._fenced
        )
        self.seen = Seen(observation, self._fenced, fenced_w, budget, draw_w, running, reports)
        return self._left(self.seen)

    def mark(self) -> Mark:
        """Return how far the nodes were read."""
        return Mark(dict(self.nodes.numbers), self._output_tokens)

    def go_back_to(self, mark: Mark) -> None:
        """Have the next look take in again what nodes told since: they keep what is not seen."""
        self.nodes.numbers, self._output_tokens = dict(mark.numbers), mark.output_tokens

    def apply(self, actions: list[Action]) -> None:
        """Freeze what is fenced, and carry out actions in their order."""
        assert self.seen is not None, "apply comes after observe"
        fenced = [
            Sleep(name)
            for name in sorted(self._fenced - self._lent_w.keys())
            if self.members[name].state != ReplicaState.ASLEEP
        ]
        changes: defaultdict[str, list[SetLimits]] = defaultdict(list)
        told = {action.replica for action in actions} | self._lent_w.keys()
        for member in [m for m in self.members.values() if m.may_rest and m.name not in told]:
            changes[member.placement.node_id].append(SetLimits(member.name, None, 1, member.state))
            member.ends_step = False
        for action in [*fenced, *actions]:
            member = self.members[action.replica]
            changes[member.placement.node_id].append(self._carry_out(action, member))
        for node, limits_of_node in changes.items():
            self.nodes.actors[node].apply.remote(limits_of_node, time.monotonic())

    def route(self, retry_after_s: float | None) -> None:
        """Tell the gateway which replicas serve."""
        routes = tuple(
            Route(member.name, member.url, member.batch_limit + QUEUE_PER_REPLICA)
            for member in self.members.values()
            if member.state == ReplicaState.AWAKE and member.url and member.name not in self._lent_w
        )
        self._gateway.set_routes.remote(routes, retry_after_s)

    def _others_draw_w(self, replica: str) -> float:
        return sum(m.draw_w for m in self.members.values() if m.name != replica)

    def _is_spare(self, replica: str) -> bool:
        """Whether a replica has no requests, and the others suffice for what clients send."""
        status, member = self._status, self.members[replica]
        if status is None or status.waiting or status.outstanding.get(replica, 0):
            return False
        is_up = member.state in (ReplicaState.AWAKE, ReplicaState.ASLEEP) and bool(member.url)
        if not is_up or member.is_fenced or (member.report is not None and member.report.running):
            return False
        others = (m for m in self.members.values() if m.name != replica)
        serves = any(m.state == ReplicaState.AWAKE for m in others)
        return serves or not any(status.outstanding.values())

    def _end_loans(self, budget_w: float) -> None:
        """End the loans that the fleet needs back."""
        status = self._status
        waiting = status is not None and status.waiting > 0
        for name in list(self._lent_w):
            member = self.members.get(name)
            draw_w = max(self._lent_w[name], member.assumed_w) if member is not None else 0.0
            if member is None or waiting or draw_w + self._others_draw_w(name) > budget_w:
                _log.info("%s: the fleet needs it back", name)
                del self._lent_w[name]

    def hear_gateway(self, longest_s: float) -> None:
        """Wait for the first word of the gateway: before it, nobody seems to ask for anything."""
        status = self._gateway.status.remote()
        done, _ = ray.wait([status], timeout=longest_s)
        for call in done:
            self._take_status(call)

    def _asked(self, now_s: float) -> OfferedLoad:
        """Return what clients ask for; nothing before the gateway has told its totals."""
        status = self._status
        if status is None:
            return OfferedLoad(0.0, NONE_DEFERRABLE)
        totals = (status.arrived, status.answered, self._output_tokens)
        deferrable = (status.deferrable_arrived, status.deferrable_waiting)
        return self._demand.take(Traffic(now_s, *totals, *deferrable))

    def _asleep_w(self) -> float | None:
        """Return the mean draw of those that sleep, W: just after work a GPU is hot."""
        obey = (m for name, m in self.members.items() if name not in self._fenced)
        rests_w = [m.rests_w for m in obey if m.rests_w is not None]
        return sum(rests_w) / len(rests_w) if rests_w else None

    def _step_mhz(self, member: ReplicaHandle) -> int | None:
        """Return the clock of who is put to sleep now, MHz; None: the lowest there is."""
        if not member.ends_step or self.last_step_mhz is None:
            return None
        return min(member.clock_mhz, self.last_step_mhz) or None

    def _is_metered(self, reports: Reports) -> bool:
        """Tell whether the draw is known of the very replicas that the last plan was made for."""
        before, now = (
            self._fenced,
            frozenset(
                m.name for m in self.members.values() if m.is_fenced or m.name in self._lent_w
            ),
        )
        self._fenced = now
        told = {m.name for m in self.members.values() if m.report is not None} - now
        known = {name for name, told in reports.items() if mean_draw_w(told) is not None}
        return bool(reports) and before == now and told <= known

    def _left(self, seen: Seen) -> Observation:
        """Return what is left for plans beside the fenced replicas."""
        left, metered_w = seen.unfenced, sum(self.members[name].draw_w for name in seen.fenced)
        return replace(
            left,
            gpu_budget_w=max(0.0, left.gpu_budget_w - seen.fenced_w),
            draw_w=None if left.draw_w is None else left.draw_w - metered_w,
        )

    def _carry_out(self, action: Action, member: ReplicaHandle) -> SetLimits:
        now_s = self._looked_s
        match action:
            case Start(name):
                member.start(now_s)
                return SetLimits(name, None, 1, member.state)
            case Sleep(name):
                member.freeze(now_s)
                return SetLimits(name, self._step_mhz(member), 1, member.state)
            case Drain(name, clock_mhz, batch_limit):
                if member.state == ReplicaState.ASLEEP:
                    member.thaw(now_s)
                member.move(ReplicaState.DRAINING, now_s)
            case Wake(name, clock_mhz, batch_limit):
                member.thaw(now_s)
            case Retune(name, clock_mhz, batch_limit):
                member.move(ReplicaState.AWAKE, now_s)
        member.clock_mhz, member.batch_limit = clock_mhz, batch_limit
        return SetLimits(name, clock_mhz, batch_limit, member.state)

    def _ask(self, now_s: float) -> Reports:
        """Ask nodes and gateway at once and take what comes back in time."""
        self._looked_s = now_s
        of_nodes = self.nodes.ask()
        of_gateway = self._gateway.status.remote()
        calls = [*of_nodes, of_gateway]
        done, late = ray.wait(calls, num_returns=len(calls), timeout=self._patience_s)
        if late:
            _log.warning("%d of %d answers came too late", len(late), len(calls))
        reports: Reports = {}
        for call in done:
            if call is of_gateway:
                self._take_status(call)
                continue
            for window in self.nodes.take(call, of_nodes[call]):
                for report in window.replicas:
                    reports.setdefault(report.replica, []).append(report)
        return reports

    def _take_status(self, call: Any) -> None:
        try:
            self._status = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("the gateway does not answer: %s", error_line(error))
