"""What are the coefficients of the energy roofline?

Fits them to public measurements and writes `configs/roofline/`: `coefficients.yaml` (every number
with its standard error) and `residuals.csv` (what the formula misses of each measured run).

    python bench/fit_roofline.py ../shared/data/calibration

Time and draw of H100 and B200: ML.ENERGY Benchmark v3 (vLLM 0.11.1 at saturation; data card
Apache-2.0). How time and draw follow the clock: what is published of H100, H200 and B200
(`clock_sweeps`), and GridPilot's sweep of a V100 (CC-BY 4.0), which the power-limit sweep of an
A100 (Emerald, Apache-2.0) checks.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq, minimize_scalar

from clock_fit import MIDDLE, ClockFit, fit_clocks
from roofline_fit import RooflineFit, context_of
from roofline_priors import PRIORS
from run_table import TableRow, read_run_table
from steppe.measure.provenance import source_commit
from steppe.roofline.files import read_gpu_spec
from steppe.roofline.hardware import ClockCurve
from steppe.roofline.residual_model import Floats

DEFAULT_DATA = Path("../shared/data/calibration")
OUT = Path("configs/roofline")
SOURCE = (
    "bench/fit_roofline.py on ML.ENERGY Benchmark v3 (Apache-2.0); for the clock on the rows of "
    "bench/clock_sweeps.py (H100, H200, B200) and GridPilot's sweep (V100, CC-BY 4.0). `error`: "
    "standard error of the fit, relative; for the clock in the number's own unit. `per_error`: "
    "change when the voltage at 0.6 of the highest clock, and the memory's knee, are one standard "
    "error higher. What no row decides keeps its prior."
)


def main() -> None:
    """Fit, write, and print a table and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, nargs="?", default=DEFAULT_DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    sweep = arguments.data / "gridpilot_v100" / "E1_power_cap_sweep__summary_table.csv"
    clocks = fit_clocks(sweep)
    curves = {name: clock.curve for name, clock in clocks.items()}
    rows = read_run_table(arguments.data / "mlenergy" / "llm_text_h100_b200.csv")
    fit = RooflineFit([row.run for row in rows], curves)
    every = np.ones(len(rows), dtype=bool)
    x = fit.fit(every)
    errors = fit.errors(x, every)
    took_s = time.perf_counter() - begun_s
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_coefficients(arguments.out / "coefficients.yaml", fit, x, errors, clocks)
    write_residuals(arguments.out / "residuals.csv", fit, x, rows)
    a100 = a100_error(arguments.data / "emerald_phoenix" / "dvfs_sweep.csv", curves["v100"])
    results = in_sample(fit, x, rows)
    for name, clock in clocks.items():
        results |= {
            f"clock_{name}_voltage": clock.curve.voltage(MIDDLE),
            f"clock_{name}_voltage_error": clock.voltage_error,
            f"clock_{name}_draw_error": clock.draw_error,
            f"clock_{name}_rate_error": clock.rate_error,
        }
    results |= {"a100_rate_error": a100, "fit_s": took_s}
    show(fit, x, errors, results)
    print(json.dumps(document(results)))


def write_coefficients(
    path: Path,
    fit: RooflineFit,
    x: Floats,
    errors: Floats,
    clocks: Mapping[str, ClockFit],
) -> None:
    """Write every number with its standard error."""
    values = {
        "source": SOURCE,
        "clock": {name: _clock_entries(clock) for name, clock in clocks.items()},
        "prompt_tokens": {
            task: _entry(value, errors[fit.names.index(task)])
            for task, value in fit.prompt_tokens(x).items()
        },
        "gpus": {
            name: {
                n: _entry(value, errors[fit.names.index(n)])
                for n, value in fit.coefficients(x, number).items()
                if n in PRIORS
            }
            for number, name in enumerate(fit.gpu_names)
        },
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100))


def _clock_entries(clock: ClockFit) -> dict[str, dict[str, float]]:
    curve = clock.curve
    values = curve.voltage_floor, curve.voltage_knee, curve.memory_knee
    names = "voltage_floor", "voltage_knee", "memory_knee"
    return {
        name: _entry(value, error) | {"per_error": float(f"{change:.3g}")}
        for name, value, error, change in zip(
            names, values, clock.errors, curve.per_error, strict=True
        )
    }


def _entry(value: float, error: float) -> dict[str, float]:
    return {"value": float(f"{value:.5g}"), "error": float(f"{error:.2g}")}


