from __future__ import annotations

import io
import json
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from steppe.config import RunConfig, load_config, shipped_config
from steppe.fleet.driver.bookkeeper import EnergyTotals
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.driver.run_update import RunUpdate
from steppe.fleet.messages import GpuInfo, ReplicaTotals
from steppe.frontier.cache import frontier_cache
from steppe.frontier.file import read_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.record_folder import SUMMARY_FILE
from steppe.report.records import ReplicaTick, TickRecord
from steppe.roofline.point import OperatingPoint
from steppe.run import live, live_frontiers
from steppe.run import running_fleet as fleets
from steppe.run.live import LiveRun, LogFormat, RunPlan
from steppe.run.refinement import Refined
from steppe.run.running_fleet import running_fleet
from steppe.run.starting_frontier import FrontierSource, StartingFrontier

FRONTIER = Frontier.of((OperatingPoint(600, 4, 40.0, 30.0),), 10.0, 15.0, "modelled")
GPU = GpuInfo(0, "NVIDIA L4", (600,))
START = StartingFrontier(FRONTIER, FrontierSource.FILE)


def no_reading(replica: str) -> ReplicaTotals:
    raise AssertionError(replica)


POOL = PoolActors("", load_config(Path(shipped_config("demo.yaml"))), (GPU,), 1, (), no_reading)


class FullLog(io.StringIO):
    """A log on a disk that is full after the first line."""

    refused = 0

    def write(self, text: str) -> int:
        if self.getvalue():
            self.refused += 1
            raise OSError(28, "No space left on device")
        return super().write(text)


@dataclass
class Driver:
    """A fleet that ticks every twenty seconds."""

    actors: Any = field(
        default_factory=lambda: SimpleNamespace(energy_source="emulated", pools=lambda: {"": POOL})
    )
    config: RunConfig = POOL.config
    ticks: int = 0
    frontiers: list[Frontier] = field(default_factory=list)
    booked: LedgerTotals | None = None

    def begin(self, frontiers: Mapping[str, Frontier]) -> None: ...

    def use_frontier(self, frontier: Frontier, pool: str) -> None:
        self.frontiers.append(frontier)

    def poll(self) -> RunUpdate:
        self.ticks += 1
        t_s = 20.0 * self.ticks
        replica = ReplicaTick("replica-1", "awake", 600, 4, 9.0, 0.0)
        tick = TickRecord(t_s, 9.0, 9.0, 9.0, 0.0, 0.0, 9.0, 0, 0, 0, replicas=(replica,))
        return RunUpdate([tick], [])

    def books_so_far(self) -> EnergyTotals:
        return EnergyTotals(9.0, "emulated", 8.0, 7.0, 1.0, 0.1, 0.0, 0)


def test_a_run_continues_when_its_output_cannot_be_written(monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.0)
    driver: Any = Driver()
    log = FullLog()
    plan = RunPlan(load_config(Path(shipped_config("demo.yaml"))), None, None)
    run = LiveRun(driver, plan, Console(file=log))
    run.follow({"": START}, finished=lambda: driver.ticks == 5)
    assert (driver.ticks, log.refused) == (5, 5)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_has_one_line_a_tick_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.0)
    driver: Any = Driver()
    log = io.StringIO()
    plan = RunPlan(load_config(Path(shipped_config("demo.yaml"))), None, None, log_format)
    LiveRun(driver, plan, Console(file=log, width=40)).follow(
        {"": START}, finished=lambda: driver.ticks == 3
    )
    lines = (log.getvalue() + capsys.readouterr().out).splitlines()
    if log_format == "json":
        found = [json.loads(line) for line in lines]
        assert [(tick["t_s"], tick["energy_source"]) for tick in found] == [
            (20.0, "emulated"),
            (40.0, "emulated"),
            (60.0, "emulated"),
        ]
    else:
        assert [line.split("  ")[0] for line in lines[1:]] == ["0:20", "0:40", "1:00"]


CTRL_C = signal.SIGINT


