from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.load.arrivals import UNLIMITED, LengthLimits
from steppe.load.lengths import LengthComponent, LengthMixture
from steppe.load.traffics import AZURE_LENGTHS


@given(st.integers(0, 2**32), st.floats(0.01, 4), st.integers(1, 5000), st.integers(1, 500))
def test_drawn_lengths_stay_between_one_token_and_the_limits(
    seed: int, length_scale: float, prompt: int, output: int
) -> None:
    rng = np.random.default_rng(seed)
    drawn = AZURE_LENGTHS.draw(rng, 50, length_scale, LengthLimits(prompt, output))
    assert drawn.shape == (50, 2)
    assert drawn.min() >= 1
    assert np.all(drawn <= (prompt, output))


def test_draws_of_one_component_have_its_moments() -> None:
    part = LengthComponent(1.0, 6.0, 5.0, 0.5, 0.25, -0.6)
    drawn = LengthMixture((part,), UNLIMITED).draw(np.random.default_rng(1), 50_000, 1.0, UNLIMITED)
    logs = np.log(drawn)
    assert logs.mean(axis=0) == pytest.approx([6.0, 5.0], abs=0.02)
    assert logs.std(axis=0) == pytest.approx([0.5, 0.25], abs=0.01)
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(-0.6, abs=0.02)


def test_the_weights_of_the_azure_fit_add_up_to_one() -> None:
    assert sum(part.weight for part in AZURE_LENGTHS.components) == pytest.approx(1.0, abs=0.005)


def test_an_eighth_of_the_lengths_has_an_eighth_of_the_mean() -> None:
    whole, eighth = (
        AZURE_LENGTHS.draw(np.random.default_rng(0), 20_000, scale, UNLIMITED).mean(axis=0)
        for scale in (1.0, 1 / 8)
    )
    assert eighth == pytest.approx(whole / 8, rel=0.02)


@pytest.mark.filterwarnings("error")
def test_lengths_that_overflow_are_clipped() -> None:
    drawn = AZURE_LENGTHS.draw(np.random.default_rng(0), 50, 1e308, LengthLimits(9, 8))
    assert np.all(drawn == (9, 8))


def test_a_length_scale_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="length scale above 0"):
        AZURE_LENGTHS.draw(np.random.default_rng(0), 1, 0.0, UNLIMITED)
