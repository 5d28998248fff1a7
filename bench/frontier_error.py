"""How wrong is the energy roofline about a model that it was not fitted to?

Leaves out every row of one model (on both GPUs), fits the rest, and predicts the left-out rows from
the model's config.json, the GPU, the batch limit, the lengths of the task (the mean output length
of the row, and the fitted prompt length of the task), how many engines share the host and parse
their answers (`run_table.host_of`), and how many requests the run served (`requests_of`). Batch
limits 8 to 512. A second table leaves out all siblings of an architecture together.

The last table is the spread of the measurements themselves: each row against a smooth curve (a
parabola in the logarithm of the batch limit, near batch limits first) through all other rows of the
same model, task and GPUs. No prediction without these rows can be expected to be closer.

    python bench/frontier_error.py ../shared/data/calibration

With `--write` it also writes `configs/roofline/expected_error.csv`, the errors that `steppe
frontier` prints beside each point (see `expected_error_table`).

Truth: ML.ENERGY Benchmark v3 (vLLM 0.11.1 at saturation, free clocks; data card Apache-2.0). No
row is dropped from the targets. Further lines show the same without rows in which a busy host kept
the GPU waiting (see `run_table.host_bound`), and without rows that the fit may not use because a
busy host does not explain them either. The form of the roofline and the few numbers of its priors
and of the residual model were chosen with this table in view: expect somewhat larger errors
elsewhere, most of all with data-parallel attention, which only one measured model has.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from clock_fit import fit_clocks
from expected_error_table import LeftOutRun, expected_errors, write_expected_errors
from roofline_fit import RooflineFit
from run_table import TableRow, read_run_table
from steppe.measure.provenance import source_commit
from steppe.roofline.calibration import Calibration
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.expected_error import ModelKind
from targets import at_most

DEFAULT_DATA = Path("../shared/data/calibration")
TABLE = Path("configs/roofline/expected_error.csv")
SMALLEST, LARGEST = 8, 512
ENERGY_TARGET, TOKENS_TARGET, TAIL_TARGET = 0.08, 0.10, 0.20
LEAST_OTHERS, NEAR_DOUBLINGS = 3, 1.5
Group = Callable[[TableRow], str]
GROUPS: dict[str, Group] = {
    "model": lambda row: row.model_id,
    "architecture": lambda row: row.architecture,
}
Choice = Callable[[TableRow], bool]
CHOICES: dict[str, Choice] = {
    "H100, all rows": lambda row: row.run.gpu.name == "h100",
    "B200, all rows": lambda row: row.run.gpu.name == "b200",
    "B200 without host-bound": lambda row: row.run.gpu.name == "b200" and not row.host_bound,
    "B200, those fitted": lambda row: row.run.gpu.name == "b200" and row.run.fitted,
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of one row."""

    energy: float
    tokens: float


def error_of(row: TableRow, known: Calibration, prompt_tokens: Mapping[str, float]) -> Errors:
    """Return the relative errors of the roofline for a row."""
    run = row.run
    roofline = EnergyRoofline(
        run.model, run.gpu, run.gpus, known, run.host, data_parallel=run.data_parallel
    )
    modelled = roofline.point(
        run.gpu.highest_mhz,
        run.batch_limit,
        prompt_tokens[run.task],
        run.output_tokens,
        run.progress,
    )
    energy = modelled.joules_per_token / (run.draw_w / run.output_tps) - 1
    return Errors(abs(energy), abs(modelled.output_tps / run.output_tps - 1))


class LeftOut(NamedTuple):
    """Errors of every row from fits without the rows of its group.

    Attributes:
        whole: Those of the roofline as it is used.
        plain: Those of the formula without what resembling models teach.
    """

    whole: list[Errors]
    plain: list[Errors]


def left_out(fit: RooflineFit, rows: Sequence[TableRow], group: Group) -> LeftOut:
    """Return the errors of every row from a fit without the rows of its group.

    Each fit begins at the priors: one that begins at the fit of all rows knows them.
    """
    whole: dict[int, Errors] = {}
    plain: dict[int, Errors] = {}
    groups = [group(row) for row in rows]
    for name in track(sorted(set(groups)), "leaving out", console=Console(stderr=True)):
        used: NDArray[np.bool_] = np.array([g != name for g in groups])
        x = fit.fit(used)
        known, prompts = fit.calibration(x, used), fit.prompt_tokens(x)
        formula = Calibration(known.coefficients, known.curves, ())
        for i in np.flatnonzero(~used).tolist():
            whole[i], plain[i] = (error_of(rows[i], c, prompts) for c in (known, formula))
    return LeftOut(*([found[i] for i in range(len(rows))] for found in (whole, plain)))


def summary(rows: Sequence[TableRow], errors: Sequence[Errors], choice: Choice) -> dict[str, Any]:
    """Return median and 90th percentile over some of the rows, batch limit 8 to 512."""
    at = [
        i
        for i, row in enumerate(rows)
        if choice(row) and SMALLEST <= row.run.batch_limit <= LARGEST
    ]
    energy = [errors[i].energy for i in at]
    tokens = [errors[i].tokens for i in at]
    return {
        "rows": len(at),
        "joules_per_token_median": float(np.median(energy)),
        "joules_per_token_p90": float(np.quantile(energy, 0.9)),
        "output_tps_median": float(np.median(tokens)),
        "output_tps_p90": float(np.quantile(tokens, 0.9)),
    }


