"""Does the frontier of `steppe bench sweep` predict a fresh run, and how long does it take?

Sweeps 6 batch limits x 5 clocks of a config's replicas, fits the frontier, and then measures
fresh points that lie between the swept ones. With the emulated GPUs of the demo every joule is
emulated; the engine, its tokens and its times are real.

    python bench/sweep_predicts.py --config configs/demo.yaml
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.config import load_config
from steppe.frontier.fit import FrontierFit
from steppe.measure.sweep.frontier import fit_points, sound_mixed
from steppe.measure.sweep.grid import SweepGrid, left_to_do, spread_clocks
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.result import Phase, PointResult, Setting
from steppe.measure.sweep.store import ResultsFile, RunHead
from steppe.measure.sweep.sweep import run_sweep
from steppe.run.sweep_rigs import SweepTarget, fleet_target

BATCHES = (1, 2, 4, 8, 12, 16)
FRESH_BATCHES = (3, 6, 10, 14)
CLOCKS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One fresh point: what was predicted, and what came."""

    setting: Setting
    predicted: tuple[float, float]
    found: PointResult

    @property
    def row(self) -> dict[str, Any]:
        """Predicted and found tokens/s and W, with their relative errors."""
        estimates = self.found.estimates
        assert estimates is not None, "a saturated replica gives tokens"
        (tps, draw_w), flags = self.predicted, list(self.found.flags)
        tps_error = tps / estimates.output_tps.value - 1
        draw_error = draw_w / estimates.draw_w.value - 1
        energy_error = draw_w / tps / estimates.energy_per_output_token.value - 1
        return {
            "key": self.setting.key,
            "found_tps": estimates.output_tps.value,
            "found_w": estimates.draw_w.value,
            "tps_error": tps_error,
            "draw_error": draw_error,
            "energy_per_token_error": energy_error,
            "flags": flags,
        }


def fresh_settings(ready: SweepTarget, grid: SweepGrid) -> list[Setting]:
    """Return points between the swept ones: clocks between two clocks, batches between two."""
    prompt, output = grid.lengths[0]
    swept = sorted(grid.clocks_mhz)
    clocks = [
        min(ready.clocks_mhz, key=lambda c, m=(a + b) / 2: abs(c - m))  # type: ignore[misc]
        for a, b in pairwise(swept)
    ]
    pairs = zip(reversed(clocks), FRESH_BATCHES, strict=False)
    return [Setting(Phase.MIXED, clock, batch, prompt, output) for clock, batch in pairs]


def check(ready: SweepTarget, fit: FrontierFit, grid: SweepGrid, plan: MeasurePlan) -> list[Check]:
    """Measure fresh points and set them beside what the fit says."""
    found: list[PointResult] = []
    run_sweep(ready.rigs, fresh_settings(ready, grid), plan, found.append)
    checks = []
    for result in found:
        setting = result.setting
        mix = sum(w.prompt_tokens for w in result.windows) / sum(
            w.output_tokens for w in result.windows
        )
        point = fit.point(setting.clock_mhz, setting.batch_limit, mix)
        checks.append(Check(setting, (point.output_tps, point.draw_w), result))
    return checks


def measure(config: Path, plan: MeasurePlan, out: Path, console: Console) -> dict[str, Any]:
    """Sweep, fit, check; return the results."""
    settings = load_config(config)
    section = settings.frontier.sweep
    assert section is not None, "the config has a sweep"
    with fleet_target(settings, "all", 0, console) as ready:
        clocks = spread_clocks(ready.clocks_mhz, CLOCKS, section.lowest_clock_share)
        lengths = ((section.prompt_tokens, section.output_tokens),)
        grid = SweepGrid(clocks, BATCHES, lengths, apart=False)
        points = sweep(ready, grid, plan, out, console)
        sweep_s = sum(spent_s(point) for point in points) / len(ready.rigs)
        fit = fit_points(sound_mixed(points))
        checks = check(ready, fit, grid, plan)
    return {
        "sweep_s": sweep_s,
        "points": len(points),
        "unsound": sum(not p.is_sound for p in points),
        "unsound_flags": sorted({flag for p in points if not p.is_sound for flag in p.flags}),
        "fit_time_error": fit.time_error,
        "fit_draw_error": fit.draw_error,
        "checks": [c.row for c in checks],
        "provenance": {
            "commit": ready.provenance.commit,
            "gpus": list(ready.provenance.gpus),
            "versions": dict(ready.provenance.versions),
        },
    }


def sweep(
    ready: SweepTarget, grid: SweepGrid, plan: MeasurePlan, out: Path, console: Console
) -> list[PointResult]:
    """Measure every point that a folder does not hold yet; return all."""
    store = ResultsFile(out)
    points = list(store.earlier.sound) if store.earlier else []
    store.begin(RunHead(ready.provenance, ready.rest, asdict(plan)))

    def keep(point: PointResult) -> None:
        points.append(point)
        store.add(point)
        console.print(f"{len(points)} of {len(grid.settings)}: {point.setting.key}")

    run_sweep(ready.rigs, left_to_do(grid.settings, store.done), plan, keep)
    return points


def spent_s(point: PointResult) -> float:
    """Return how long a point kept its replica, s."""
    return point.warm_up_s + sum(window.duration_s for window in point.windows)


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    provenance = results.pop("provenance")
    worst = max(
        max(abs(row[name]) for name in ("tps_error", "draw_error", "energy_per_token_error"))
        for row in results["checks"]
    )
    targets = (
        ("sweep of 6 batch limits x 5 clocks", results["sweep_s"] / 60, "min", 15.0),
        ("worst error of the frontier on fresh points", worst, "share", 0.05),
    )
    return {
        "bench": "sweep_predicts",
        "commit": provenance["commit"],
        "hardware": f"emulated {', '.join(provenance['gpus'])}, real engine on the CPU",
        "energy_source": "emulated",
        "versions": provenance["versions"],
        "results": results,
        "targets": [
            {"name": n, "value": v, "unit": u, "target": t, "met": v <= t} for n, v, u, t in targets
        ],
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table for people."""
    table = Table(title=f"fresh points beside the frontier; sweep took {results['sweep_s']:.0f} s")
    for head in ("point", "tokens/s", "W", "error tokens/s", "error W", "error J/token", "flags"):
        table.add_column(head)
    for row in results["checks"]:
        errors = ("tps_error", "draw_error", "energy_per_token_error")
        table.add_row(
            row["key"],
            f"{row['found_tps']:.1f}",
            f"{row['found_w']:.1f}",
            *(f"{row[name]:+.1%}" for name in errors),
            ", ".join(row["flags"]),
        )
    console.print(table)


def main() -> None:
    """Measure, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window", type=float, default=10.0, help="s")
    parser.add_argument("--out", type=Path, help="keep the sweep's results here")
    arguments = parser.parse_args()
    console = Console(width=120)
    plan = MeasurePlan(
        windows=arguments.windows,
        window_s=arguments.window,
        longest_settle_s=5.0,
        prompt_seed=time.time_ns(),
    )
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments.config, plan, arguments.out or Path(folder), console)
    show(results, console)
    print(json.dumps(document(results)))


if __name__ == "__main__":
    main()
