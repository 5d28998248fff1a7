from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.serving import FORMULAS, LoadEnergy, Slice, energy_keys, slices_of

SUMMARY = {
    "duration": 10.0,
    "completed": 5,
    "total_output_tokens": 500,
    "total_input_tokens": 1500,
    "mean_e2el_ms": 2000.0,
    "request_throughput": 0.5,
    "output_throughput": 50.0,
    "request_goodput": 0.4,
}
ENERGY = LoadEnergy(1000.0, 5.0, tuple(Slice(2.0, 200.0, 100.0 + i) for i in (-2, -1, 0, 1, 2)))


def test_every_energy_key_follows_its_formula() -> None:
    found = energy_keys(SUMMARY, ENERGY, 4)
    assert found["total_gpu_energy"] == 1000.0
    assert found["average_gpu_power"] == 100.0
    assert found["output_tokens_per_joule"] == 0.5
    assert found["energy_per_output_token"] == 2.0
    assert found["energy_per_total_token"] == 0.5
    assert found["energy_per_request"] == 200.0
    assert found["energy_per_user"] == 250.0
    assert found["energy_delay_product"] == 400.0
    assert found["performance_per_watt"] == 0.005
    assert found["output_tps_per_watt"] == 0.5
    assert found["goodput_per_watt"] == 0.004


def test_the_interval_holds_the_estimate_and_the_meters_error() -> None:
    span = energy_keys(SUMMARY, ENERGY, 4)["energy_per_output_token_interval"]
    assert isinstance(span, list)
    assert span[0] <= 2.0 - 5.0 / 500
    assert span[1] >= 2.0 + 5.0 / 500


def test_without_a_meter_every_energy_is_unknown() -> None:
    assert set(energy_keys(SUMMARY, None, 4).values()) == {None}


def test_an_error_without_a_bound_is_unknown() -> None:
    found = energy_keys(SUMMARY, replace(ENERGY, error_j=math.inf), 4)
    assert found["total_gpu_energy"] == 1000.0
    assert found["total_gpu_energy_error"] is None
    assert found["energy_per_output_token_interval"] is None


def test_an_open_loop_has_no_energy_per_user() -> None:
    assert energy_keys(SUMMARY, ENERGY, None)["energy_per_user"] is None


def test_every_energy_key_is_explained() -> None:
    unexplained = set(energy_keys(SUMMARY, ENERGY, 4)) - set(FORMULAS)
    assert unexplained == {"total_gpu_energy_error"}


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.1, 10), st.integers(1, 500)), max_size=20),
    st.lists(st.floats(0.5, 20), min_size=1, max_size=10),
)
def test_slices_add_up_to_all_tokens_and_all_joules(
    answers: list[tuple[float, float, int]], lengths: list[float]
) -> None:
    ends_s = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    ends_s[-1] = max(ends_s[-1], 101.0)
    cuts = [(at_s, 7.0 * at_s) for at_s in ends_s]
    pieces = slices_of(cuts, [(begin, begin + span, count) for begin, span, count in answers])
    assert sum(piece.energy_j for piece in pieces) == pytest.approx(7.0 * ends_s[-1])
    tokens = sum(count for _, _, count in answers)
    assert sum(piece.output_tokens for piece in pieces) == pytest.approx(tokens)
