from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.roofline.files import read_calibration, read_gpu_spec, read_roofline
from steppe.roofline.hardware import Sharding
from steppe.roofline.step_rates import step_rates

NAME, GPU, GPUS = "qwen3-235b-a22b-instruct-2507", "b200", 8
SPLIT = read_roofline(NAME, GPU, GPUS)
RANKS = read_roofline(NAME, GPU, GPUS, data_parallel=True)


def test_one_rank_is_no_parallelism() -> None:
    alone, same = (read_roofline("qwen3-8b", GPU, 1, data_parallel=d) for d in (False, True))
    assert same.point(1965, 32, 400, 500) == alone.point(1965, 32, 400, 500)


@given(ranks=st.sampled_from([1, 2, 4, 8]), prompts=st.floats(1.0, 64.0))
def test_ranks_compute_as_many_prompts_as_the_fullest_has(ranks: int, prompts: float) -> None:
    gpu, model = read_gpu_spec(GPU), SPLIT.model
    sharding = Sharding.over(ranks, model.attention.kv_heads, data_parallel=True)
    rates = step_rates(model, gpu, sharding, read_calibration().of(gpu), SPLIT.host)
    padded = rates.padded(prompts)
    assert padded >= max(prompts, ranks) - 1e-9
    assert rates.padded(1.0) == pytest.approx(ranks)
    if ranks == 1:
        assert padded == pytest.approx(prompts)


def test_padding_lands_on_few_gpus_and_on_no_more_than_one_at_worst() -> None:
    gpu, experts = read_gpu_spec(GPU), SPLIT.model.experts
    sharding = Sharding.over(8, SPLIT.model.attention.kv_heads, data_parallel=True)
    coefficients = read_calibration().of(gpu)
    few, many = (
        step_rates(
            replace(SPLIT.model, experts=replace(experts, per_token=chosen)),
            gpu,
            sharding,
            coefficients,
            SPLIT.host,
        ).padding_skew
        for chosen in (1, 64)
    )
    assert 1.0 < many < few <= 8.0


@given(batch=st.integers(8, 512), prompt=st.integers(200, 4000))
@settings(max_examples=30, deadline=None)
def test_waiting_for_each_others_prompts_costs_tokens_and_joules(batch: int, prompt: int) -> None:
    split, ranks = (r.point(1965, batch, prompt, 250) for r in (SPLIT, RANKS))
    assert ranks.output_tps < split.output_tps
    assert ranks.joules_per_token > split.joules_per_token


def test_each_rank_keeps_the_sequences_that_are_its_own() -> None:
    assert RANKS.running_sequences(100_000, 8000, 500) > 1.5 * SPLIT.running_sequences(
        100_000, 8000, 500
    )


def test_a_dense_model_does_not_become_smaller_by_ranks() -> None:
    with pytest.raises(UsageError, match="141 GB of weights, the dense ones on each GPU,"):
        read_roofline("llama-3.1-70b", "h100", 8, data_parallel=True)
