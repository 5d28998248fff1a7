"""A simulated fleet of 70B replicas under what a grid asks, for `grid_targets.py`.

Users take a part of its power and rows of a batch, which can wait, the rest. The supply is not
scarce: only the grid limits it. Everything is modelled by the energy roofline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_fleets import FLEETS, LOWEST_CLOCK, MARGIN_SHARE, OVER_SHARE
from steppe.config import RunConfig
from steppe.report.records import Slo, TickRecord
from steppe.report.summary import Summary, summarise
from steppe.run.simulation import prepare
from steppe.sim.grid_events import Announced, GridScenario
from steppe.sim.run import RecordsInMemory, run_scenario

Floats = NDArray[np.float64]
FIRM_LOAD = 0.3
"""What users ask for, share of what the fleet serves at full power."""
ROW_TOKENS, ROWS = (1155, 211), 1_000_000
"""Prompt and output tokens of a row, as those of users; and rows, more than any run finishes."""
BASELINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """What makes a run.

    Attributes:
        replicas: Replicas, of 4 H100 each.
        duration_s: Length, s.
        margin_share: Share of the budget that is left free.
        over_share: Energy that may be above the budget, share of the energy.
        seed: Of the requests.
    """

    replicas: int
    duration_s: float
    margin_share: float = MARGIN_SHARE
    over_share: float = OVER_SHARE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did.

    Attributes:
        ticks: Its ticks.
        summary: Its summary.
    """

    ticks: tuple[TickRecord, ...]
    summary: Summary

    @property
    def end_s(self) -> Floats:
        """End of each window, s."""
        return np.array([tick.t_s for tick in self.ticks])

    @property
    def draw_w(self) -> Floats:
        """Mean draw of the site in each window, W."""
        return np.array([tick.site_w for tick in self.ticks])


def run(size: Size, asked: Sequence[Announced]) -> Run:
    """Run a fleet under what the grid asks."""
    simulation = prepare(config_of(size), lambda _: None)
    grid = simulation.scenario.grid
    assert grid is not None, "the configuration has a grid"
    grid = GridScenario(grid.config, grid.pools, tuple(asked))
    records = RecordsInMemory()
    scenario = replace(simulation.scenario, grid=grid)
    totals = run_scenario(scenario, simulation.config.control.period_s, records)
    slo: Slo = simulation.slo
    return Run(tuple(records.ticks), summarise(records.ticks, records.requests, totals, slo))


def full_w(replicas: int) -> float:
    """Return the draw of so many replicas at the full point, W."""
    return replicas * _full_of_one_w()


@lru_cache(maxsize=1)
def _full_of_one_w() -> float:
    return prepare(config_of(Size(1, 10.0)), lambda _: None).frontier.full.draw_w


def config_of(size: Size) -> RunConfig:
    """Return the configuration of a run."""
    what: dict[str, Any] = FLEETS["70b"]
    prompt_tokens, output_tokens = ROW_TOKENS
    lengths = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    return RunConfig.model_validate(
        {
            "model": {"name": what["model"], "max_model_len": 16384},
            "engine": {"max_batch_limit": 256, "max_tokens_per_step": what["tokens"]},
            "fleet": {"replicas": size.replicas, "gpus_per_replica": what["gpus"]},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {"supply": [{"kind": "constant", "watts": 1e9}]},
            "frontier": {"sweep": lengths | {"lowest_clock_share": LOWEST_CLOCK}},
            "control": {
                "policy": "follow_budget",
                "margin_share": size.margin_share,
                "over_share": size.over_share,
            },
            "gateway": {"max_waiting": 20_000},
            "slo": {"ttft_s": 2.0, "tpot_s": what["tpot_s"]},
            "load": {
                "utilisation": FIRM_LOAD,
                "daily_depth": 0.0,
                "seed": size.seed,
                "jobs": [lengths | {"rows": ROWS, "when": "now"}],
            },
            "sim": {"duration_s": size.duration_s},
            "grid": {"baseline_s": BASELINE_S},
        }
    )
