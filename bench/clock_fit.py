"""Fit how time and draw follow the SM clock.

One curve for each generation: `v100` from GridPilot's sweep of clock and power limits, `h100` and
`b200` from the rows of `clock_sweeps`. A fit minimises the relative errors of draw and rate over
their standard errors; its covariance gives those of the three numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from clock_sweeps import ROWS, ClockRow
from steppe.errors import TraceError
from steppe.roofline.files import read_gpu_spec
from steppe.roofline.hardware import ClockCurve, GpuSpec
from steppe.roofline.residual_model import Floats
from steppe.roofline.step_law import MEMORY_CHIP_SHARE

LOWEST = 0.6
"""Share of the highest clock below which the fit does not look: at 405 of 1380 MHz a V100 does
its work half as fast as its clock would allow, for a reason that the sweep does not show. Its next
clock is 0.69."""
MIDDLE = 0.6
"""Share of the highest clock whose voltage the interval of a curve is about: fleets that are short
of power run there."""
RATE_ERROR = 0.02
"""Standard error of a row's rate, relative: a kernel's launch slows down too, and the shapes
differ by as much."""
BUSY_SHARE = 0.01
"""What a busy GPU draws beyond its context, share of the power limit: as fitted (`busy`)."""
PRIOR, PRIOR_SPREAD = (0.75, 0.5), (0.15, 0.25)
"""Voltage floor and knee of any GPU, and how far they may be off; they decide where a generation
was measured at two clocks only."""


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One cell of a sweep.

    Attributes:
        workload: What ran.
        clock: Mean SM clock, share of the highest.
        rate: Work per second, share of the workload's highest.
        draw_w: Mean draw, W.
    """

    workload: str
    clock: float
    rate: float
    draw_w: float


@dataclass(frozen=True, slots=True)
class ClockFit:
    """A fitted curve.

    Attributes:
        curve: The curve, with its change for one standard error.
        errors: Standard errors of its three numbers, in their order.
        voltage_error: Standard error of the voltage at 0.6 of the highest clock.
        draw_error: Median relative error of the draw.
        rate_error: Median relative error of the rate of the memory-bound workload.
    """

    curve: ClockCurve
    errors: tuple[float, float, float]
    voltage_error: float
    draw_error: float
    rate_error: float


def read_clock_sweep(path: Path) -> list[SweepCell]:
    """Read GridPilot's sweep of a V100 (`E1_power_cap_sweep__summary_table.csv`).

    Raises:
        TraceError: The file is missing or lacks a column.
    """
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        top_mhz = max(float(row["sm_mean_mhz"]) for row in rows)
        best: dict[str, float] = {}
        for row in rows:
            best[row["workload"]] = max(best.get(row["workload"], 0.0), float(row["iters_per_s"]))
        return [
            SweepCell(
                row["workload"],
                float(row["sm_mean_mhz"]) / top_mhz,
                float(row["iters_per_s"]) / best[row["workload"]],
                float(row["power_mean_w"]),
            )
            for row in rows
        ]
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise TraceError(f"{path}: not a sweep: {error}") from error


def fit_clock_curve(cells: Sequence[SweepCell], streaming: str, bare_w: float) -> ClockFit:
    """Fit `bare_w + v^2 (standing + work rate)` to the draw, and the slowdown of memory.

    Args:
        cells: The sweep.
        streaming: Its workload that waits for memory only.
        bare_w: Draw that no clock changes, W.
    """
    used = [cell for cell in cells if cell.clock >= LOWEST]
    names = sorted({cell.workload for cell in used})
    which = np.array([names.index(cell.workload) for cell in used])
    clock = np.array([cell.clock for cell in used])
    rate = np.array([cell.rate for cell in used])
    draw_w = np.array([cell.draw_w for cell in used])
    memory = which == names.index(streaming)

    def errors(x: Floats) -> Floats:
        curve = ClockCurve(*x[:3])
        volts = np.array([curve.voltage(c) for c in clock])
        standing, work = x[3 : 3 + len(names)][which], x[3 + len(names) :][which]
        draw = np.log((bare_w + volts**2 * (standing + work * rate)) / draw_w)
        slower = np.array([curve.streaming(c) for c in clock])
        return np.concatenate([draw, -np.log(slower * rate)[memory]])

    start = np.array([0.8, 0.6, 0.9] + [20.0] * len(names) + [150.0] * len(names))
    low = np.array([0.4, 0.2, 0.3] + [0.0] * (2 * len(names)))
    high = np.array([0.99, 0.9, 2.0] + [400.0] * (2 * len(names)))
    found = least_squares(errors, start, bounds=(low, high))
    degrees_of_freedom = found.jac.shape[0] - found.jac.shape[1]
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * 2 * found.cost / degrees_of_freedom
    draws, rates = found.fun[: len(used)], found.fun[len(used) :]
    return _clock_fit(found.x, covariance, draws, rates)


