from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from steppe.cli.running import Run, RunPlan
from steppe.config import load_config, shipped_config
from steppe.fleet.driver import Taken
from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint
from steppe.report.records import TickRecord

FRONTIER = Frontier.of((OperatingPoint(600, 4, 40.0, 30.0),), 10.0, 15.0, "modelled")


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

    crew: Any = field(default_factory=lambda: SimpleNamespace(energy_source="emulated"))
    ticks: int = 0

    def begin(self, frontier: Frontier) -> None: ...

    def take(self) -> Taken:
        self.ticks += 1
        t_s = 20.0 * self.ticks
        return Taken([TickRecord(t_s, 9.0, 9.0, 9.0, 0.0, 0.0, 9.0, 0, 0, 0, replicas=())], [])


def test_a_run_goes_on_though_nobody_takes_what_it_shows(monkeypatch: Any) -> None:
    monkeypatch.setattr("steppe.cli.running.POLL_S", 0.0)
    driver: Any = Driver()
    log = FullLog()
    plan = RunPlan(load_config(Path(shipped_config("demo.yaml"))), None, None)
    run = Run(driver, plan, Console(file=log))
    run.follow(FRONTIER, finished=lambda: driver.ticks == 5)
    assert (driver.ticks, log.refused) == (5, 5)