class Interrupted(Driver):
    """A fleet that is interrupted by Ctrl-C at every stage of its end."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.done: list[str] = []

    def start(self) -> None: ...

    def close_gateway(self) -> None:
        signal.raise_signal(CTRL_C)
        self.done.append("close_gateway")

    def end(self) -> tuple[RunUpdate, Any]:
        signal.raise_signal(CTRL_C)
        self.done.append("end")
        return RunUpdate([], []), None

    def stop(self) -> None:
        signal.raise_signal(CTRL_C)
        self.done.append("stop")


def raise_signal(number: int) -> bool:
    signal.raise_signal(number)
    return False


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, hears_hangups: None, tmp_path: Path) -> Interrupted:
    fleet = Interrupted()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fleets, "FleetDriver", lambda *_, **__: fleet)
    monkeypatch.setattr(
        fleets, "Cleanup", lambda: nullcontext(SimpleNamespace(say=lambda **_: None))
    )
    for name in ("remove_stale_runs", "check_inputs", "_emulate"):
        monkeypatch.setattr(fleets, name, lambda *_, **__: None)
    return fleet


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_further_signals_do_not_interrupt_the_end_of_a_run(fleet: Interrupted, number: int) -> None:
    before = signal.getsignal(number)
    config, console = load_config(Path(shipped_config("demo.yaml"))), Console(file=io.StringIO())
    with running_fleet(config, console) as driver:
        run = LiveRun(driver, RunPlan(config, None, None), console)
        run.follow({"": START}, finished=partial(raise_signal, number))
        signal.raise_signal(number)  # between its last tick and its close
        assert run.close() is None, "nothing was recorded"
    assert fleet.done == ["close_gateway", "end", "stop", "stop"], "again, what is down stays down"
    assert signal.getsignal(number) == before


def test_ctrl_c_before_the_run_stops_the_whole_fleet(fleet: Interrupted) -> None:
    config, console = load_config(Path(shipped_config("demo.yaml"))), Console(file=io.StringIO())
    with pytest.raises(KeyboardInterrupt), running_fleet(config, console):
        signal.raise_signal(CTRL_C)
    assert fleet.done == ["stop"]


class Ending(Driver):
    """A fleet that notes in which order it ends, and what is in the record folder by then."""

    def __init__(self, record: Path) -> None:
        super().__init__()
        self.record = record
        self.done: list[tuple[str, bool]] = []

    def note(self, what: str) -> None:
        self.done.append((what, (self.record / SUMMARY_FILE).exists()))

    def close_gateway(self) -> None:
        self.note("the gateway is closed")

    def end(self) -> tuple[RunUpdate, EnergyTotals]:
        self.note("the books are closed")
        return RunUpdate([], []), EnergyTotals(9.0, "emulated", 8.0, 7.0, 1.0, 0.1, 0.0, 0)

    def stop(self) -> None:
        self.note("the fleet is down")


@pytest.fixture
def ending(tmp_path: Path) -> tuple[Ending, LiveRun]:
    record = tmp_path / "run"
    fleet: Any = Ending(record)
    config = load_config(Path(shipped_config("demo.yaml")))
    return fleet, LiveRun(fleet, RunPlan(config, record, None), Console(file=io.StringIO()))


def test_a_run_closes_its_gateway_first_and_is_summed_up_after_its_fleet_stopped(
    ending: tuple[Ending, LiveRun],
) -> None:
    fleet, run = ending
    summary = run.close()
    assert fleet.done == [
        ("the gateway is closed", False),
        ("the books are closed", False),
        ("the fleet is down", False),
    ]
    assert summary is not None
    assert (summary["energy_j"], summary["energy_source"]) == (8.0, "emulated")
    assert (fleet.record / SUMMARY_FILE).is_file()


def test_closing_the_books_leaves_the_fleet_running(
    ending: tuple[Ending, LiveRun],
) -> None:
    fleet, run = ending
    assert run.close_books() is not None
    assert fleet.done == [("the books are closed", False)]


@dataclass
class FakeRefiner:
    """Hands over one measured frontier."""

    refined: Refined | None
    stopped: bool = False
    is_running: bool = False

    def start(self) -> None: ...

    def take(self) -> Refined | None:
        refined, self.refined = self.refined, None
        return refined

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(("policy", "used"), [("follow_budget", True), ("save_energy", False)])
def test_a_frontier_measured_while_serving_is_used_and_cached_if_it_keeps_the_slo(
    ending: tuple[Ending, LiveRun],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    policy: str,
    used: bool,
) -> None:
    fleet, run = ending
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = run._plan.config
    control = config.control.model_copy(update={"policy": policy})
    pool = replace(POOL, config=config.model_copy(update={"control": control}))
    fleet.actors.pools = lambda: {"": pool}
    slow = Frontier.of((OperatingPoint(600, 4, 8.0, 30.0, tpot_s=9.0),), 10.0, 15.0, "emulated")
    refiner = FakeRefiner(Refined(slow, {"points": 4}))
    monkeypatch.setattr(live_frontiers, "pool_refiner", lambda *_: refiner)
    monkeypatch.setattr(live, "POLL_S", 0.0)
    provisional = StartingFrontier(FRONTIER, FrontierSource.MODELLED)
    run.follow({"": provisional}, finished=lambda: fleet.ticks == 2)
    summary = run.close()
    assert refiner.stopped
    assert summary is not None
    assert summary["frontier_source"] == ("measured" if used else "modelled")
    assert summary["frontier_measured_at_s"] == (20.0 if used else None)
    assert fleet.frontiers == ([slow] if used else [])
    assert len(frontier_cache().entries()) == used
    assert read_frontier(fleet.record / "frontier.yaml") == (slow if used else FRONTIER)
