from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.errors import ConfigError
from steppe.roofline.files import read_calibration, read_gpu_spec, read_roofline
from steppe.roofline.hardware import ClockCurve

CURVE = ClockCurve(0.8, 0.6, 0.9, per_error=(0.05, -0.02, 0.03))
CURVES = read_calibration().curves


def test_voltage_and_streaming_are_one_at_the_highest_clock() -> None:
    for curve in (CURVE, *CURVES.values()):
        assert curve.voltage(1.0) == pytest.approx(1.0)
        assert curve.streaming(1.0) == pytest.approx(1.0)
        assert curve.voltage(0.1) == pytest.approx(curve.voltage_floor, rel=0.01)


@given(errors=st.floats(-20, 20), clock=st.floats(0.1, 1.0))
def test_a_shifted_curve_is_a_curve(errors: float, clock: float) -> None:
    for curve in (CURVE, *CURVES.values()):
        shifted = curve.shifted(errors)
        assert 0 < shifted.voltage(clock) <= 1.0 + 1e-9
        assert shifted.streaming(clock) >= 1.0 - 1e-9


@pytest.mark.parametrize("name", sorted(CURVES))
def test_a_lower_curve_has_less_voltage_and_streams_faster(name: str) -> None:
    nominal = CURVES[name]
    low, high = nominal.shifted(-1.0), nominal.shifted(1.0)
    assert nominal.shifted(0.0) == nominal
    assert low.voltage(0.6) < nominal.voltage(0.6) < high.voltage(0.6)
    assert low.streaming(0.6) < nominal.streaming(0.6) < high.streaming(0.6)


def test_low_clocks_save_more_by_the_lower_curve() -> None:
    joules = [
        read_roofline("llama-3.1-8b", "h100", 1, clock_curve=name).point(1095, 64, 1000, 200)
        for name in ("low", "nominal", "high")
    ]
    energies = [point.joules_per_token for point in joules]
    assert energies == sorted(energies)
    assert energies[0] < 0.99 * energies[2]


def test_the_curves_agree_at_the_highest_clock() -> None:
    low, high = (
        read_roofline("llama-3.1-8b", "h100", 1, clock_curve=name).point(1980, 8, 500, 500)
        for name in ("low", "high")
    )
    assert low.draw_w == pytest.approx(high.draw_w, rel=0.01)
    assert low.output_tps == pytest.approx(high.output_tps, rel=0.01)


def test_memory_of_an_h100_streams_on_where_that_of_a_v100_slows_down() -> None:
    assert CURVES["h100"].streaming(0.6) < 1.1
    assert CURVES["v100"].streaming(0.6) > 1.3


def test_a_gpu_names_its_curve_or_has_that_of_its_coefficients() -> None:
    known = read_calibration()
    assert known.curve_of(read_gpu_spec("a100")) == known.curves["v100"]
    assert known.curve_of(read_gpu_spec("h200")) == known.curves["h100"]
    unknown = replace(read_gpu_spec("h100"), clock_curve="z900")
    with pytest.raises(ConfigError, match="clock_curve: asked for z900, found b200, h100, v100"):
        known.curve_of(unknown)
