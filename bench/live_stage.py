"""The live fleet of `live_tracking.py`: its configuration, its supply, its load, and one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import live_machine
import scenarios
from fleet_sweep import sweep_fleet
from steppe.config import RunConfig
from steppe.fleet.driver.driver import FleetDriver
from steppe.frontier.file import read_frontier, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.load.arrivals import Arrival, LengthLimits, offered_rate
from steppe.load.synthetic import SyntheticLoad
from steppe.load.traffics import AZURE_LENGTHS
from steppe.report.record_folder import read_ticks
from steppe.report.records import TickRecord
from steppe.run.live import LiveRun, RunPlan
from steppe.run.running_fleet import running_fleet
from steppe.run.starting_frontier import FrontierSource, StartingFrontier

REPLICAS, LARGEST = 8, 8
PERIOD_S, MARGIN_SHARE = 1.0, 0.014
PACE = {"weights_s": 0.03, "decode_s": 0.009, "prefill_s": 0.0001}
"""With a full batch steps take 100 ms at the full clock and twice that at half: two cores keep up
with eight replicas, and a step under way at a cut ends within two delays of the meter."""
LEAD_S = 15.0
"""The first budget is held for so long before a happening, so that queue and draw build up, s."""
DRAIN_S = 300.0
"""Longest time after a happening for outstanding requests, with ample power, s."""
GRID_S = 0.25
"""Spacing of the supply file, s; steps in between have rows of their own."""
LENGTH_SCALE, LONGEST = 0.3, LengthLimits(600, 240)
BURST = REPLICAS * (LARGEST + 8)
"""Requests that arrive at once at the start: a full batch on each replica, and a queue."""


@dataclass(frozen=True, slots=True)
class Played:
    """A happening that is over.

    Attributes:
        ticks: Its ticks; times count from its beginning.
        requests: Number of requests sent.
        answer: Result of the client.
        machine: Load and delays of the machine.
    """

    ticks: tuple[TickRecord, ...]
    requests: int
    answer: dict[str, Any]
    machine: dict[str, float]


def config_of(folder: Path, frontier: Frontier | None, duration_s: float) -> RunConfig:
    """Return the config of the fleet: with a frontier found before, or to sweep one."""
    supply = {"kind": "trace", "path": str(_supply(folder)), "watts_per_unit": 1}
    full_w = 0.0 if frontier is None else full_draw_w(frontier)
    sweep = {"window_s": 4.0, "batch_limits": [2, 4, 6, LARGEST], **_mean_lengths()}
    return RunConfig.model_validate(
        {
            "model": {"name": "none", "served_name": "synthetic"},
            "engine": {"kind": "synthetic", "max_batch_limit": LARGEST},
            "fleet": {"replicas": REPLICAS},
            "device": {"kind": "emulated", "profile": "h100", "count": REPLICAS, "pace": PACE},
            "power": {
                "supply": [supply | {"time_column": "t_s", "power_column": "watts"}],
                "stale_s": duration_s / 6,
                "fallback_w": scenarios.FIRM_SHARE * full_w,
            },
            "frontier": {"sweep": sweep} if frontier is None else {"file": _frontier(folder)},
            "control": {"period_s": PERIOD_S, "margin_share": MARGIN_SHARE},
            "gateway": {"port": 0, "max_waiting": 20_000, "max_wait_s": 900},
            "slo": {"ttft_s": 30.0, "tpot_s": 0.5},
        }
    )


def full_draw_w(frontier: Frontier) -> float:
    """Return the draw of the fleet at the full point, W."""
    return REPLICAS * frontier.full.draw_w


def frontier_of(folder: Path, duration_s: float, console: Console) -> Frontier:
    """Return the frontier of a folder; sweep it on a fleet of its own if there is none yet."""
    path = _frontier(folder)
    if not path.is_file():
        write_supply(folder, scenarios.ample(1.0, duration_s))
        config = config_of(folder, None, duration_s)
        with running_fleet(config, console) as driver:
            assert config.frontier.sweep is not None, "the config names no frontier file"
            frontier, _ = sweep_fleet(driver.actors, config, config.frontier.sweep)
            write_frontier(frontier, path)
    return read_frontier(path)


def write_supply(folder: Path, happening: scenarios.Happening) -> None:
    """Write the budget of a happening as a trace, after its first value was held for a while."""
    budget = happening.budget
    lead_s, then_s = np.arange(0.0, LEAD_S, GRID_S), np.arange(0.0, budget.end_s, GRID_S)
    rows = [(at_s, budget.watts[0]) for at_s in lead_s.tolist()]
    rows += [
        (LEAD_S + at_s, budget.at(at_s)) for at_s in sorted({*then_s.tolist(), *budget.times_s})
    ]
    lines = ["t_s,watts", *(f"{at_s:.4f},{watts:.3f}" for at_s, watts in rows)]
    _supply(folder).write_text("\n".join(lines) + "\n")


def write_load(folder: Path, frontier: Frontier, utilisation: float, duration_s: float) -> None:
    """Write the load as a trace: a burst that fills the fleet, and a stream of requests."""
    rng = np.random.default_rng(0)
    capacity_tps = REPLICAS * frontier.full.output_tps
    burst = AZURE_LENGTHS.draw(rng, BURST, LENGTH_SCALE, LONGEST).tolist()
    stream = SyntheticLoad().generate(
        rng,
        rate_rps=offered_rate(capacity_tps, utilisation, _mean_lengths()["output_tokens"]),
        duration_s=LEAD_S + duration_s,
        length_scale=LENGTH_SCALE,
        limits=LONGEST,
    )
    arrivals = [*(Arrival(0.0, prompt, output) for prompt, output in burst), *stream]
    _load(folder).write_text("".join(_mooncake_line(arrival) for arrival in arrivals))


class Stage:
    """A running fleet on which happenings are played, with the load of its folder."""

    def __init__(
        self, driver: FleetDriver, folder: Path, config: RunConfig, frontier: Frontier
    ) -> None:
        self._driver, self._folder = driver, folder
        self._config, self._frontier = config, frontier
        self._console = Console(stderr=True)

    def play(self, happening: scenarios.Happening, duration_s: float, record: Path) -> Played:
        """Run the fleet through a happening, record it, and let every request finish."""
        write_supply(self._folder, happening)
        with _client(self._driver.url, _load(self._folder)) as client:
            with live_machine.watched() as machine:
                self._run(RunPlan(self._config, record, LEAD_S + duration_s))
                machine_load = machine.summary()
            self._drain(client)
            client.terminate()  # no effect on one that has ended
            answer = json.loads(client.communicate(timeout=30)[0])
        ticks = tuple(
            replace(tick, t_s=tick.t_s - LEAD_S) for tick in read_ticks(record) if tick.t_s > LEAD_S
        )
        requests = len(_load(self._folder).read_text().splitlines())
        return Played(ticks, requests, answer, machine_load)

    def _drain(self, client: subprocess.Popen[str]) -> None:
        """Offer more watts than the fleet can draw, until the last request has finished."""
        write_supply(self._folder, scenarios.ample(full_draw_w(self._frontier), DRAIN_S))
        self._run(RunPlan(self._config, None, DRAIN_S), lambda: client.poll() is not None)

    def _run(self, plan: RunPlan, finished: Callable[[], bool] = lambda: False) -> None:
        run = LiveRun(self._driver, plan, self._console)
        run.follow({"": StartingFrontier(self._frontier, FrontierSource.FILE)}, finished)
        run.close_books()
        if run.is_stopped:
            raise SystemExit("stopped before the last happening was over")


@contextmanager
def _client(url: str, trace: Path) -> Generator[subprocess.Popen[str]]:
    """Run the load from a process of its own; end it with the block."""
    command = [sys.executable, "-m", "steppe.cli", "load", "--url", url, "--trace", str(trace)]
    client = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield client
    finally:
        client.terminate()
        client.wait(timeout=30)


def _mean_lengths() -> dict[str, int]:
    """Return the mean request of the load, tokens."""
    drawn = AZURE_LENGTHS.draw(np.random.default_rng(0), 10_000, LENGTH_SCALE, LONGEST)
    prompt_tokens, output_tokens = drawn.mean(axis=0).round().astype(int).tolist()
    return {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}


def _mooncake_line(arrival: Arrival) -> str:
    row = {
        "timestamp": 1000 * arrival.at_s,
        "input_length": arrival.prompt_tokens,
        "output_length": arrival.output_tokens,
    }
    return json.dumps(row) + "\n"


def _supply(folder: Path) -> Path:
    return folder / "supply.csv"


def _load(folder: Path) -> Path:
    return folder / "load.jsonl"


def _frontier(folder: Path) -> Path:
    return folder / "frontier.yaml"
