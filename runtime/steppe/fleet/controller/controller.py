"""The controller actor: ticks the control loop and tells what it saw."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import ray

from steppe.config import RunConfig
from steppe.control.loop import ControlLoop
from steppe.control.policy.choose import PoolFacts, make_policy
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortageMonitor, ShortagePoints
from steppe.control.tick_times import LEAST_WINDOW_S, TickTimes
from steppe.fleet.controller.exposition import Exposition
from steppe.fleet.controller.live_fleet import LiveFleet, Seen
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import Placement, mean_draw_w
from steppe.frontier.pareto import Frontier
from steppe.power.budget import Budget, budget_from_config
from steppe.report.records import TickRecord
from steppe.report.shortages import ShortageLog, shortage_ticks
from steppe.report.tick_records import FleetWindow, ReplicaWindow, TickRecords

PATIENCE_SHARE = 0.4
"""Share of the control period that a tick may spend on waiting for answers."""
METER_DELAY_S = 0.1
"""How late an energy counter shows a change: its own period."""
HEAR_S = 2.0
"""Longest wait of a controller that goes on from another for the word of the gateway, s."""
RETRY_S = 1.0
"""How long a loop rests whose tick has failed, s."""
MOST_KEPT = 10
"""Windows of so many ticks that failed one after the other are kept for the next record, at most:
nodes hand over all of them at each look, and must stay in time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """How far a controller came, for one that goes on from there.

    Attributes:
        tick: The last tick.
        budget: Power budget that governs the window after it.
        numbers: The last window of each node that is in a tick, by Ray's id of the node.
    """

    tick: TickRecord
    budget: Budget
    numbers: dict[str, int]


@dataclass(frozen=True, slots=True)
class ControllerUpdate:
    """What the caller has not seen yet.

    Attributes:
        begun: False in a controller that restarted.
        ticks: The ticks that the caller has not seen.
        progress: How far it came.
        looks: How often its loop has looked at the budget; no more once that stands still.
    """

    begun: bool
    ticks: list[TickRecord]
    progress: ControllerStatus | None
    looks: int