class RowsFit:
    """Measured rows of GPUs that share a curve, and their fit.

    The draw is that of `StepLaw.draw`: the standing draw and the work fall with the square of the
    voltage, but for what the memory chips draw of the streaming. Unknown are the three numbers, the
    energy of each workload's work, and the error that each source's rows share.

    Args:
        rows: The rows.
    """

    def __init__(self, rows: Sequence[ClockRow]) -> None:
        self.rows = tuple(rows)
        specs = {row.gpu: read_gpu_spec(row.gpu) for row in rows}
        workloads = sorted({(row.gpu, row.workload) for row in rows})
        self._sources = sorted({row.source.name for row in rows})
        self._shared = np.array([_shared_error(rows, name) for name in self._sources])
        self._source = np.array([self._sources.index(row.source.name) for row in rows])
        self._workload = np.array([workloads.index((row.gpu, row.workload)) for row in rows])
        best = [max(r.rate for r in rows if (r.gpu, r.workload) == key) for key in workloads]
        self._clock = np.array([row.clock_mhz / specs[row.gpu].highest_mhz for row in rows])
        self._rate = np.array([row.rate for row in rows]) / np.array(best)[self._workload]
        self._draw_w = np.array([row.draw_w for row in rows])
        self._draw_error = np.array([row.source.draw_error for row in rows])
        self._bare_w = np.array([specs[row.gpu].bare_w for row in rows])
        self._standing_w = np.array([_standing_w(specs[row.gpu]) for row in rows])
        self._chips = MEMORY_CHIP_SHARE * np.array([row.streamed for row in rows])
        self._slowed = np.array([row.is_streaming for row in rows]) & (self._rate < 1.0)
        self._workloads = len(workloads)

    def fit(self) -> ClockFit:
        """Return the curve that fits best."""
        sources = len(self._sources)
        start = np.array([*PRIOR, 0.5] + [0.0] * sources + [6.0] * self._workloads)
        low = np.array([0.3, 0.0, 0.05] + [-1.0] * sources + [3.0] * self._workloads)
        high = np.array([0.99, 0.9, 2.0] + [1.0] * sources + [8.0] * self._workloads)
        found = least_squares(self._errors, start, bounds=(low, high))
        freedom = len(self.rows) + int(self._slowed.sum()) - self._workloads - 3
        scale = max(1.0, 2 * found.cost / freedom)
        covariance = np.linalg.inv(found.jac.T @ found.jac) * scale
        count = len(self.rows)
        draws = found.fun[:count] * self._draw_error
        rates = found.fun[count : count + int(self._slowed.sum())] * RATE_ERROR
        return _clock_fit(found.x, covariance, draws, rates)

    def _errors(self, x: Floats) -> Floats:
        curve, sources = ClockCurve(*x[:3].tolist()), len(self._sources)
        shared, work_w = x[3 : 3 + sources], np.exp(x[3 + sources :])[self._workload]
        v2 = np.array([curve.voltage(clock) for clock in self._clock.tolist()]) ** 2
        chips = self._chips + (1.0 - self._chips) * v2
        draw_w = self._bare_w + v2 * self._standing_w + work_w * self._rate * chips
        off = shared[self._source] * (1.0 - self._clock) / (1.0 - MIDDLE)
        draw = (np.log(draw_w / self._draw_w) + off) / self._draw_error
        slower = np.array([curve.streaming(clock) for clock in self._clock[self._slowed].tolist()])
        rate = np.log(slower * self._rate[self._slowed]) / RATE_ERROR
        prior = (x[:2] - np.array(PRIOR)) / np.array(PRIOR_SPREAD)
        return np.concatenate([draw, rate, shared / self._shared, prior])


def _shared_error(rows: Sequence[ClockRow], name: str) -> float:
    return next(row.source.shared_error for row in rows if row.source.name == name)


def _standing_w(gpu: GpuSpec) -> float:
    return gpu.context_w + BUSY_SHARE * gpu.power_limit_w


def _clock_fit(x: Floats, covariance: Floats, draws: Floats, rates: Floats) -> ClockFit:
    """Return a fit, and how its numbers change with the voltage at the middle clock."""
    (low, turn, memory), of_numbers = x[:3].tolist(), covariance[:3, :3]
    slope = np.array([*_voltage_slopes(ClockCurve(low, turn, memory)), 0.0])
    voltage_error = float(np.sqrt(slope @ of_numbers @ slope))
    floor, knee, _ = (of_numbers @ slope / voltage_error).tolist()
    errors = np.sqrt(np.diag(of_numbers)).tolist()
    return ClockFit(
        curve=ClockCurve(low, turn, memory, per_error=(floor, knee, errors[2])),
        errors=(errors[0], errors[1], errors[2]),
        voltage_error=voltage_error,
        draw_error=float(np.median(np.abs(draws))),
        rate_error=float(np.median(np.abs(rates))),
    )


def _voltage_slopes(curve: ClockCurve, step: float = 1e-4) -> tuple[float, float]:
    """Return how the voltage at the middle clock follows floor and knee."""
    now = curve.voltage(MIDDLE)
    floor = replace(curve, voltage_floor=curve.voltage_floor + step).voltage(MIDDLE)
    knee = replace(curve, voltage_knee=curve.voltage_knee + step).voltage(MIDDLE)
    return (floor - now) / step, (knee - now) / step


def fit_clocks(sweep: Path) -> dict[str, ClockFit]:
    """Return the clock curve of each generation.

    Args:
        sweep: GridPilot's sweep of a V100.

    Raises:
        TraceError: The sweep is missing or lacks a column.
    """
    bare_w = read_gpu_spec("v100").bare_w
    return {
        "b200": RowsFit([row for row in ROWS if row.gpu == "b200"]).fit(),
        "h100": RowsFit([row for row in ROWS if row.gpu in ("h100", "h200")]).fit(),
        "v100": fit_clock_curve(read_clock_sweep(sweep), "inference_memory_bound", bare_w),
    }
