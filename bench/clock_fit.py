"""Fit how time and draw follow the SM clock, from a sweep of clock and power limits."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from steppe.errors import TraceError
from steppe.roofline.hardware import ClockCurve
from steppe.roofline.residual_model import Floats

LOWEST = 0.6
"""Share of the highest clock below which the fit does not look: at 405 of 1380 MHz a V100 does
its work half as fast as its clock would allow, for a reason that the sweep does not show. Its next
clock is 0.69."""


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
        curve: The curve.
        errors: Standard errors of its three numbers, in their order.
        draw_error: Median relative error of the draw.
        rate_error: Median relative error of the rate of the memory-bound workload.
    """

    curve: ClockCurve
    errors: tuple[float, float, float]
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
    deviations = _deviations(found.jac, found.cost)
    return ClockFit(
        curve=ClockCurve(*found.x[:3].tolist()),
        errors=(deviations[0], deviations[1], deviations[2]),
        draw_error=float(np.median(np.abs(found.fun[: len(used)]))),
        rate_error=float(np.median(np.abs(found.fun[len(used) :]))),
    )


def _deviations(jacobian: Floats, cost: float) -> list[float]:
    """Return the standard errors of fitted numbers."""
    degrees_of_freedom = jacobian.shape[0] - jacobian.shape[1]
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * 2 * cost / degrees_of_freedom
    deviations: list[float] = np.sqrt(np.diag(covariance)).tolist()
    return deviations
