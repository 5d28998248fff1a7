"""Lengths of a user's own requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from steppe.load.arrivals import Arrival
from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.length_sample import BLOCK, SAMPLE, LengthSample, sample_of_trace
from steppe.measure.sweep.point import MeasurePlan, requests_of
from steppe.measure.sweep.result import Phase, Setting

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """3,000 requests with lengths that spread as widely as those of conversations."""
    rng = np.random.default_rng(1)
    path = tmp_path / "trace.csv"
    rows = zip(rng.lognormal(6, 1, 3000), rng.lognormal(5, 0.7, 3000), strict=True)
    stamp = "2023-11-16 18:15:46"
    path.write_text(HEAD + "".join(f"{stamp},{int(p) + 1},{int(o) + 1}\n" for p, o in rows))
    return path


def test_the_same_seed_draws_the_same_sample_and_another_seed_another(trace: Path) -> None:
    first, again, other = (sample_of_trace(trace, seed, None) for seed in (0, 0, 1))
    assert first == again
    assert (first.digest == again.digest, first.digest == other.digest) == (True, False)
    assert (len(first.pairs), first.requests, first.shortened) == (SAMPLE, 3000, 0)


def test_a_sample_has_the_mean_of_its_trace(trace: Path) -> None:
    rows = np.loadtxt(trace, delimiter=",", skiprows=1, usecols=(1, 2))
    lengths = sample_of_trace(trace, 0, None).lengths
    assert lengths.prompt_tokens == pytest.approx(rows[:, 0].mean(), rel=0.1)
    assert lengths.output_tokens == pytest.approx(rows[:, 1].mean(), rel=0.1)


def test_every_block_of_a_sample_has_one_request_of_each_part_of_the_lengths(trace: Path) -> None:
    totals = np.array([sum(pair) for pair in sample_of_trace(trace, 0, None).pairs])
    parts = np.sort(totals).reshape(BLOCK, -1)
    blocks = np.sort(totals.reshape(-1, BLOCK), axis=1)
    assert (parts.min(axis=1) <= blocks).all()
    assert (blocks <= parts.max(axis=1)).all()


def test_requests_that_the_model_does_not_take_are_shortened_in_proportion(trace: Path) -> None:
    whole, cut = sample_of_trace(trace, 0, None), sample_of_trace(trace, 0, 1000)
    longer = [pair for pair in whole.pairs if sum(pair) > 1000]
    assert cut.shortened == len(longer) > 0
    assert max(map(sum, cut.pairs)) <= 1000
    assert "shortened to what the model takes" in cut.summary


def test_a_short_trace_is_sampled_whole(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text(HEAD + "2023-11-16 18:15:46,10,20\n2023-11-16 18:15:47,11,21\n")
    assert sorted(sample_of_trace(path, 0, None).pairs) == [(10, 20), (11, 21)]


def test_points_with_a_sample_send_its_requests_and_have_names_of_their_own() -> None:
    sample = LengthSample("t", 2, 0, ((30, 4), (50, 8)))
    plan = MeasurePlan(sample=sample)
    grid = SweepGrid((900,), (4,), (sample.rounded,), sample=sample)
    mixed, prefill, decode = grid.settings
    assert mixed == Setting(Phase.MIXED, 900, 4, 40, 6, sample.digest)
    assert mixed.key == f"mixed c900 b4 p40 o6 s{sample.digest}"
    assert requests_of(mixed, plan) == (Arrival(0.0, 30, 4), Arrival(0.0, 50, 8))
    assert requests_of(prefill, plan) == (Arrival(0.0, 30, 1), Arrival(0.0, 50, 1))
    assert decode.sample == ""
    assert {arrival.prompt_tokens for arrival in requests_of(decode, plan)} == {1}
