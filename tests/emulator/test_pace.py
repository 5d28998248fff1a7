"""The time of a step of the emulated GPU, by what bounds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.emulator.pace import Pace, StepParts

SECONDS = st.floats(0, 10)
EXPONENTS = st.floats(1, 100)


def test_without_overlap_a_step_streams_and_then_computes() -> None:
    step = StepParts(memory_s=0.03, compute_s=0.02).at(0.5)
    assert step.duration_s == pytest.approx(0.07)
    assert (step.core, step.mem) == pytest.approx((4 / 7, 3 / 7))


def test_with_overlap_the_longer_part_hides_the_shorter_one() -> None:
    step = StepParts(memory_s=0.03, compute_s=0.01, launch_s=0.002, overlap=4).at(1.0)
    assert step.duration_s == pytest.approx(0.002 + 0.03, rel=0.01)
    assert step.core + step.mem > 1, "both are busy at once"


def test_context_streams_and_does_not_depend_on_the_clock() -> None:
    parts = Pace(0.02, 0.0, 0.0, context_s=1e-6).parts(0, 8, 10_000)
    assert parts.memory_s == pytest.approx(0.03)
    assert parts.at(0.5) == parts.at(1.0)


@given(memory_s=SECONDS, compute_s=SECONDS, launch_s=SECONDS, overlap=EXPONENTS)
def test_a_step_lasts_at_least_its_longer_part_and_at_most_all_of_them(
    memory_s: float, compute_s: float, launch_s: float, overlap: float
) -> None:
    step = StepParts(memory_s, compute_s, launch_s, overlap).at(1.0)
    assert step.duration_s >= launch_s + max(memory_s, compute_s) * (1 - 1e-9)
    assert step.duration_s <= (launch_s + memory_s + compute_s) * (1 + 1e-9)
    assert 0 <= step.core <= 1 + 1e-9
    assert 0 <= step.mem <= 1 + 1e-9


@given(parts=st.builds(StepParts, SECONDS, SECONDS, SECONDS, EXPONENTS), speed=st.floats(0.1, 1.0))
def test_a_lower_clock_never_makes_a_step_faster(parts: StepParts, speed: float) -> None:
    assert parts.at(speed).duration_s >= parts.at(1.0).duration_s * (1 - 1e-9)
