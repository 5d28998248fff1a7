from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clock_fit import MIDDLE, RowsFit, SweepCell, fit_clock_curve, fit_clocks
from clock_sweeps import ROWS, ClockRow, Source
from steppe.roofline.files import read_calibration, read_gpu_spec
from steppe.roofline.hardware import ClockCurve
from steppe.roofline.step_law import MEMORY_CHIP_SHARE

DATA = Path(__file__).parents[3] / "shared" / "data" / "calibration"
SWEEP = DATA / "gridpilot_v100" / "E1_power_cap_sweep__summary_table.csv"
SOURCE = Source("made up", "nowhere", draw_error=0.01, shared_error=0.01)
H100 = read_gpu_spec("h100")


def test_a_clock_curve_is_found_again() -> None:
    true = ClockCurve(0.8, 0.62, 0.9)
    cells = []
    for clock in np.linspace(0.62, 1.0, 12).tolist():
        volts = true.voltage(clock)
        for name, rate in (("streams", 1 / true.streaming(clock)), ("computes", clock)):
            cells.append(SweepCell(name, clock, rate, 40 + volts**2 * (15 + 150 * rate)))
    found = fit_clock_curve(cells, "streams", 40.0)
    assert found.curve.memory_knee == pytest.approx(0.9, rel=0.01)
    assert found.draw_error < 0.002
    for clock in (0.7, 0.85, 1.0):
        assert found.curve.voltage(clock) == pytest.approx(true.voltage(clock), rel=0.02)


def _rows(true: ClockCurve, draw: float = 1.0) -> list[ClockRow]:
    """Return rows of an H100 with this curve; below the highest clock it draws so much more."""
    rows = []
    for workload, streamed, work_w in (("streams", 1.0, 400.0), ("computes", 0.0, 900.0)):
        for clock in (0.45, 0.6, 0.75, 0.9, 1.0):
            rate = 1 / true.streaming(clock) if streamed else clock
            v2, chips = true.voltage(clock) ** 2, MEMORY_CHIP_SHARE * streamed
            standing_w = H100.context_w + 0.01 * H100.power_limit_w
            draw_w = H100.bare_w + v2 * standing_w + work_w * rate * (chips + (1 - chips) * v2)
            draw_w *= 1 + (draw - 1) * (1 - clock) / 0.4
            mhz = clock * H100.highest_mhz
            rows.append(
                ClockRow(SOURCE, "h100", workload, mhz, rate, draw_w, streamed, streamed > 0)
            )
    return rows


@pytest.mark.parametrize("true", [ClockCurve(0.7, 0.3, 0.45), ClockCurve(0.8, 0.5, 0.8)])
def test_rows_give_the_curve_that_made_them(true: ClockCurve) -> None:
    found = RowsFit(_rows(true)).fit()
    for clock in (0.5, 0.6, 0.8):
        assert found.curve.voltage(clock) == pytest.approx(true.voltage(clock), abs=0.02)
        assert found.curve.streaming(clock) == pytest.approx(true.streaming(clock), rel=0.03)
    assert abs(found.curve.voltage(MIDDLE) - true.voltage(MIDDLE)) < found.voltage_error


def test_the_error_that_a_source_shares_is_within_the_interval() -> None:
    true = ClockCurve(0.7, 0.3, 0.45)
    rows = [replace(r, source=replace(SOURCE, shared_error=0.05)) for r in _rows(true, draw=1.04)]
    found = RowsFit(rows).fit()
    assert found.voltage_error > 2 * RowsFit(_rows(true)).fit().voltage_error
    low, high = (found.curve.shifted(errors).voltage(MIDDLE) for errors in (-1.5, 1.5))
    assert low < true.voltage(MIDDLE) < high


def test_one_standard_error_moves_the_middle_voltage_by_its_error() -> None:
    found = RowsFit([row for row in ROWS if row.gpu == "h100"]).fit()
    middle = found.curve.voltage(MIDDLE)
    for errors in (-1.0, 1.0):
        moved = found.curve.shifted(errors).voltage(MIDDLE) - middle
        assert moved == pytest.approx(errors * found.voltage_error, rel=0.25)


def test_every_row_names_where_it_comes_from() -> None:
    for row in ROWS:
        assert row.source.where
        assert row.rate > 0
        assert row.draw_w > 0
        assert row.clock_mhz <= read_gpu_spec(row.gpu).highest_mhz


@pytest.mark.skipif(not DATA.is_dir(), reason="the public tables are not here")
def test_the_shipped_curves_are_those_of_the_fit() -> None:
    shipped = read_calibration().curves
    for name, found in fit_clocks(SWEEP).items():
        assert found.curve.voltage_floor == pytest.approx(shipped[name].voltage_floor, rel=1e-3)
        assert found.curve.memory_knee == pytest.approx(shipped[name].memory_knee, rel=1e-3)
        assert found.curve.per_error == pytest.approx(shipped[name].per_error, rel=0.01, abs=1e-4)
