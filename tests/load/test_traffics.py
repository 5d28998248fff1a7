from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from steppe.config.load import TrafficName
from steppe.load.arrivals import UNLIMITED, Arrival, LengthLimits
from steppe.load.rates import Burstiness
from steppe.load.synthetic import SyntheticLoad
from steppe.load.traffics import TRAFFICS

SMOOTH = Burstiness(50.0, 0.0, 1.0)
NAMES = get_args(TrafficName)


def smooth(name: TrafficName, duration_s: float = 1000.0) -> tuple[Arrival, ...]:
    """Return 20 requests a second of a traffic, without bursts, over one day of this length."""
    load = SyntheticLoad(replace(TRAFFICS[name], burstiness=SMOOTH))
    load = replace(load, day=replace(load.day, day_s=duration_s))
    return load.generate(np.random.default_rng(5), rate_rps=20.0, duration_s=duration_s)


def test_every_name_of_the_configuration_has_a_traffic() -> None:
    assert tuple(TRAFFICS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_requests_of_a_traffic_have_its_mean_lengths(name: TrafficName) -> None:
    mean, drawn = TRAFFICS[name].mean_request(), smooth(name)
    prompt, output, cached = np.mean(
        [(a.prompt_tokens, a.output_tokens, a.cached_tokens) for a in drawn], axis=0
    )
    assert prompt - cached == pytest.approx(mean.prompt_tokens, rel=0.05)
    assert output == pytest.approx(mean.output_tokens, rel=0.05)
    assert cached == pytest.approx(mean.cached_tokens, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_computes_at_least_one_token_of_every_prompt(name: TrafficName) -> None:
    load = SyntheticLoad(TRAFFICS[name])
    limits = LengthLimits(40, 10)
    for scale in (0.001, 1.0):
        drawn = load.generate(
            np.random.default_rng(1),
            rate_rps=20.0,
            duration_s=20.0,
            length_scale=scale,
            limits=limits,
        )
        assert all(0 <= a.cached_tokens < a.prompt_tokens <= 40 for a in drawn)


@pytest.mark.parametrize(
    ("name", "prompt_tokens", "output_tokens"),
    [
        ("conversation", 1155, 211),
        ("code_completion", 2048, 28),
        ("retrieval", 8000, 300),
        ("reasoning", 500, 5000),
        ("summaries", 2000, 30),
        ("agents", 8596, 182),
        ("embeddings", 500, 1),
    ],
)
def test_mean_lengths_are_those_of_the_source(
    name: TrafficName, prompt_tokens: float, output_tokens: float
) -> None:
    mean = TRAFFICS[name].mean_request()
    assert mean.prompt_tokens + mean.cached_tokens == pytest.approx(prompt_tokens, rel=0.02)
    # The outputs of code completion spread so much that the mean of the draws is 3 % off.
    assert mean.output_tokens == pytest.approx(output_tokens, rel=0.04)


def test_lengths_spread_around_their_mean() -> None:
    prompts = np.array([a.prompt_tokens for a in smooth("summaries")])
    assert np.log(prompts).std() == pytest.approx(0.4, rel=0.05)


def test_agents_find_none_to_four_fifths_of_a_prompt_in_the_prefix_cache() -> None:
    drawn = smooth("agents")
    shares = {round(a.cached_tokens / a.prompt_tokens, 2) for a in drawn}
    assert shares == {0.0, 0.5, 0.67, 0.75, 0.8}
    hits = sum(a.cached_tokens for a in drawn) / sum(a.prompt_tokens for a in drawn)
    assert hits == pytest.approx(0.59, abs=0.02)


def test_one_tenant_floods_the_fleet() -> None:
    tenants = [a.tenant for a in smooth("flooding_tenant")]
    assert len(set(tenants)) == 5
    assert tenants.count("flood") / len(tenants) == pytest.approx(0.6, abs=0.02)


def test_a_flash_crowd_is_ten_times_the_rate_within_ten_seconds() -> None:
    times_s = np.array([a.at_s for a in smooth("flash_crowd")])
    before, crowd, after = (
        np.sum((times_s >= begin_s) & (times_s < begin_s + 50)) / 50 for begin_s in (440, 515, 600)
    )
    assert crowd / before == pytest.approx(10, rel=0.1)
    assert after == pytest.approx(before, rel=0.15)


def test_the_shares_of_a_moving_mix_move_over_the_day() -> None:
    drawn = smooth("moving_mix", duration_s=2400.0)

    def output_at(hour: int) -> float:
        return float(np.mean([a.output_tokens for a in drawn if abs(a.at_s / 100 - hour) < 2]))

    # Conversation, the only kind with long answers, has its peak at 20 and its low at 8 o'clock.
    assert output_at(20) > 2.5 * output_at(8)


def test_the_mean_request_is_scaled_and_clipped() -> None:
    shape = TRAFFICS["retrieval"]
    half = shape.mean_request(0.5, UNLIMITED)
    assert half.prompt_tokens == pytest.approx(shape.mean_request().prompt_tokens / 2, rel=0.01)
    assert shape.mean_request(1.0, LengthLimits(100, 10)).prompt_tokens == 100
