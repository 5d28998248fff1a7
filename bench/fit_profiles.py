"""How far are the emulated GPUs from the power that real ones drew?

Fits the power model of `steppe.emulator` (model.c) to public measurements, and prints the
constants for profiles.c and the error of each fit. A test asks the emulated library itself, with
the constants that are committed, for every cell. Run it as

    python bench/fit_profiles.py ../shared/data/calibration

The model is that of `power_curve`. Loads of the V100: work per cycle and
work per second of the measured iterations, relative to the largest. Elsewhere the two-stage pace
of `coupling.Pace`: a step streams the weights (w seconds, whatever the clock) and then computes
(d n / s seconds for n sequences at the relative clock s), so the memory load is w / (w + d n / s)
and the core load the rest; w and d come from the measured token latency against batch.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import optimize

from power_curve import FixedLoad, Floats, Load, PacedLoad, PowerCurve
from steppe.measure.provenance import source_commit

Row = dict[str, str]

DEFAULT_DATA = Path("../shared/data/calibration")
# Lowest and highest clock, MHz, and degrees per watt, as in profiles.c.
FIXED = {"v100": (135.0, 1530.0, 0.12), "a100": (210.0, 1410.0, 0.08)}
FIXED |= {"h100": (210.0, 1980.0, 0.06), "b200": (120.0, 1965.0, 0.045)}
# Given, not fitted; profiles.c says from where, or that it is illustrative. Idle, context, W.
A100_DECODE_W = 290.0
IDLE_W = {"a100": (60.0, 22.0), "h100": (70.0, 50.0), "b200": (140.0, 60.0)}
MEM_W = {"a100": 110.0, "h100": 150.0, "b200": 240.0}
KNEE = {"h100": (1200.0, 0.70), "b200": (1100.0, 0.70)}
# Host-bound small models leave a B200 waiting; their watts say nothing about the GPU.
LEAST_PARAMETERS_B = {"h100": 0.0, "b200": 30.0}
# Where a rising batch draws no more: just below the board power limit.
LIMIT_W = {"h100": 690.0, "b200": 965.0}


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured operating point.

    Attributes:
        name: Workload.
        load: What ran.
        clock_mhz: Clock limit, MHz.
        limit_w: Board power limit, W.
        measured_w: Mean power, W.
        busy: Share of the time in which it ran; a context idled in the rest.
    """

    name: str
    load: Load
    clock_mhz: float
    limit_w: float
    measured_w: float
    busy: float = 1.0

    def predicted_w(self, curve: PowerCurve) -> float:
        """Return the mean power under the model, W."""
        run_w, _ = curve.settled(self.load, self.clock_mhz, self.limit_w)
        return self.busy * run_w + (1 - self.busy) * curve.context_only_w(self.clock_mhz)


