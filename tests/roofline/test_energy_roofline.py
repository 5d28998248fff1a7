from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import ConfigError, UsageError
from steppe.roofline.architecture.config_json import shape_of
from steppe.roofline.calibration import with_probed_energies
from steppe.roofline.energy_roofline import EnergyRoofline, StepWork
from steppe.roofline.files import (
    read_calibration,
    read_gpu_spec,
    read_model_shape,
    read_roofline,
)
from steppe.roofline.hardware import GpuSpec
from steppe.roofline.point import OperatingPoint

ROOFLINES = {
    "dense": read_roofline("llama-3.1-8b", "h100", 1),
    "split": read_roofline("llama-3.1-70b", "b200", 2),
    "experts": read_roofline("qwen3-30b-a3b", "h100", 2),
    "four bits": read_roofline("gpt-oss-20b", "b200", 1),
    "state": read_roofline("nemotron-nano-9b-v2", "h100", 1),
    "old GPU": read_roofline("mistral-7b", "a100", 1),
}
CHEAP = replace(read_gpu_spec("h100"), joules_per_byte=4e-11, joules_per_flop=4e-13, static_w=150.0)
ANY = st.sampled_from(sorted(ROOFLINES))


@given(name=ANY, batch=st.integers(1, 1500), prompt=st.integers(16, 4000))
@settings(max_examples=60, deadline=None)
def test_a_higher_clock_is_never_slower(name: str, batch: int, prompt: int) -> None:
    roofline = ROOFLINES[name]
    clocks = range(roofline.gpu.lowest_mhz, roofline.gpu.highest_mhz + 1, 75)
    points = [roofline.point(clock, batch, prompt, 300) for clock in clocks]
    assert all(b.output_tps >= a.output_tps for a, b in pairwise(points))


@given(name=ANY, output=st.integers(32, 8000))
@settings(max_examples=60, deadline=None)
def test_a_larger_batch_gives_more_tokens(name: str, output: int) -> None:
    roofline = ROOFLINES[name]
    points = [roofline.point(1200, 2**i, 400, output) for i in range(10)]
    assert all(b.output_tps >= a.output_tps * 0.999 for a, b in pairwise(points))
    assert all(b.tpot_s >= a.tpot_s * 0.999 for a, b in pairwise(points))


