"""Looking a step up gives what the model says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.curved_model import CurvedModel

from steppe.config import PaceSection
from steppe.roofline.energy_roofline import StepWork
from steppe.sim.engine.pace_model import PaceModel, emulated_profile
from steppe.sim.engine.step_table import StepTable

FULL_MHZ = 1200
DECODES, CONTEXTS = st.integers(1, 200), st.integers(0, 20_000)


def direct(model: Any, prompt_tokens: int, decodes: int, context: int) -> tuple[float, float]:
    work = StepWork(prompt_tokens, decodes, context)
    step_s = model.step_s(work, FULL_MHZ)
    return step_s, step_s * model.step_draw_w(work, FULL_MHZ)


@given(decodes=DECODES, mean=CONTEXTS)
def test_a_decode_step_is_within_two_percent_of_a_curved_model(decodes: int, mean: int) -> None:
    context = decodes * mean + mean % decodes
    line = StepTable(CurvedModel()).decode(FULL_MHZ, decodes, context)
    assert line.start <= context < line.end
    into = context - line.start
    step_s, step_j = direct(CurvedModel(), 0, decodes, context)
    assert line.first_s + line.slope_s * into == pytest.approx(step_s, rel=0.02)
    assert line.first_j + line.slope_j * into == pytest.approx(step_j, rel=0.02)


@given(prompt=st.integers(1, 8192), decodes=st.integers(0, 200), mean=CONTEXTS)
def test_a_step_with_prompts_is_within_five_percent_of_a_curved_model(
    prompt: int, decodes: int, mean: int
) -> None:
    table, context = StepTable(CurvedModel()), decodes * mean
    found = table.mixed(FULL_MHZ, prompt, decodes, context)
    assert found == pytest.approx(direct(CurvedModel(), prompt, decodes, context), rel=0.05)


@given(prompt=st.integers(1, 8192), decodes=st.integers(1, 200), mean=CONTEXTS)
def test_the_emulated_pace_is_exact(prompt: int, decodes: int, mean: int) -> None:
    model = PaceModel(emulated_profile("l4"), PaceSection())
    table, context = StepTable(model), decodes * mean
    found = table.mixed(FULL_MHZ, prompt, decodes, context)
    assert found == pytest.approx(direct(model, prompt, decodes, context), rel=1e-9)


def test_the_model_is_evaluated_once_between_the_same_knots() -> None:
    table = StepTable(CurvedModel())
    assert table.decode(FULL_MHZ, 4, 4 * 400) is table.decode(FULL_MHZ, 4, 4 * 500)
    assert table.decode(FULL_MHZ, 4, 4 * 300) is not table.decode(FULL_MHZ, 4, 4 * 600)