def read(path: Path) -> list[Row]:
    """Read a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def v100_cells(folder: Path) -> list[Cell]:
    """Return the 36 cells of the sweep, and three plateaus of the step response."""
    rows = read(folder / "gridpilot_v100" / "E1_power_cap_sweep__summary_table.csv")
    measured = {
        (row["workload"], float(row["sm_target_mhz"])): float(row["iters_per_s"])
        for row in rows
        if row["pcap_w"] == "300"
    }
    cells = []
    for row in rows:
        name, clock_mhz = row["workload"], float(row["sm_target_mhz"])
        rates = {mhz: rate for (work, mhz), rate in measured.items() if work == name}
        per_cycle = {mhz: rate / mhz for mhz, rate in rates.items()}
        most_mem = 1.0 if name == "inference_memory_bound" else 0.2
        core = per_cycle[clock_mhz] / max(per_cycle.values())
        mem = most_mem * rates[clock_mhz] / max(rates.values())
        busy = float(row["util_gpu_mean"]) if name.startswith("bursty") else 1.0
        limit_w, power_w = float(row["pcap_w"]), float(row["power_mean_w"])
        cells.append(Cell(name, FixedLoad(core, mem), clock_mhz, limit_w, power_w, busy))
    full, nothing = FixedLoad(1.0, 0.2), FixedLoad(0.0, 0.0)
    return [
        *cells,
        Cell("matmul, step response", full, 1530, 300, 277.0),
        Cell("context at 1530 MHz", nothing, 1530, 300, 83.3, busy=0.0),
        Cell("context at 735 MHz", nothing, 735, 300, 56.1, busy=0.0),
    ]


def a100_cells(rows: Sequence[Row], loads: dict[str, PacedLoad]) -> list[Cell]:
    """Return the cells of the cap sweep."""
    cells = []
    for row in rows:
        limit_w, power_w = float(row["GPU power cap"]), float(row["power per GPU"])
        cells.append(Cell(row["Workload"], loads[row["Workload"]], 1410, limit_w, power_w))
    return [*cells, Cell("decode", PacedLoad(0.1, 0.9), 1410, 400, A100_DECODE_W)]


def a100_rows(folder: Path) -> list[Row]:
    """Return the sweep without the two rows that repeat another at a larger scale."""
    repeated = {"infer_llama_8b_32g", "infer_llama_8b_48g"}
    rows = read(folder / "emerald_phoenix" / "dvfs_sweep.csv")
    return [row for row in rows if row["Workload"] not in repeated]


def batch_cells(folder: Path, gpu: str) -> list[Cell]:
    """Return power against batch of the dense bfloat16 models; w and d from their latency."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in read(folder / "mlenergy" / "llm_text_h100_b200.csv"):
        is_dense = row["total_params_billions"] == row["activated_params_billions"]
        is_large = float(row["total_params_billions"]) >= LEAST_PARAMETERS_B[gpu]
        is_chat = row["task"] == "lm-arena-chat" and row["weight_precision"] == "bfloat16"
        if row["gpu_model"] == gpu.upper() and is_dense and is_large and is_chat:
            groups[row["model_id"], row["num_gpus"]].append(row)
    cells = []
    for (model, count), rows in groups.items():
        batch = np.array([float(row["avg_batch_size"]) for row in rows])
        step_s = np.array([float(row["median_itl_ms"]) for row in rows]) * 1e-3
        design = np.stack([np.ones_like(batch), batch], 1) / step_s[:, None]
        (weights_s, decode_s), _ = optimize.nnls(design, np.ones_like(batch))
        for row, n in zip(rows, batch, strict=True):
            core = decode_s * n / (weights_s + decode_s * n)
            name = f"{model} x{count} batch {n:.0f}"
            power_w = float(row["avg_power_per_gpu_w"])
            load = PacedLoad(core, 1 - core)
            cells.append(Cell(name, load, FIXED[gpu][1], LIMIT_W[gpu], power_w))
    return cells


def solve(miss: Callable[[Floats], Floats], starts: Sequence[Sequence[float]], bounds: Any) -> Any:
    """Return the best least-squares solution over several starts."""
    options: Any = {"bounds": bounds, "diff_step": 1e-3}
    found = [optimize.least_squares(miss, x0, x_scale=x0, **options) for x0 in starts]
    return min(found, key=lambda fit: fit.cost).x


def off(cells: Sequence[Cell], curve: PowerCurve) -> Floats:
    """Return the relative errors of the model."""
    return np.array([cell.predicted_w(curve) / cell.measured_w - 1 for cell in cells])


def fit_v100(folder: Path) -> tuple[PowerCurve, list[Cell]]:
    """Fit all seven constants; idle power is kept to what V100s idle at (33 to 45 W)."""
    cells = v100_cells(folder)
    low, high = [33, 5, 5, 50, 5, 300, 0.4], [45, 60, 80, 400, 200, 1350, 0.95]
    starts = [[36, 40, 30, 200, 50, knee_mhz, 0.6] for knee_mhz in (500, 800, 1100)]
    best = solve(lambda x: off(cells, PowerCurve(*FIXED["v100"], *x)), starts, (low, high))
    return PowerCurve(*FIXED["v100"], *best), cells


def fit_a100(folder: Path) -> tuple[PowerCurve, list[Cell], Floats]:
    """Fit to power and throughput against the power limit; return the throughput error too."""
    rows = a100_rows(folder)
    n = len(names := sorted({row["Workload"] for row in rows}))

    def unpack(x: Floats) -> tuple[PowerCurve, list[Cell], Floats]:
        shares = zip(names, x[4 : 4 + n], x[4 + n :], strict=True)
        loads = {name: PacedLoad(busy * (1 - mem), busy * mem) for name, mem, busy in shares}
        watts = (*IDLE_W["a100"], *x[:2], MEM_W["a100"])
        curve = PowerCurve(*FIXED["a100"], *watts, *x[2:4])
        return curve, a100_cells(rows, loads), rate_errors(rows, loads, curve)

    def miss(x: Floats) -> Floats:
        curve, cells, rates = unpack(x)
        weight = np.array([*np.ones(len(rows)), 3.0])
        return np.concatenate([off(cells, curve) * weight, rates])

    low = [5, 50, 250, 0.35] + [0.001] * n + [0.6] * n
    high = [220, 600, 1350, 0.98] + [0.7] * n + [1.0] * n
    starts = [[70, 320, knee, 0.55] + [0.3] * n + [0.9] * n for knee in (350, 450, 600)]
    return unpack(solve(miss, starts, (low, high)))


