"""The simulator agrees with a live fleet: Ray, HTTP, synthetic engines, emulated GPUs.

Both run a policy that depends on the budget alone. A policy that learns what steps cost finds
higher costs where the processor is busy with something else, and its plans then differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from steppe.config import EmulatedSection, RunConfig, load_config
from steppe.frontier.file import read_frontier, write_frontier
from steppe.load.arrivals import Arrival
from steppe.power.budget import budget_from_config
from steppe.report.record_folder import RunRecord, read_run
from steppe.report.records import RunTotals
from steppe.report.tracking import track
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import emulated_replica, fleet_of, kind_of, scenario_of
from steppe.sim.points import modelled_frontier
from steppe.sim.run import RecordsInMemory, run_scenario

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(300)]

PERIOD_S = 1.0
LOAD_S, RATE_RPS = 32, 6
QUIET_S = 3.0  # of the run, after the last answer
CONFIG = """
model: {name: none, served_name: synthetic}
engine: {kind: synthetic, max_batch_limit: 16}
fleet: {replicas: 4}
device:
  kind: emulated
  profile: l4
  count: 4
  pace: {weights_s: 0.18, decode_s: 0.012, prefill_s: 0.0015}
power:
  supply: [{kind: wind, station: sand_point, rated_w: 100}, {kind: constant, watts: 90}]
  start: 2001-09-05T09:00:00
  speedup: 360
  fallback_w: 80
frontier: {file: frontier.yaml}
gateway: {port: 0}
control: {policy: "tests.fixtures.clock_policy:ClockOnly"}
slo: {ttft_s: 6, tpot_s: 0.6}
"""


@contextmanager
def steppe(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of steppe; end it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "steppe.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def serve_under_load(config: Path, record: Path) -> RunRecord:
    """Serve a load that the budget holds back, from a process of its own, to its last answer."""
    with steppe("serve", str(config), "--record", str(record)) as server:
        assert server.stdout is not None
        found: re.Match[str] | None = None
        seen = ""
        for line in server.stdout:
            seen += line
            found = re.search(r"serving on (http://[\w.:]+)", seen)
            if found:
                break
        assert found is not None, seen
        rest = threading.Thread(target=server.stdout.read)
        rest.start()
        load = ["load", "--url", found[1], "--rate", str(RATE_RPS), "--duration", str(LOAD_S)]
        load += ["--length-scale", "0.15", "--max-prompt", "300", "--max-output", "120", "--json"]
        with steppe(*load) as client:
            client.communicate(timeout=200)
        time.sleep(QUIET_S)
        server.terminate()
        server.wait(timeout=60)
        rest.join()
    return read_run(record)


def simulate_again(config: RunConfig, live: RunRecord) -> tuple[RecordsInMemory, RunTotals]:
    """Simulate the requests of a live run, from the moment at which its controller began."""
    begun_s = live.ticks[0].t_s - 2 * PERIOD_S
    arrivals = [
        Arrival(r.arrival_s - begun_s, r.prompt_tokens, r.output_tokens) for r in live.requests
    ]
    arrivals.sort(key=lambda arrival: arrival.at_s)
    assert isinstance(config.device, EmulatedSection)
    assert config.frontier.file is not None
    kind = kind_of(config, emulated_replica(config.device, 1))
    frontier = read_frontier(config.frontier.file)
    scenario = scenario_of(config, fleet_of(config, kind), frontier, tuple(arrivals))
    budget = budget_from_config(config.power, config.site, started_s=-begun_s)
    duration_s = len(live.ticks) * PERIOD_S + 1.5 * PERIOD_S
    records = RecordsInMemory()
    return records, run_scenario(
        replace(scenario, budget=budget, duration_s=duration_s), PERIOD_S, records
    )


def test_tokens_joules_and_tracking_are_within_three_percent(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path)
    assert isinstance(config.device, EmulatedSection)
    kind = kind_of(config, emulated_replica(config.device, 1))
    points = modelled_frontier(
        kind, range(1020, 2041, 60), (2, 4, 6, 8, 12, 16), RequestLengths(80, 40)
    )
    write_frontier(points, tmp_path / "frontier.yaml")
    live = serve_under_load(path, tmp_path / "live")
    ours, totals = simulate_again(config, live)
    delay_s = totals.meter_delay_s
    assert sum(tick.waiting > 0 for tick in live.ticks) > 10, "the budget held the fleet back"
    assert len(ours.ticks) == len(live.ticks)
    for of in (lambda tick: tick.output_tokens, lambda tick: tick.energy_j):
        assert sum(map(of, ours.ticks)) == pytest.approx(sum(map(of, live.ticks)), rel=0.03)
    mae, live_mae = (track(t, delay_s)["relative_mae"] for t in (ours.ticks, live.ticks))
    assert mae == pytest.approx(live_mae, abs=0.03)
    charged = [sum(r.energy_j or 0.0 for r in run.requests) for run in (ours, live)]
    assert charged[0] == pytest.approx(charged[1], rel=0.05)