@given(
    name=ANY,
    prefill=st.integers(0, 8192),
    sequences=st.integers(0, 1024),
    context=st.integers(1, 30_000),
    share=st.floats(0.1, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_the_draw_is_between_idle_and_the_limit(
    name: str, prefill: int, sequences: int, context: int, share: float
) -> None:
    roofline = ROOFLINES[name]
    clock = share * roofline.gpu.highest_mhz
    work = StepWork(prefill, sequences, sequences * context)
    step_s, draw_w = roofline.step(work, clock)
    assert step_s > 0
    assert roofline.idle_w(clock) - 1e-9 <= draw_w <= roofline.limit_w
    assert roofline.step_s(work, clock) == step_s
    assert roofline.step_draw_w(work, clock) == draw_w


def test_more_work_takes_longer() -> None:
    roofline = ROOFLINES["dense"]
    base = roofline.step_s(StepWork(0, 32, 32_000), 1980)
    assert roofline.step_s(StepWork(512, 32, 32_000), 1980) > base
    assert roofline.step_s(StepWork(0, 64, 64_000), 1980) > base
    assert roofline.step_s(StepWork(0, 32, 64_000), 1980) > base


def test_a_saturated_llama_on_one_h100_gives_what_was_measured() -> None:
    # ML.ENERGY v3, chat: 1070, 5147 and 9010 tokens/s; 0.455, 0.119 and 0.077 J/token.
    for batch, tps, energy_j in ((8, 1070, 0.455), (64, 5147, 0.119), (256, 9010, 0.077)):
        point = ROOFLINES["dense"].point(1980, batch, 385, 397)
        assert point.output_tps == pytest.approx(tps, rel=0.1)
        assert point.joules_per_token == pytest.approx(energy_j, rel=0.1)


def test_energy_per_token_is_least_between_the_lowest_and_the_highest_clock() -> None:
    clocks = range(210, 1981, 15)
    energies = [ROOFLINES["dense"].point(c, 64, 400, 500).joules_per_token for c in clocks]
    assert energies.index(min(energies)) not in (0, len(energies) - 1)


def test_memory_bounds_how_many_sequences_run() -> None:
    held = ROOFLINES["dense"].running_sequences(4096, 1000, 8000)
    assert held < 200
    assert ROOFLINES["dense"].running_sequences(8, 1000, 8000) == pytest.approx(8, rel=1e-3)


def test_sleeping_draws_no_more_than_idling() -> None:
    for roofline in ROOFLINES.values():
        assert 0 < roofline.asleep_w <= roofline.idle_w(roofline.gpu.highest_mhz)


def test_a_decoded_token_costs_more_than_a_prompt_token() -> None:
    energy = ROOFLINES["dense"].token_weights()
    assert energy.decode_j > energy.prompt_j > 0
    assert energy.sequence_j > 0


def test_measured_points_correct_the_curve() -> None:
    roofline = ROOFLINES["dense"]
    said = [roofline.point(1980, batch, 400, 500) for batch in (8, 16, 32, 64, 128, 256)]
    measured = [
        OperatingPoint(p.clock_mhz, p.batch_limit, 0.85 * p.output_tps, 0.9 * p.draw_w)
        for p in said
    ]
    again = roofline.refitted(measured, 400, 500)
    for before, wanted in zip(said, measured, strict=True):
        after = again.point(1980, before.batch_limit, 400, 500)
        gap = abs(after.output_tps - wanted.output_tps)
        assert gap < 0.5 * abs(before.output_tps - wanted.output_tps)
        assert abs(after.draw_w - wanted.draw_w) < 0.5 * abs(before.draw_w - wanted.draw_w)


@pytest.mark.parametrize("batch_limit", [64, 512])
def test_points_bound_by_memory_correct_every_batch_limit(batch_limit: int) -> None:
    roofline = read_roofline("llama-3.1-8b", "h100", 1)
    said = roofline.point(1980, batch_limit, 8000, 1000)
    assert roofline.running_sequences(batch_limit, 8000, 1000) < 50
    true = replace(said, output_tps=0.75 * said.output_tps)
    found = roofline.refitted([true], 8000, 1000).point(1980, batch_limit, 8000, 1000)
    assert found.output_tps == pytest.approx(true.output_tps, rel=0.05)


@pytest.mark.parametrize("tp", [0, 3, 7])
def test_gpus_that_cannot_split_the_heads_are_refused(tp: int) -> None:
    with pytest.raises(UsageError, match=f"asked for tp {tp}, found 32 attention heads"):
        read_roofline("llama-3.1-8b", "h100", tp)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"141 GB of weights for 1 x 80 GB"):
        read_roofline("llama-3.1-70b", "h100", 1)


def test_unknown_coefficients_are_named() -> None:
    gpu = replace(read_gpu_spec("h100"), coefficients="h900")
    with pytest.raises(ConfigError, match="asked for h900, found b200, h100"):
        EnergyRoofline(read_model_shape("llama-3.1-8b"), gpu, 1, read_calibration())


@pytest.mark.parametrize("name", ["a100", "b200", "h100", "h200", "l4", "v100"])
def test_a_gpu_without_measured_energies_keeps_the_fitted_ones(name: str) -> None:
    gpu = read_gpu_spec(name)
    fitted = read_calibration().of(gpu)
    assert with_probed_energies(fitted, gpu) is fitted


@given(name=ANY, batch=st.integers(1, 500), share=st.floats(0.4, 1.0))
@settings(max_examples=30, deadline=None)
def test_measured_energies_that_equal_the_formulas_change_nothing(
    name: str, batch: int, share: float
) -> None:
    plain = ROOFLINES[name]
    gpu, fitted = plain.gpu, plain.calibration.of(plain.gpu)
    limit_w = gpu.power_limit_w
    probed = replace(
        gpu,
        joules_per_byte=fitted.weight_energy * limit_w / gpu.bandwidth_bps,
        joules_per_flop=fitted.dense_energy * limit_w / gpu.half_flops,
        static_w=gpu.bare_w + gpu.context_w + fitted.busy * limit_w,
    )
    same = EnergyRoofline(plain.model, probed, plain.tp, plain.calibration)
    work, clock = StepWork(64, batch, batch * 500), share * gpu.highest_mhz
    assert same.step(work, clock) == pytest.approx(plain.step(work, clock), rel=1e-9)


@given(per_byte=st.floats(1e-12, 2e-10), per_flop=st.floats(1e-13, 3e-12))
def test_a_measured_byte_and_flop_of_dense_weights_cost_what_was_measured(
    per_byte: float, per_flop: float
) -> None:
    gpu = replace(read_gpu_spec("l4"), joules_per_byte=per_byte, joules_per_flop=per_flop)
    before = read_calibration().of(gpu)
    after = with_probed_energies(before, gpu)
    byte_w, flop_w = gpu.power_limit_w / gpu.bandwidth_bps, gpu.power_limit_w / gpu.half_flops
    assert after.weight_energy * byte_w == pytest.approx(per_byte)
    assert after.dense_energy * flop_w == pytest.approx(per_flop)
    assert after.cache_energy / after.weight_energy == pytest.approx(
        before.cache_energy / before.weight_energy
    )
    assert after.weight_stream == before.weight_stream


@pytest.mark.parametrize(
    "dear",
    [
        replace(CHEAP, joules_per_byte=9e-11),
        replace(CHEAP, joules_per_flop=9e-13),
        replace(CHEAP, static_w=200.0),
    ],
)
def test_a_gpu_that_was_measured_to_cost_more_draws_more_and_is_as_fast(dear: GpuSpec) -> None:
    plain, work = ROOFLINES["dense"], StepWork(64, 32, 32_000)
    (cheap_s, cheap_w), (dear_s, dear_w) = (
        EnergyRoofline(plain.model, gpu, 1, plain.calibration).step(work, 1980)
        for gpu in (CHEAP, dear)
    )
    assert dear_w > 1.02 * cheap_w
    assert dear_s == pytest.approx(cheap_s, rel=0.01)


def test_a_gpu_without_a_link_works_alone_and_shares_no_model() -> None:
    model, calibration = read_model_shape("llama-3.1-8b"), read_calibration()
    unlinked = replace(read_gpu_spec("h100"), link_bps=0.0)
    alone = EnergyRoofline(model, unlinked, 1, calibration)
    assert alone.point(1980, 64, 400, 512) == ROOFLINES["dense"].point(1980, 64, 400, 512)
    with pytest.raises(UsageError, match="asked for tp 2, found link_bps 0: no link between two"):
        EnergyRoofline(model, unlinked, 2, calibration)


SMALL = {
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 6144,
    "vocab_size": 64000,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "dense": {**SMALL, "model_type": "llama"},
    "experts": {
        **SMALL,
        "model_type": "mixtral",
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "intermediate_size": 2048,
    },
}
FP8 = {"quant_method": "fp8"}
BLOCK_FP8 = {**FP8, "weight_block_size": [128, 128]}
INT8 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}},
}