def rate_errors(rows: Sequence[Row], loads: dict[str, PacedLoad], curve: PowerCurve) -> Floats:
    """Return the relative errors of the throughput under each power limit."""
    found = []
    for row in rows:
        load = loads[row["Workload"]]
        _, clock_mhz = curve.settled(load, curve.max_mhz, float(row["GPU power cap"]))
        found.append(load.rate_at(clock_mhz / curve.max_mhz) / float(row["normalized throughput"]))
    return np.array(found) - 1


def fit_batch(folder: Path, gpu: str) -> tuple[PowerCurve, list[Cell]]:
    """Fit what is drawn at the full clock whatever runs, and what computing adds."""
    cells = batch_cells(folder, gpu)

    def curve(x: Floats) -> PowerCurve:
        return PowerCurve(*FIXED[gpu], *IDLE_W[gpu], x[0], x[1], MEM_W[gpu], *KNEE[gpu])

    best = solve(lambda x: off(cells, curve(x)), [[200, 500]], ([5, 50], [1500, 2000]))
    return curve(best), cells


def lag(folder: Path, begin_s: float, end_s: float) -> tuple[float, float]:
    """Return the time constant of a power step, s, and the rms error of the exponential, W."""
    rows = read(folder / "gridpilot_v100" / "E2_inner_loop__telemetry.csv")
    points = np.array([(float(row["t_s"]), float(row["power_w"])) for row in rows])
    points = points[(points[:, 0] >= begin_s) & (points[:, 0] <= end_s)]
    since_s, power_w = points[:, 0] - begin_s, points[:, 1]
    settled_w = power_w[since_s > since_s[-1] / 2].mean()

    def miss(x: Floats) -> Floats:
        step_w = (power_w[0] - settled_w) * np.exp(-since_s / x[0])
        return np.asarray(settled_w + step_w - power_w)

    found = optimize.least_squares(miss, [0.1], bounds=([0.005], [1.0]))
    return float(found.x[0]), float(np.sqrt(np.mean(found.fun**2)))


def summary(fitted: PowerCurve, errors: Floats) -> dict[str, Any]:
    """Return the constants of one profile, with their error."""
    wrong = np.abs(errors)
    return {
        "constants": {name: round(float(value), 3) for name, value in asdict(fitted).items()},
        "cells": len(wrong),
        "median_error": float(np.median(wrong)),
        "max_error": float(wrong.max()),
    }


def fit_all(folder: Path) -> dict[str, Any]:
    """Return the fit of every profile that there are measurements of."""
    v100, v100_points = fit_v100(folder)
    a100, a100_points, rates = fit_a100(folder)
    results = {
        "v100": summary(v100, off(v100_points, v100)),
        "a100": summary(a100, off(a100_points, a100)),
    }
    results["a100"]["max_throughput_error"] = float(np.abs(rates).max())
    for name, (begin_s, end_s) in {"down": (9.973, 10.4), "up": (20.1, 20.9)}.items():
        tau_s, rms_w = lag(folder, begin_s, end_s)
        results["v100"][f"limit_{name}"] = {"tau_s": tau_s, "rms_w": rms_w}
    for gpu in ("h100", "b200"):
        fitted, points = fit_batch(folder, gpu)
        results[gpu] = summary(fitted, off(points, fitted))
    return results


def show(results: dict[str, Any]) -> None:
    """Print the table for people."""
    names = list(results["v100"]["constants"])[3:]
    title = "Power model fitted to public measurements"
    table = Table("GPU", *names, "cells", "median", "max", title=title)
    for gpu, row in results.items():
        shown = [f"{row['constants'][name]:.4g}" for name in names]
        errors = [f"{row[key]:.1%}" for key in ("median_error", "max_error")]
        table.add_row(gpu, *shown, str(row["cells"]), *errors)
    Console(width=130).print(table)


def document(results: dict[str, Any]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark; no target is set for these errors."""
    return {
        "bench": "fit_profiles",
        "commit": source_commit(),
        "hardware": f"none: public measurements, fitted on {platform.machine()}",
        "versions": {"python": platform.python_version(), "scipy": version("scipy")},
        "results": results,
        "targets": [],
    }


def main() -> None:
    """Fit, print a table, and then one JSON document."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_DATA
    if not folder.is_dir():
        print(f"nothing to fit: {folder} is absent")
        return
    results = fit_all(folder)
    show(results)
    print(json.dumps(document(results)))


if __name__ == "__main__":
    main()