def write_residuals(path: Path, fit: RooflineFit, x: Floats, rows: Sequence[TableRow]) -> None:
    """Write what the formula misses of each run that the fit used."""
    residuals = fit.calibration(x, np.ones(len(rows), dtype=bool)).residuals
    used, prompts = [row for row in rows if row.run.fitted], fit.prompt_tokens(x)
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = ("model", "gpu", "gpus", "data_parallel", "neighbours", "parsed_tokens")
        table.writerow([*columns, "sequences", "context_tokens", "log_time", "log_draw"])
        for row, residual in zip(used, residuals, strict=True):
            host, context = row.run.host, context_of(row.run, prompts)
            start = [row.model_id, row.run.gpu.name, row.run.gpus, row.run.data_parallel]
            start += [host.neighbours, f"{host.parsed_tokens:.0f}", f"{context.batch:.1f}"]
            numbers = [f"{residual.log_time:.4f}", f"{residual.log_draw:.4f}"]
            table.writerow([*start, f"{context.context_tokens:.0f}", *numbers])


def in_sample(fit: RooflineFit, x: Floats, rows: Sequence[TableRow]) -> dict[str, float]:
    """Return the median errors of the plain formula over the rows that it was fitted to."""
    modelled = fit.modelled(x)
    found = {}
    for gpu in fit.gpu_names:
        at = [i for i, row in enumerate(rows) if row.run.gpu.name == gpu and row.run.fitted]
        tps = np.array([rows[i].run.output_tps for i in at])
        draw = np.array([rows[i].run.draw_w for i in at])
        found[f"{gpu}_tps_error"] = float(np.median(np.abs(modelled.output_tps[at] / tps - 1)))
        found[f"{gpu}_draw_error"] = float(np.median(np.abs(modelled.draw_w[at] / draw - 1)))
    return found


def a100_error(path: Path, curve: ClockCurve) -> float:
    """Return the median error of the rate under a power limit, on another GPU than the fit's.

    The workload computes for a share of its time at full clock, which is fitted (one number);
    the clock of each power limit follows from the curve and the draw without a limit.
    """
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["Workload"] == "infer_llama_8b"]
    draws = np.array([float(row["power per GPU"]) for row in rows])
    rates = np.array([float(row["normalized throughput"]) for row in rows])
    a100 = read_gpu_spec("a100")
    usable = draws >= 0.4 * draws.max()

    def rate(clock: float, computing: float) -> float:
        return 1.0 / (computing / clock + (1 - computing) * curve.streaming(clock))

    def draw_w(clock: float, computing: float) -> float:
        v2 = curve.voltage(clock) ** 2
        work_w = draws.max() - a100.bare_w - a100.context_w
        return float(a100.bare_w + v2 * (a100.context_w + work_w * rate(clock, computing)))

    def errors(computing: float) -> Floats:
        clocks = [brentq(lambda c, w=w: draw_w(c, computing) - w, 0.05, 1.0) for w in draws - 1e-6]
        modelled = np.array([rate(c, computing) for c in clocks])
        found: Floats = np.abs(modelled / rates - 1)[usable]
        return found

    best = minimize_scalar(lambda c: errors(c).sum(), bounds=(0.0, 1.0), method="bounded")
    return float(np.median(errors(float(best.x))))


def show(fit: RooflineFit, x: Floats, errors: Floats, results: dict[str, float]) -> None:
    """Print the tables for people."""
    table = Table(title="Coefficients of the energy roofline")
    for heading in ("coefficient", *fit.gpu_names, "relative error"):
        table.add_column(heading)
    sets = [fit.coefficients(x, number) for number in range(len(fit.gpu_names))]
    for number, name in enumerate(fit.names):
        values = [f"{values[name]:.3g}" for values in sets]
        table.add_row(name, *values, f"{errors[number]:.0%}")
    console = Console(width=100)
    console.print(table)
    for name, value in results.items():
        console.print(f"{name}: {value:.3f}")


def document(results: dict[str, float]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    packages = {name: version(name) for name in ("numpy", "scipy")}
    return {
        "bench": "fit_roofline",
        "commit": source_commit(),
        "hardware": f"{platform.machine()}; fitted: public measurements of H100, H200, B200, V100",
        "versions": {"python": platform.python_version(), **packages},
        "results": results,
        "targets": [],
    }


if __name__ == "__main__":
    main()