class Controller:
    """Drives the loop in a thread of its own; its methods only hand things over.

    A controller that Ray restarted knows nothing until `join` and `begin` are called again;
    it then reads from nodes and replicas what is really set, and goes on from there.
    """

    def __init__(self, config: RunConfig, door: str) -> None:
        """Read the supply; nothing moves before `begin`.

        Args:
            config: The run.
            door: Ray's name of the gateway's actor.
        """
        self._config, self._gateway = config, ray.get_actor(door)
        patience_s = PATIENCE_SHARE * config.control.period_s
        budget = budget_from_config(config.power, config.site)
        self._budget = budget
        self._fleet = LiveFleet(self._gateway, budget, patience_s)
        self._loop: ControlLoop | None = None
        self._ticks: list[TickRecord] = []
        self._lock, self._joining = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._began_s = 0.0
        self._records = TickRecords()
        self._progress: ControllerStatus | None = None
        self._recorded = self._fleet.mark()
        self._failed = 0
        self._looks = 0
        self._replicas = 0

    def join(self, placements: list[Placement]) -> None:
        """Add replicas, or replace those whose node was lost."""
        with self._joining:  # a tick does not wait for them
            asked = [(ReplicaHandle(place), place.actor.status.remote()) for place in placements]
            for member, status in asked:
                try:
                    member.adopt(ray.get(status, timeout=10), 0.0)
                except ray.exceptions.RayError as error:
                    _log.warning("%s is not there yet: %s", member.name, error)
            with self._lock:
                for member, _ in asked:
                    place = member.placement
                    self._fleet.nodes.actors[place.node_id] = place.node
                    self._fleet.members[place.replica] = member

    def leave(self, node_id: str) -> None:
        """Forget a node that the cluster lost; its replicas are gone until they are placed anew."""
        with self._joining, self._lock:  # not before those have joined that were asked first
            self._fleet.nodes.actors.pop(node_id, None)
            for name, member in list(self._fleet.members.items()):
                if member.placement.node_id == node_id:
                    del self._fleet.members[name]

    def begin(
        self,
        frontier: Frontier,
        replicas: int,
        energy_source: str,
        began_s: float,
        last: ControllerStatus | None,
    ) -> None:
        """Start to tick, or to tick on.

        Args:
            frontier: Operating points of one replica.
            replicas: How many the fleet has, those included that are lost just now.
            energy_source: Where the joules come from, for metrics.
            began_s: When the run began, s on the monotonic clock of this host.
            last: How far a controller before this one is known to have come; None at first. What
                happened since then makes one tick.
        """
        self._replicas = replicas
        self._decide_on(frontier)
        self._shortage_log = ShortageLog()
        self._exposition = Exposition(energy_source)
        self._began_s = began_s
        if last is None:
            self._fleet.observe(self._now_s())  # closes the windows that began before the run
            self._records.began_s = self._now_s()
        else:
            self._go_on_from(last)
        self._recorded = self._fleet.mark()
        self._thread = threading.Thread(target=self._tick_for_ever, daemon=True, name="ticks")
        self._thread.start()

    def use_frontier(self, frontier: Frontier) -> None:
        """Decide on other operating points from the next tick on."""
        with self._lock:
            self._decide_on(frontier)

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a replica to a measurement, see `LiveFleet.lend`."""
        with self._lock:
            return self._fleet.lend(replica, reserve_w)

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts."""
        return self._fleet.is_lent(replica)

    def take_back(self, replica: str) -> None:
        """End a loan."""
        with self._lock:
            self._fleet.take_back(replica)

    def take(self, seen_s: float = 0.0) -> ControllerUpdate:
        """Hand over the ticks after the one at `seen_s`, and forget those up to it.

        What the caller did not get, as it waited too short a time, it gets with the next call.
        """
        with self._lock:
            self._ticks = [tick for tick in self._ticks if tick.t_s > seen_s]
            begun, ticks = self._loop is not None, list(self._ticks)
            return ControllerUpdate(begun, ticks, self._progress, self._looks)

    def end(self) -> None:
        """Stop to tick; the limits stay as they are."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10 * self._config.control.period_s)

    def _decide_on(self, frontier: Frontier) -> None:
        """Make policy, loop and shortage forecast for these operating points."""
        budget, tpot_s = self._budget, self._config.slo.tpot_s
        told = (tpot_s, self._config.gateway.max_wait_s)
        pool = PoolFacts(
            frontier,
            self._replicas,
            *told,
            budget.forecast,
            budget.battery_view,
            self._config.power.speedup,
        )
        control = self._config.control
        policy, rule = make_policy(control, pool), DrainRule(frontier.drain, control.drain_s)
        times = TickTimes(budget.gpu_budget_at, control.period_s, control.lead_s)
        self._fleet.last_step_mhz = frontier.floor.clock_mhz
        self._loop = ControlLoop(self._fleet, policy, rule, times)
        self._points = ShortagePoints.of(frontier, tpot_s)
        self._lookout = ShortageMonitor(self._points, budget.forecast)

    def _go_on_from(self, last: ControllerStatus) -> None:
        self._fleet.hear_gateway(HEAR_S)  # or replicas that serve would seem to have no work
        self._fleet.nodes.numbers = dict(last.numbers)
        self._records.begin(last.tick.t_s, last.budget)
        self._budget.resume(last.tick.t_s, last.tick.battery)
        # The limits held while nobody looked.
        self._budget.settle(self._now_s(), last.tick.draw_w)

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _tick_for_ever(self) -> None:
        assert self._loop is not None, "begin comes first"
        times, now_s = self._loop.times, self._now_s()
        next_s, look = times.after(now_s), times.look(now_s)
        while not self._stop.wait(min(LEAST_WINDOW_S, max(0.0, next_s - self._now_s()))):
            now_s = self._now_s()
            self._looks += 1
            try:
                before, look = look, times.look(now_s)
                if now_s < next_s and not times.has_stepped(before, look, next_s):
                    continue
                next_s = times.after(now_s)
                with self._lock:
                    self._tick(now_s)
            except Exception:  # noqa: BLE001 - the one place: the last safe plan holds
                _log.exception("a tick failed; the limits stay as they are")
                self._keep_its_window()
                self._stop.wait(RETRY_S)

    def _keep_its_window(self) -> None:
        """Let the window of a tick that failed go on, unless so many failed that nodes are full."""
        self._failed += 1
        if self._failed % MOST_KEPT:
            self._fleet.go_back_to(self._recorded)
        else:
            self._recorded, self._records.began_s = self._fleet.mark(), self._now_s()

    def _tick(self, now_s: float) -> None:
        assert self._loop is not None, "begin comes first"
        plan = self._loop.tick(now_s)
        self._budget.set_battery(plan.battery_w)
        seen = self._fleet.seen
        assert seen is not None, "the loop observed the fleet"
        outlook = self._lookout.look(seen.unfenced, seen.fenced_w)
        self._fleet.route(None if plan.awake else outlook.serves_in_s)
        self._shortage_log.note(shortage_ticks(outlook), now_s)
        if not seen.reports:
            return  # the window goes on until a node answers
        record = self._records.record(
            seen.observation, seen.budget, _window_of(seen), outlook, self._points
        )
        self._recorded, self._failed = self._fleet.mark(), 0
        if record is not None:
            self._ticks.append(record)
            self._progress = ControllerStatus(record, seen.budget, self._recorded.numbers)
            qualities = [report.quality for told in seen.reports.values() for report in told]
            self._gateway.set_metrics.remote(self._exposition.update(record, qualities))


def _window_of(seen: Seen) -> FleetWindow:
    """Return what the nodes reported since the last record."""
    by_replica = [seen.reports.get(replica.id, []) for replica in seen.observation.replicas]
    reports = [report for reports in seen.reports.values() for report in reports]
    return FleetWindow(
        draw_w=seen.draw_w,
        energy_j=sum(report.energy_j for report in reports),
        output_tokens=sum(report.output_tokens for report in reports),
        running=seen.running,
        replicas=[
            ReplicaWindow(mean_draw_w(own) or 0.0, sum(report.output_tokens for report in own))
            for own in by_replica
        ],
    )