def _quantised(gpu: str, model: str, quantisation: dict[str, Any]) -> EnergyRoofline:
    shape = shape_of(model, {**CONFIGS[model], "quantization_config": quantisation})
    return EnergyRoofline(shape, read_gpu_spec(gpu), 1, read_calibration())


@pytest.mark.parametrize("model", ["dense", "experts"])
@pytest.mark.parametrize("gpu", ["a100", "v100"])
@pytest.mark.parametrize("fp8", [FP8, BLOCK_FP8], ids=["one scale", "a scale per block"])
def test_a_gpu_without_fp8_multiplies_fp8_weights_as_those_of_any_8_bits(
    gpu: str, model: str, fp8: dict[str, Any]
) -> None:
    for clock, batch in ((1380, 256), (900, 8)):
        as_fp8, as_int8 = (
            _quantised(gpu, model, each).point(clock, batch, 2000, 300) for each in (fp8, INT8)
        )
        assert as_fp8 == as_int8


def test_a_gpu_with_fp8_multiplies_fp8_weights_faster_than_others_of_8_bits() -> None:
    as_fp8, as_int8 = (
        _quantised("h100", "dense", each).step_s(StepWork(8192, 0, 0), 1980) for each in (FP8, INT8)
    )
    assert as_fp8 < 0.95 * as_int8
