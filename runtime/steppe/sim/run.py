"""One simulated run, from the first arrival to the totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from steppe.control.loop import ControlLoop
from steppe.control.policy.policy import Policy
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortageMonitor, ShortagePoints
from steppe.control.tick_times import LEAST_WINDOW_S, TickTimes
from steppe.grid.service.seam import Change
from steppe.load.arrivals import Arrival
from steppe.power.budget import PowerBudget
from steppe.report.records import RequestRecord, RunTotals, TickRecord
from steppe.report.tick_records import TickRecords
from steppe.sim.batch_jobs import BatchJobs, Job, JobProgress
from steppe.sim.events import EventQueue
from steppe.sim.fleet import SimulatedFleet
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.grid_events import GridScenario, SimulatedGrid
from steppe.sim.pooled_fleet import PooledFleet, PooledSettings
from steppe.sim.request import ENERGY_SOURCE, Request

METER_PERIOD_S = 0.1
"""An energy counter shows a change at its next tick, s."""
METER_LAG_S = 0.05
"""Mean time from the last tick of the counters to a control tick, s."""


class RunWriter(Protocol):
    """Takes the records of a run, as `report.record_folder.Recorder` does."""

    def tick(self, record: TickRecord) -> None:
        """Take one tick."""
        ...

    def request(self, record: RequestRecord) -> None:
        """Take one request that has ended."""
        ...


@dataclass(slots=True)
class RecordsInMemory:
    """A `RunWriter` that keeps the records.

    Attributes:
        ticks: The ticks, in time.
        requests: The requests, in the order in which they ended.
    """

    ticks: list[TickRecord] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)

    def tick(self, record: TickRecord) -> None:
        """Keep a tick."""
        self.ticks.append(record)

    def request(self, record: RequestRecord) -> None:
        """Keep a request."""
        self.requests.append(record)


@dataclass(frozen=True, slots=True)
class Failure:
    """A replica that fails.

    Attributes:
        at_s: Time of the failure, s since the run began.
        replica: Index of the replica.
    """

    at_s: float
    replica: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that happens to a fleet in one run. Good for one run: parts have a memory.

    Attributes:
        fleet: The fleet.
        policy: The policy that decides once a control period.
        drain_rule: How a replica leaves.
        budget: The power budget.
        points: Operating points of one replica, for shortages.
        arrivals: Requests in the order of their arrival.
        duration_s: Length of the run, s.
        failures: Replicas that fail.
        lead_s: Time before a known cut of the budget at which limits are lowered, s.
        pool_rules: How a replica of each pool leaves; empty where there is only one pool.
        jobs: Batch jobs.
        seed: Seed of the lengths of their rows.
        grid: What the grid asks; None without one.
    """

    fleet: FleetSettings | PooledSettings
    policy: Policy
    drain_rule: DrainRule
    budget: PowerBudget
    points: ShortagePoints
    arrivals: Iterable[Arrival]
    duration_s: float
    failures: tuple[Failure, ...] = ()
    lead_s: float = 0.0
    pool_rules: Mapping[str, DrainRule] = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()
    seed: int = 0
    grid: GridScenario | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """What joins a run to others in the same virtual time.

    Attributes:
        queue: Virtual time.
        next_number: Returns the number of the next request.
        offer: Takes each request that comes, in the place of the fleet, with its number.
        ended: Takes each request that has ended, once its energy is complete.
    """

    queue: EventQueue
    next_number: Callable[[], int]
    offer: Callable[[int, Arrival], None]
    ended: Callable[[Request], None]


def run_scenario(
    scenario: Scenario,
    period_s: float,
    writer: RunWriter,
    note_jobs: Callable[[Sequence[JobProgress]], None] = lambda _: None,
) -> RunTotals:
    """Run a scenario in virtual time.

    As in a live run, the first tick sets the first limits, and the second is the first to be
    recorded. Requests that are outstanding at the end are recorded as cancelled, with the tokens
    and joules that they had.

    Args:
        scenario: The scenario.
        period_s: Control period, s.
        writer: Takes ticks and requests as they come; memory does not grow with the run.
        note_jobs: Takes how far the batch jobs have come.
    """
    run = FleetRun(scenario, period_s, writer)
    run.queue.run_until(scenario.duration_s)
    note_jobs(tuple(run.jobs.progress.values()))
    run.close()
    return run.totals()


def _fleet_of(
    scenario: Scenario, queue: EventQueue, ended: Callable[[Request], None]
) -> SimulatedFleet | PooledFleet:
    match scenario.fleet:
        case FleetSettings() as settings:
            return SimulatedFleet(settings, scenario.budget, queue, ended)
        case PooledSettings() as settings:
            return PooledFleet(settings, scenario.budget, queue, ended)


