"""The controller actor: runs the control loop and keeps its ticks for the driver."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.control.loop import ControlLoop
from steppe.control.shortage_forecast import ShortageMonitor
from steppe.control.tick_times import LEAST_WINDOW_S
from steppe.errors import SteppeError
from steppe.fleet.cluster import local_node_id
from steppe.fleet.controller.board_limits import BoardLimits
from steppe.fleet.controller.exposition import Exposition
from steppe.fleet.controller.fleet_state import EnergyLabels, ModelFacts, fleet_state
from steppe.fleet.controller.gateway_calls import GatewayCalls
from steppe.fleet.controller.grid_limits import GridLimits
from steppe.fleet.controller.grid_sources import sources_now
from steppe.fleet.controller.live_fleet import FleetSnapshot, LiveFleet
from steppe.fleet.controller.live_pools import LivePools
from steppe.fleet.controller.node_power import on_node
from steppe.fleet.controller.replica_handle import ReplicaHandle, StartRule
from steppe.fleet.messages import ControllerStatus, ControllerUpdate, Placement, mean_draw_w
from steppe.frontier.pareto import Frontier
from steppe.grid.service.seam import Change, FleetPoints, GridView
from steppe.power.budget import budget_from_config
from steppe.report.records import TickRecord
from steppe.report.shortages import ShortageLog, shortage_ticks
from steppe.report.tick_records import FleetWindow, ReplicaWindow, TickRecords

TIMEOUT_SHARE = 0.4
"""Share of the control period that a tick may spend on waiting for actors."""
METER_DELAY_S = 0.1
"""How late an energy counter shows a change, s: its own period."""
GATEWAY_TIMEOUT_S = 2.0
"""Longest wait of a restarted controller for the status of the gateways, s."""
STATUS_TIMEOUT_S = 10.0
"""Longest wait for the status of replicas that are added, s."""
RETRY_S = 1.0
"""Pause of the loop after a tick that failed, s."""
MOST_KEPT = 10
"""After so many failed ticks in a row their windows are given up: nodes return all unread windows
at each call, and must answer in time."""

GRID = "grid"
"""Threads of the calls of the grid service: a disk that hangs keeps no others waiting."""

_log = logging.getLogger(__name__)


class Controller:
    """Runs the loop in a thread of its own; its methods only exchange values with that thread.

    A controller that Ray has restarted is empty until `add_replicas` and `begin` are called again;
    it then reads from nodes and replicas which limits are set, and continues from there.
    """

    def __init__(
        self,
        config: RunConfig,
        gateways: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the supply; nothing is set before `begin`.

        Args:
            config: The run.
            gateways: Ray's names of the gateways' actors.
            clock: Returns monotonic time, s.
        """
        self._config = config
        self._clock = clock
        self._gateways = GatewayCalls()
        self._gateways.use(gateways)
        self._budget = budget_from_config(config.power, config.site)
        self._pools = LivePools(config, self._budget)
        timeout_s = TIMEOUT_SHARE * config.control.period_s
        self._fleet = LiveFleet(self._gateways, self._budget, timeout_s, self._pools, config.site)
        self._board_limits = BoardLimits(
            self._budget.gpu_budget_at,
            config.control.period_s,
            config.control.longest_unrenewed_s,
        )
        if config.device.kind != "emulated":  # emulated GPUs belong to no node that could be off
            self._fleet.power.always_on = {local_node_id()}
        self._loop: ControlLoop | None = None
        self._ticks: list[TickRecord] = []
        self._lock, self._adding = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._began_s = 0.0
        self._grid = GridLimits(config.grid, self._budget, self._now_s)
        self._records = TickRecords()
        self._status: ControllerStatus | None = None
        self._recorded = self._fleet.position()
        self._failed_ticks = 0
        self._budget_reads = 0
        self._took_s: float | None = None  # the tick before

    def add_replicas(
        self, placements: list[Placement], starting: Mapping[str, Any] | None = None
    ) -> None:
        """Add replicas, or replace those whose node was lost.

        Args:
            placements: Where they run.
            starting: The starts that have not ended, by name of the replica.
        """
        fleet = self._config.fleet
        rule = StartRule(fleet.start_s, fleet.restarts, self._config.engine.stall_s)
        with self._adding:  # ticks go on meanwhile
            new = [ReplicaHandle(place, rule=rule) for place in placements]
            self._adopt(new, starting or {})
            with self._lock:
                for handle in new:
                    place = handle.placement
                    old = self._fleet.handles.get(handle.name)
                    if old is not None:
                        handle.replaces(old, self._now_s())
                    self._fleet.nodes.actors[place.node_id] = place.node
                    self._fleet.handles[place.replica] = handle

    def _adopt(self, handles: Sequence[ReplicaHandle], starting: Mapping[str, Any]) -> None:
        """Take over replicas that start or run already; any other one is started by the loop."""
        statuses: dict[Any, ReplicaHandle] = {}
        for handle in handles:
            if handle.name in starting:
                handle.adopt_start(starting[handle.name], 0.0)
            else:
                statuses[handle.placement.actor.status.remote()] = handle
        if not statuses:
            return
        done, late = ray.wait([*statuses], num_returns=len(statuses), timeout=STATUS_TIMEOUT_S)
        for status in late:
            _log.warning("%s does not answer yet", statuses[status].name)
        for status in done:
            try:
                statuses[status].adopt(ray.get(status), 0.0)
            except ray.exceptions.RayError as error:
                _log.warning("%s does not answer yet: %s", statuses[status].name, error)

    def use_gateways(self, gateways: tuple[str, ...]) -> None:
        """Send routes to these gateways from the next tick on, by Ray's names of the actors."""
        self._gateways.use(gateways)

    def remove_node(self, node_id: str) -> None:
        """Remove a node that the cluster lost, and its replicas until they are placed again."""
        with self._adding, self._lock:  # after the replicas of an earlier call were added
            self._fleet.nodes.actors.pop(node_id, None)
            for name, handle in list(self._fleet.handles.items()):
                if handle.placement.node_id == node_id:
                    del self._fleet.handles[name]

    def node_is_off(self, node_id: str) -> None:
        """Note that a node is off: what was on it is gone, and its replicas sleep."""
        with self._adding, self._lock:
            self._fleet.node_is_off(node_id, self._pools.off_w)

    def node_is_on(self, node_id: str) -> None:
        """Start the replicas that wait for a node which has never left the cluster."""
        with self._adding, self._lock:
            for handle in on_node(node_id, self._fleet.handles.values()):
                handle.node_is_on(self._now_s())

    def node_stays_on(self, node_id: str) -> None:
        """Note that a node could not be switched off."""
        with self._adding, self._lock:
            handles = self._fleet.handles.values()
            self._fleet.power.refuse(node_id, handles, self._now_s())

    def begin(
        self,
        frontiers: Mapping[str, Frontier],
        models: Mapping[str, str],
        energy_source: str,
        began_s: float,
        last: ControllerStatus | None,
    ) -> None:
        """Start the loop.

        Args:
            frontiers: Operating points of one replica of each pool, by its name.
            models: Name of the model of each pool, for clients.
            energy_source: Worst energy quality while no meter fails, for the metrics.
            began_s: When the run began, s on the monotonic clock of this host.
            last: How far the controller before this one is known to have come; None at first.
                The time since then makes one tick.
        """
        self._pools.begin(frontiers, models, self._fleet.handles.values())
        self._set_loop()
        self._shortage_log = ShortageLog()
        self._exposition = Exposition(energy_source, self._config.site.boundary, self._fleet.models)
        self._began_s = began_s
        self._provenance = EnergyLabels(energy_source, self._config.site.boundary)
        if last is None:
            self._fleet.observe(self._now_s())  # closes the windows that began before the run
            self._records.began_s = self._now_s()
        else:
            self._resume(last)
        self._recorded = self._fleet.position()
        draw_w = sum(handle.draw_w for handle in self._fleet.handles.values())
        self._grid.begin(energy_source, draw_w if last is None else last.tick.draw_w)
        self._thread = threading.Thread(target=self._run_loop, daemon=True, name="ticks")
        self._thread.start()

    def reconfigure(self, config: RunConfig) -> str:
        """Follow a changed configuration from the next tick on.

        Returns:
            Why not, in one line; an empty text if it does.
        """
        try:
            budget = budget_from_config(config.power, config.site)  # may read a file
        except SteppeError as error:
            return str(error)
        with self._lock:
            self._config = config
            self._budget.take_over(budget)
            if self._loop is not None:
                self._pools.reconfigure(config, self._fleet.handles.values())
                self._set_loop()
        return ""

    def use_frontier(self, frontier: Frontier, pool: str) -> None:
        """Plan a pool with other operating points from the next tick on."""
        with self._lock:
            self._pools.use(pool, frontier, self._fleet.handles.values())
            self._set_loop()

    def lend(self, replica: str, reserve_w: float) -> bool:
        """Lend a replica to a measurement, see `LiveFleet.lend`."""
        with self._lock:
            return self._fleet.lend(replica, reserve_w)

    @ray.method(concurrency_group=GRID)
    def grid_points(self) -> FleetPoints | None:
        """Return what the fleet can do; None before it has begun, and with several models."""
        return self._pools.fleet_points

    def is_lent(self, replica: str) -> bool:
        """Whether a loan still lasts."""
        return self._fleet.is_lent(replica)

    def take_back(self, replica: str) -> None:
        """End a loan."""
        with self._lock:
            self._fleet.take_back(replica)

    def poll(self, received_s: float = 0.0) -> ControllerUpdate:
        """Return the ticks after the one at `received_s`, and drop those up to it.

        Ticks of a call whose result arrived too late are returned again by the next call.
        """
        with self._lock:
            self._ticks = [tick for tick in self._ticks if tick.t_s > received_s]
            return ControllerUpdate(
                begun=self._loop is not None,
                ticks=list(self._ticks),
                status=self._status,
                budget_reads=self._budget_reads,
                nodes_off=self._fleet.nodes_off if self._loop is not None else None,
                moved=dict(self._fleet.moved),
            )

    @ray.method(concurrency_group=GRID)
    def grid_take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes of what the grid asks; return a line for each: empty, or why it is refused.

        It may wait for the disk, but not for a tick, and no tick waits for it.
        """
        return self._grid.take(changes)

    @ray.method(concurrency_group=GRID)
    def grid_view(self, after: int) -> GridView:
        """Return what is known of the grid, with the draws after the one with this number."""
        return self._grid.view(after)

    def end(self) -> None:
        """Stop the loop; the limits stay as they are."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10 * self._config.control.period_s)

    def _set_loop(self) -> None:
        """Create the loop and the shortage forecast for the operating points of now."""
        self._loop = self._pools.loop(self._fleet)
        self._points = self._pools.points
        self._shortage_monitor = ShortageMonitor(self._points, self._budget.forecast)

    def _resume(self, last: ControllerStatus) -> None:
        # Without the status of the gateways, replicas that serve would seem to have no requests.
        self._gateways.await_status(GATEWAY_TIMEOUT_S)
        self._fleet.nodes.numbers = dict(last.numbers)
        self._records.begin(last.tick.t_s, last.budget)
        self._budget.resume(last.tick.t_s, last.tick.battery)
        # The limits held meanwhile, and so did the draw.
        self._budget.settle(self._now_s(), last.tick.draw_w)

    def _now_s(self) -> float:
        return self._clock() - self._began_s

    def _run_loop(self) -> None:
        assert self._loop is not None, "begin comes first"
        now_s = self._now_s()
        next_s, reading = self._loop.times.after(now_s), self._loop.times.read_budget(now_s)
        while not self._stop.wait(min(LEAST_WINDOW_S, max(0.0, next_s - self._now_s()))):
            now_s, times = self._now_s(), self._loop.times  # a change of the run replaces it
            self._budget_reads += 1
            try:
                before, reading = reading, times.read_budget(now_s)
                if now_s < next_s and not times.has_stepped(before, reading, next_s):
                    continue
                next_s = times.after(now_s)
                with self._lock:
                    self._tick(now_s)
            except Exception:  # noqa: BLE001 - the one place: the last safe plan holds
                _log.exception("a tick failed; the limits stay as they are")
                self._extend_window()
                self._stop.wait(RETRY_S)

    def _extend_window(self) -> None:
        """Add the window of a failed tick to the next one, unless too many have failed."""
        self._failed_ticks += 1
        if self._failed_ticks % MOST_KEPT:
            self._fleet.rewind(self._recorded)
        else:
            self._recorded, self._records.began_s = self._fleet.position(), self._now_s()

    def _tick(self, now_s: float) -> None:
        began_s = self._clock()
        self._move(now_s)
        self._took_s = self._clock() - began_s

    def _move(self, now_s: float) -> None:
        """Move the fleet one step, and say what it does."""
        assert self._loop is not None, "begin comes first"
        self._pools.use_measured_times(self._fleet.handles.values())
        plan = self._loop.tick(now_s)
        self._fleet.limit_power(self._board_limits, plan)
        self._budget.set_battery(plan.battery_w)
        snapshot = self._fleet.snapshot
        assert snapshot is not None, "the loop observed the fleet"
        forecast = self._shortage_monitor.update(snapshot.unfenced, snapshot.fenced_w)
        self._fleet.route(None if plan.awake else forecast.serves_in_s)
        if plan.variants:
            self._gateways.set_shares(plan.variants)
        self._shortage_log.note(shortage_ticks(forecast), now_s)
        if not snapshot.reports and self._fleet.nodes.actors:
            return  # the window goes on until a node answers
        self._records.note_plan(plan)
        self._grid.judge(lambda: sources_now(self._config, self._pools, snapshot.observation))
        record = self._records.record(
            snapshot.observation,
            snapshot.budget,
            _window_of(snapshot),
            forecast,
            self._points,
            grid=self._grid.tick(snapshot.budget, now_s - self._records.began_s),
            took_s=self._took_s,
        )
        if record is not None:
            self._fleet.forget_gpu_events()
        self._recorded, self._failed_ticks = self._fleet.position(), 0
        if record is not None:
            self._ticks.append(record)
            self._status = ControllerStatus(record, snapshot.budget, self._recorded.numbers)
            self._exposition.set_wakes(self._pools.wake_quantiles_s())
            self._exposition.set_links(self._grid.lost_links())
            metrics = self._exposition.update(
                record,
                snapshot.all_reports,
                snapshot.observation,
                None if plan.pools else plan.learned,
                self._board_limits.by_replica_w,
            )
            self._gateways.set_metrics(metrics)
            sites = self._config.sites
            self._gateways.set_fleet_state(
                fleet_state(
                    record,
                    self._model_facts(),
                    self._budget,
                    self._provenance,
                    plan.batch,
                    grid=self._grid.status(),
                    outlook_step_s=None if sites is None else sites.plan.step_s,
                )
            )

    def _model_facts(self) -> dict[str, ModelFacts]:
        """Return what is known of each model; on several kinds of GPU, the points of the first."""
        found: dict[str, ModelFacts] = {}
        for pool, model in self._pools.models.items():
            points = self._points.pools.get(pool, self._points)
            names = (name for name, of in self._fleet.models.items() if of == model)
            replicas = frozenset(self._fleet.handles).intersection(names)
            found.setdefault(model, ModelFacts(points.kept, replicas))
        return found


def _window_of(snapshot: FleetSnapshot) -> FleetWindow:
    """Return what the nodes reported since the last record."""
    by_replica = [snapshot.reports.get(r.id, []) for r in snapshot.observation.replicas]
    return FleetWindow(
        draw_w=snapshot.draw_w,
        energy_j=sum(report.energy_j + report.beside_j for report in snapshot.all_reports),
        output_tokens=sum(report.output_tokens for report in snapshot.all_reports),
        running=snapshot.running,
        replicas=[
            ReplicaWindow(
                mean_draw_w(reports) or 0.0,
                sum(r.output_tokens for r in reports),
                reports[-1].conditions if reports else (),
            )
            for reports in by_replica
        ],
        gpu_events=snapshot.gpu_events,
    )
