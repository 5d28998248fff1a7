from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from steppe.load.arrivals import LengthLimits
from steppe.load.rates import Burstiness, DailyEnvelope
from steppe.load.synthetic import SyntheticLoad, TrafficChange
from steppe.load.traces import read_trace
from steppe.load.traffics import AZURE_BURSTINESS, AZURE_RATE_RPS, CONVERSATION, TRAFFICS

AZURE_FILE = Path(__file__).parents[3] / "shared/data/requests/AzureLLMInferenceTrace_conv.csv"
SPAN_S = 3500.0
POISSON = replace(CONVERSATION, burstiness=Burstiness(1.0, 0.0, 1.0))


def times_of(
    load: SyntheticLoad, seed: int, rate_rps: float = AZURE_RATE_RPS
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.array([a.at_s for a in load.generate(rng, rate_rps=rate_rps, duration_s=SPAN_S)])


def dispersion(times_s: NDArray[np.float64], window_s: float) -> float:
    counts = np.histogram(times_s, np.arange(0.0, SPAN_S + 1, window_s))[0]
    return float(counts.var() / counts.mean())


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0.05, 20), st.floats(0.5, 120))
def test_arrivals_are_sorted_and_due_within_the_run(
    seed: int, rate_rps: float, duration_s: float
) -> None:
    arrivals = SyntheticLoad().generate(
        np.random.default_rng(seed), rate_rps=rate_rps, duration_s=duration_s
    )
    assert [a.at_s for a in arrivals] == sorted(a.at_s for a in arrivals)
    assert all(0 <= a.at_s < duration_s for a in arrivals)


def test_the_same_seed_gives_the_same_load() -> None:
    first, second, other = (
        SyntheticLoad().generate(np.random.default_rng(seed), rate_rps=2.0, duration_s=60.0)
        for seed in (7, 7, 8)
    )
    assert first == second
    assert first != other


def test_rate_and_burstiness_are_those_of_the_fit() -> None:
    runs = [times_of(SyntheticLoad(), seed) for seed in range(12)]
    assert np.mean([len(run) for run in runs]) == pytest.approx(AZURE_RATE_RPS * SPAN_S, rel=0.02)
    gaps = [np.diff(run) for run in runs]
    assert np.mean([gap.std() / gap.mean() for gap in gaps]) == pytest.approx(1.09, abs=0.05)
    assert np.mean([dispersion(run, 10.0) for run in runs]) == pytest.approx(3.86, rel=0.25)
    assert np.mean([dispersion(run, 60.0) for run in runs]) == pytest.approx(16.1, rel=0.3)


def test_poisson_arrivals_are_a_special_case() -> None:
    poisson = SyntheticLoad(POISSON)
    runs = [times_of(poisson, seed, rate_rps=1.0) for seed in range(8)]
    assert np.mean([dispersion(run, 10.0) for run in runs]) == pytest.approx(1.0, abs=0.1)


def test_the_rate_varies_with_the_stated_variance_and_mean() -> None:
    path = AZURE_BURSTINESS.rate_path(np.random.default_rng(2), 100_000, 60.0)
    assert path.mean() == pytest.approx(1.0, abs=0.02)
    assert path.var() == pytest.approx(AZURE_BURSTINESS.rate_variance, rel=0.1)


def test_a_daily_envelope_moves_requests_to_the_peak() -> None:
    day = DailyEnvelope(depth=0.8, peak_s=SPAN_S / 4, period_s=SPAN_S)
    load = SyntheticLoad(POISSON, envelope=day)
    first, second = np.histogram(times_of(load, 3), [0.0, SPAN_S / 2, SPAN_S])[0]
    assert first / second == pytest.approx((1 + 1.6 / np.pi) / (1 - 1.6 / np.pi), rel=0.1)


def test_another_traffic_begins_at_its_time_with_its_rate() -> None:
    change = TrafficChange(1000.0, TRAFFICS["summaries"], rate_rps=8.0)
    arrivals = SyntheticLoad(POISSON, changes=(change,)).generate(
        np.random.default_rng(1), rate_rps=2.0, duration_s=2000.0
    )
    assert [a.at_s for a in arrivals] == sorted(a.at_s for a in arrivals)
    before = [a for a in arrivals if a.at_s < 1000]
    after = [a for a in arrivals if a.at_s >= 1000]
    assert len(before) == pytest.approx(2000, rel=0.1)
    # The Azure bursts move the rate of a window by a quarter.
    assert len(after) == pytest.approx(8000, rel=0.4)
    assert np.mean([a.output_tokens for a in before]) == pytest.approx(211, rel=0.1)
    assert np.mean([a.output_tokens for a in after]) == pytest.approx(30, rel=0.1)


def test_a_change_without_a_rate_keeps_the_rate() -> None:
    change = TrafficChange(1000.0, POISSON)
    arrivals = SyntheticLoad(POISSON, changes=(change,)).generate(
        np.random.default_rng(1), rate_rps=3.0, duration_s=2000.0
    )
    assert sum(a.at_s >= 1000 for a in arrivals) == pytest.approx(3000, rel=0.1)


def test_a_change_after_the_end_has_no_effect() -> None:
    late = TrafficChange(60.0, TRAFFICS["summaries"])
    with_it, without = (
        SyntheticLoad(changes=changes).generate(
            np.random.default_rng(1), rate_rps=5.0, duration_s=60.0
        )
        for changes in ((late,), ())
    )
    assert with_it == without


def test_an_envelope_that_would_go_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        DailyEnvelope(depth=1.0)


def test_a_load_without_rate_or_duration_is_refused() -> None:
    for rate_rps, duration_s in ((0.0, 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            SyntheticLoad().generate(
                np.random.default_rng(0), rate_rps=rate_rps, duration_s=duration_s
            )


def test_the_demo_size_has_an_eighth_of_the_lengths() -> None:
    limits = LengthLimits(400, 120)
    arrivals = SyntheticLoad().generate(
        np.random.default_rng(0), rate_rps=50.0, duration_s=200.0, length_scale=1 / 8, limits=limits
    )
    assert np.mean([a.output_tokens for a in arrivals]) == pytest.approx(211 / 8, rel=0.05)
    assert max(a.prompt_tokens for a in arrivals) <= 400


@pytest.mark.skipif(
    not AZURE_FILE.exists(), reason=f"{AZURE_FILE.name} is not beside the repository"
)
def test_lengths_and_gaps_are_close_to_the_trace() -> None:
    trace = read_trace(AZURE_FILE)
    load = SyntheticLoad().generate(
        np.random.default_rng(0), rate_rps=AZURE_RATE_RPS, duration_s=SPAN_S
    )
    true, drawn = (
        np.array([(a.prompt_tokens, a.output_tokens) for a in arrivals])
        for arrivals in (trace, load)
    )
    assert stats.ks_2samp(true[:, 0], drawn[:, 0]).statistic < 0.05
    assert stats.ks_2samp(true[:, 1], drawn[:, 1]).statistic < 0.05
    assert drawn.mean(axis=0) == pytest.approx(true.mean(axis=0), rel=0.05)
    correlations = [stats.spearmanr(each).statistic for each in (true, drawn)]
    assert correlations[1] == pytest.approx(correlations[0], abs=0.05)
    gaps = [np.diff([a.at_s for a in arrivals]) for arrivals in (trace, load)]
    assert stats.ks_2samp(*gaps).statistic < 0.05
