from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_progress import progress_of_run
from steppe.roofline.saturation import STEADY_SERVICE

PLACES, RUNS = 256, 60


def _run(rng: np.random.Generator, answers: int) -> tuple[float, float]:
    """Return mean age of the running and ends per place, in mean answers, of one drawn run."""
    lengths = rng.gamma(2.0, 0.5, answers).tolist()
    ends = [(length, 0.0) for length in lengths[:PLACES]]
    heapq.heapify(ends)
    spans = [(0.0, length) for length in lengths[:PLACES]]
    for length in lengths[PLACES:]:
        begin, _ = heapq.heappop(ends)
        spans.append((begin, begin + length))
        heapq.heappush(ends, (begin + length, begin))
    over = spans[-1][0]
    age = sum((min(end, over) - begin) ** 2 / 2 for begin, end in spans)
    return age / over / PLACES, (answers - PLACES) / over / PLACES


@pytest.mark.parametrize("waves", [1.25, 2.0, 8.0])
def test_the_progress_of_a_run_equals_that_of_random_runs(waves: float) -> None:
    rng = np.random.default_rng(1)
    drawn = np.mean([_run(rng, int(PLACES * waves)) for _ in range(RUNS)], axis=0)
    progress = progress_of_run(waves)
    assert progress.decoded_share == pytest.approx(drawn[0], rel=0.03)
    assert progress.completion_share == pytest.approx(drawn[1], rel=0.03)


@given(waves=st.floats(1.01, 500.0), more=st.floats(1.01, 3.0))
def test_a_longer_run_is_nearer_to_a_service_without_end(waves: float, more: float) -> None:
    short, long = progress_of_run(waves), progress_of_run(waves * more)
    assert 0.0 < short.decoded_share < long.decoded_share < STEADY_SERVICE.decoded_share
    assert 0.0 < short.completion_share < long.completion_share < STEADY_SERVICE.completion_share


def test_a_very_long_run_is_a_service_without_end() -> None:
    progress = progress_of_run(10_000.0)
    assert progress.decoded_share == pytest.approx(STEADY_SERVICE.decoded_share, rel=1e-3)
    assert progress.completion_share == pytest.approx(STEADY_SERVICE.completion_share, rel=1e-3)
