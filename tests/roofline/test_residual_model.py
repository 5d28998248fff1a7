from __future__ import annotations

import math
from dataclasses import replace

import pytest

from steppe.roofline.files import read_gpu_spec, read_model_shape
from steppe.roofline.hardware import ALONE
from steppe.roofline.residual_model import (
    BATCHES,
    Context,
    Correction,
    Residual,
    ResidualModel,
    features_of,
)

CONTEXT = Context(read_model_shape("llama-3.1-8b"), read_gpu_spec("h100"), 1, 32, 600, ALONE)
OTHER = Context(read_model_shape("deepseek-v3"), read_gpu_spec("b200"), 8, 512, 9000, ALONE)


def test_the_same_model_keeps_most_of_its_residual() -> None:
    residual_model = ResidualModel.of([Residual(features_of(CONTEXT), 0.1, -0.2)])
    time, draw = residual_model.corrections([features_of(CONTEXT)])
    assert 0.06 < time[0] < 0.1
    assert -0.2 < draw[0] < -0.12


def test_a_model_unlike_all_measured_ones_keeps_the_formula() -> None:
    residual_model = ResidualModel.of([Residual(features_of(CONTEXT), 0.1, -0.2)])
    time, draw = residual_model.corrections([features_of(OTHER)])
    assert abs(time[0]) < 1e-3
    assert abs(draw[0]) < 1e-3


def test_without_residuals_the_formula_is_not_corrected() -> None:
    time, draw = ResidualModel.of([]).corrections([features_of(CONTEXT)] * 3)
    assert time.tolist() == draw.tolist() == [0.0] * 3


def _step_s(sequences: float, context_tokens: float, prompt_each: float) -> float:
    return 0.01 + 1e-4 * sequences * (1 + prompt_each) + 1e-9 * sequences * context_tokens


def test_a_corrected_larger_batch_still_yields_more_tokens() -> None:
    residuals = [
        Residual(features_of(replace(CONTEXT, batch=2.0**i)), (-1) ** i * 0.4, 0.0)
        for i in range(10)
    ]
    correction = Correction.of(ResidualModel.of(residuals), CONTEXT, _step_s)
    steps = [
        _step_s(2.0**i, 512, 0.0) * correction.factors(2.0**i, 2.0**i * 512)[0]
        for i in range(BATCHES)
    ]
    for i in range(1, BATCHES - 1):
        assert steps[i] >= 0.9999 * steps[i - 1]
        assert steps[i] / 2 < steps[i - 1]


def test_factors_are_interpolated_and_constant_beyond_the_table() -> None:
    residual = Residual(features_of(CONTEXT), 0.2, 0.1)
    correction = Correction.of(ResidualModel.of([residual]), CONTEXT, _step_s)
    low, middle, high = (correction.factors(n, n * 512)[1] for n in (32, 45, 64))
    assert min(low, high) <= middle <= max(low, high)
    assert correction.factors(0, 0) == correction.factors(1, 64)
    assert all(math.isfinite(f) for f in correction.factors(1e6, 1e12))


def test_features_differ_by_batch() -> None:
    more = replace(CONTEXT, batch=64)
    assert features_of(more)[0] - features_of(CONTEXT)[0] == pytest.approx(math.log(2) / 1.5)