class FleetRun:
    """One fleet and the events that come from outside it: arrivals, ticks, meters, failures.

    Attributes:
        queue: Virtual time.
        fleet: The fleet.
        jobs: The runners of batch jobs.
    """

    def __init__(
        self,
        scenario: Scenario,
        period_s: float,
        writer: RunWriter,
        joined: Joined | None = None,
    ) -> None:
        """Expect the first tick and the first request.

        Args:
            scenario: What happens.
            period_s: Control period, s.
            writer: Takes ticks and requests.
            joined: What joins it to other runs; None if it is alone.
        """
        self.queue = EventQueue() if joined is None else joined.queue
        self._writer, self._joined, self._scenario = writer, joined, scenario
        self._grid = (
            None
            if scenario.grid is None
            else SimulatedGrid(scenario.grid, scenario.budget, self.queue)
        )
        self.fleet = _fleet_of(scenario, self.queue, self._write_request)
        times = TickTimes(scenario.budget.gpu_budget_at, period_s, scenario.lead_s)
        self._loop = ControlLoop(
            self.fleet,
            scenario.policy,
            scenario.drain_rule,
            times,
            scenario.pool_rules,
            scenario.budget.limits_ahead,
        )
        self._records, self._points = TickRecords(), scenario.points
        self._shortage_monitor = ShortageMonitor(scenario.points, scenario.budget.forecast)
        self._budget, self._boundary = scenario.budget, scenario.fleet.site.boundary
        self._number, self._is_stopped = 0, False
        self.jobs = BatchJobs(self.queue, self._next_number, self._send, self._places)
        self._serve_jobs(scenario)
        for failure in scenario.failures:
            self.queue.at(failure.at_s, self._fail, failure.replica)
        for asked in () if scenario.grid is None else scenario.grid.asked:
            self.queue.at(asked.at_s, self._announce, asked.change)
        self._ticked_s = self._next_tick_s = 0.0
        self._expect_tick(self._loop.times.after(self.queue.now_s))
        self._expect_arrival(iter(scenario.arrivals))

    def _serve_jobs(self, scenario: Scenario) -> None:
        if not scenario.jobs:
            return
        self.fleet.work = self.jobs.work
        match self.fleet:
            case SimulatedFleet() as fleet:
                fleet.row_ended = self.jobs.end
            case PooledFleet() as fleet:
                fleet.set_row_ended(self.jobs.end)
        self.jobs.expect(scenario.jobs, scenario.seed)

    def _next_number(self) -> int:
        if self._joined is not None:
            return self._joined.next_number()
        self._number += 1
        return self._number

    def _send(self, number: int, arrival: Arrival) -> None:
        if self._joined is None:
            self.fleet.arrive(number, arrival)
        else:
            self._joined.offer(number, arrival)

    def _places(self, model: str) -> tuple[int, int]:
        match self.fleet:
            case SimulatedFleet() as fleet:
                return fleet.places()
            case PooledFleet() as fleet:
                return fleet.pools[model].places()

    def stop(self) -> None:
        """Stop the control loop: nothing starts or changes until `resume`."""
        self._is_stopped = True

    def resume(self) -> None:
        """Let the control loop go on with its next tick."""
        self._is_stopped = False

    def close(self) -> None:
        """End the run."""
        self.fleet.close()
        if self._grid is not None:
            self._grid.close()

    def totals(self) -> RunTotals:
        """Return the totals of a run that has ended."""
        totals = self.fleet.totals
        return RunTotals(
            duration_s=self._scenario.duration_s,
            energy_source=ENERGY_SOURCE,
            boundary=self._boundary,
            energy_j=totals.energy_j,
            idle_energy_j=totals.idle_j,
            transition_energy_j=totals.transition_j,
            meter_delay_s=METER_PERIOD_S,
            energy_error_j=0.0,
            versions={},
        )

    def _expect_tick(self, at_s: float) -> None:
        self._next_tick_s = at_s
        self.queue.at(max(self.queue.now_s, at_s - METER_LAG_S), self._read, at_s)
        self.queue.at(at_s, self._tick, at_s)

    def _read(self, now_s: float, of_tick_s: float) -> None:
        if of_tick_s == self._next_tick_s:
            self.fleet.read_meters()

    def _tick(self, now_s: float, planned_s: float) -> None:
        if planned_s != self._next_tick_s:
            return  # another one came before it
        if self._is_stopped:
            self._expect_tick(self._loop.times.after(now_s))
            return
        self._ticked_s = now_s
        plan = self._loop.tick(now_s)
        self._records.note_plan(plan)
        if isinstance(self.fleet, PooledFleet):
            self.fleet.choose(plan.variants)
        self._budget.set_battery(plan.battery_w)
        self.jobs.set_paces(plan.batch)
        self._record()
        self._expect_tick(self._loop.times.after(now_s))

    def _record(self) -> None:
        """Record the window that ends at a tick."""
        observation, budget = self.fleet.observation, self.fleet.budget
        assert observation is not None, "the loop observed the fleet"
        shortages = self._shortage_monitor.update(observation)
        window, grid = self.fleet.window(), None
        if self._grid is not None:
            grid = self._grid.tick(observation, budget, self.queue.now_s - self._records.began_s)
        record = self._records.record(
            observation, budget, window, shortages, self._points, grid=grid
        )
        if record is not None:
            self._writer.tick(record)

    def _announce(self, now_s: float, change: Change) -> None:
        """Hand over what the grid asks; tick soon if it moves the budget, as a live driver does."""
        assert self._grid is not None, "only a grid asks"
        times = self._loop.times
        before = times.read_budget(now_s)
        self._grid.announce(change)
        soon_s = max(now_s, self._ticked_s) + LEAST_WINDOW_S
        stepped = times.has_stepped(before, times.read_budget(now_s), self._next_tick_s)
        if stepped and soon_s < self._next_tick_s:
            self._expect_tick(soon_s)

    def _expect_arrival(self, arrivals: Iterator[Arrival]) -> None:
        arrival = next(arrivals, None)
        if arrival is not None:
            self.queue.at(arrival.at_s, self._arrive, (arrival, arrivals))

    def _arrive(self, now_s: float, subject: tuple[Arrival, Iterator[Arrival]]) -> None:
        arrival, arrivals = subject
        self._send(self._next_number(), arrival)
        self._expect_arrival(arrivals)

    def _fail(self, now_s: float, replica: int) -> None:
        self.fleet.fail(replica)

    def _write_request(self, request: Request) -> None:
        if self._joined is not None:
            self._joined.ended(request)
        record = request.record()
        boundary = self._boundary
        self._writer.request(record if boundary == "gpu" else replace(record, boundary=boundary))