def _each_choice(rows: Sequence[TableRow], errors: Sequence[Errors]) -> dict[str, Any]:
    return {name: summary(rows, errors, choice) for name, choice in CHOICES.items()}


def by_model(rows: Sequence[TableRow], errors: Sequence[Errors]) -> list[dict[str, Any]]:
    """Return the medians of each model on each GPU."""
    names = sorted({(row.model_id, row.run.gpu.name) for row in rows})
    tables = []
    for model, gpu in names:

        def belongs(row: TableRow, model: str = model, gpu: str = gpu) -> bool:
            return (row.model_id, row.run.gpu.name) == (model, gpu)

        tables.append({"model": model, "gpu": gpu, **summary(rows, errors, belongs)})
    return tables


def left_out_runs(rows: Sequence[TableRow], errors: Sequence[Errors]) -> list[LeftOutRun]:
    """Return the rows that show the GPU's pace, with their errors."""
    return [
        LeftOutRun(
            model=row.model_id,
            kind=ModelKind.of(row.run.model, row.run.gpus),
            batch_limit=row.run.batch_limit,
            joules_per_token=error.energy,
            output_tps=error.tokens,
        )
        for row, error in zip(rows, errors, strict=True)
        if not row.host_bound
    ]


def own_rows(rows: Sequence[TableRow]) -> list[Errors | None]:
    """Return how far each row is from a smooth curve through its own neighbours; None: too few."""
    series: dict[tuple[str, str, str, int], list[int]] = {}
    for i, row in enumerate(rows):
        run = row.run
        series.setdefault((row.model_id, run.task, run.gpu.name, run.gpus), []).append(i)
    found: list[Errors | None] = [None] * len(rows)
    for members in series.values():
        for i in members:
            others = [j for j in members if j != i]
            if len(others) >= LEAST_OTHERS:
                found[i] = _off_the_curve(rows[i], [rows[j] for j in others])
    return found


def _off_the_curve(row: TableRow, others: Sequence[TableRow]) -> Errors:
    away = np.log2([o.run.batch_limit / row.run.batch_limit for o in others])
    near = np.exp(-0.5 * (away / NEAR_DOUBLINGS) ** 2)
    logs = np.log([(o.run.draw_w / o.run.output_tps, o.run.output_tps) for o in others])
    energy_j, tps = np.exp(np.polyfit(away, logs, 2, w=near)[-1])
    energy = energy_j / (row.run.draw_w / row.run.output_tps) - 1
    return Errors(abs(float(energy)), abs(float(tps / row.run.output_tps - 1)))


def targets(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the targets, for all rows of each GPU."""
    wanted = {
        "joules_per_token_median": ENERGY_TARGET,
        "output_tps_median": TOKENS_TARGET,
        "joules_per_token_p90": TAIL_TARGET,
        "output_tps_p90": TAIL_TARGET,
    }
    return [
        at_most(f"{gpu}, model left out: {name}", found[f"{gpu}, all rows"][name], "share", target)
        for gpu in ("H100", "B200")
        for name, target in wanted.items()
    ]


def show(title: str, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Print one table for people."""
    table = Table(title=title)
    for heading in ("rows of", "n", "J/token median", "p90", "tokens/s median", "p90"):
        table.add_column(heading)
    for name, line in lines.items():
        shares = [f"{value:.1%}" for key, value in line.items() if key.endswith(("median", "p90"))]
        table.add_row(name, str(line["rows"]), *shares)
    Console(width=110).print(table)


def measure(data: Path, table: Path | None) -> dict[str, Any]:
    """Return all tables, and write that of the expected errors to a path."""
    sweep = data / "gridpilot_v100" / "E1_power_cap_sweep__summary_table.csv"
    curves = {name: clock.curve for name, clock in fit_clocks(sweep).items()}
    rows = read_run_table(data / "mlenergy" / "llm_text_h100_b200.csv")
    fit = RooflineFit([row.run for row in rows], curves)
    results: dict[str, Any] = {}
    found = {name: left_out(fit, rows, group) for name, group in GROUPS.items()}
    for name, errors in found.items():
        results[name] = _each_choice(rows, errors.whole)
        show(f"Error with one {name} left out", results[name])
    if table is not None:
        write_expected_errors(table, expected_errors(left_out_runs(rows, found["model"].whole)))
    results["by_model"] = by_model(rows, found["model"].whole)
    lines = {f"{r['model']} {r['gpu']}": r for r in results["by_model"]}
    show("The same for each model left out, host-bound rows included", lines)
    results["formula_only"] = _each_choice(rows, found["model"].plain)
    show(
        "The formula without what resembling models teach, one model left out",
        results["formula_only"],
    )
    own = own_rows(rows)
    known = [i for i, error in enumerate(own) if error is not None]
    at, others = [rows[i] for i in known], [error for error in own if error is not None]
    results["own_rows"] = _each_choice(at, others)
    show("Each row from the other rows of the same model, task and GPUs", results["own_rows"])
    return results


def main() -> None:
    """Measure, print tables, and then one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, nargs="?", default=DEFAULT_DATA)
    parser.add_argument("--write", type=Path, nargs="?", const=TABLE, help=f"write {TABLE}")
    begun_s, arguments = time.perf_counter(), parser.parse_args()
    results = measure(arguments.data, arguments.write)
    results["took_s"] = time.perf_counter() - begun_s
    document = {
        "bench": "frontier_error",
        "commit": source_commit(),
        "hardware": f"modelled on {platform.machine()}; truth: public table of H100 and B200",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy")},
        },
        "results": results,
        "targets": targets(results["model"]),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
