"""What each byte, FLOP, layer and sequence of a model costs on some GPUs.

Plain arithmetic, for floats and for arrays alike: a model without experts, windows or states has
zeros there.
"""

from __future__ import annotations

from steppe.frontier.coefficients import Coefficients
from steppe.frontier.gpu_spec import GpuSpec, Sharding
from steppe.frontier.model_shape import ModelShape
from steppe.frontier.step_costs import StepRates

_EVEN_EXPERTS = 8.0
"""So few experts are taken to be chosen evenly (Mixtral has as many)."""


def step_rates(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients
) -> StepRates:
    """Return the costs of a model on `sharding.gpus` GPUs that share it."""
    precision, experts, attention = model.precision, model.experts, model.attention
    gpus = sharding.gpus
    byte_s, flop_s = 1.0 / gpu.bandwidth_bps, 1.0 / gpu.half_flops
    fp8 = fitted.fp8_compute * gpu.half_flops / gpu.fp8_flops
    dense_byte_s = (model.dense_params * precision.dense_bytes + 2.0 * model.head_params) * byte_s
    dense_flop_s = 2.0 * flop_s * (1.0 - precision.dense_fp8 * (1.0 - fp8)) / gpus
    expert_flop_s = 2.0 * flop_s * (1.0 - precision.expert_fp8 * (1.0 - fp8)) / gpus
    expert_byte_s = experts.layers * experts.params * precision.expert_bytes * byte_s
    fp4 = 1.0 + precision.expert_fp4 * (fitted.fp4_stream - 1.0)
    kv_s = attention.kv_bytes * byte_s * fitted.cache_stream / sharding.kv_split
    states = 2.0 * model.states.layers * model.states.state_bytes
    routed_params = experts.layers * experts.per_token * experts.params
    meeting_s, exchange_token_s = _exchange(model, gpu, sharding, fitted)
    layers_s, scales_s, prefill_s = _layers(model, fitted)
    return StepRates(
        dense_stream_s=dense_byte_s * fitted.weight_stream / gpus,
        dense_stream_energy=dense_byte_s * fitted.weight_energy / gpus,
        dense_token_s=dense_flop_s * fitted.dense_compute * model.dense_params,
        head_sequence_s=2.0 * flop_s * fitted.dense_compute * model.head_params / gpus,
        pair_s=flop_s * fitted.dense_compute * attention.pair_flop * attention.layers / gpus,
        dense_energy=fitted.dense_energy / fitted.dense_compute,
        local_experts=experts.count / gpus,
        miss=1.0 - experts.per_token / (experts.count + 1e-9),
        miss_power=(_EVEN_EXPERTS / (experts.count + 1e-9)) ** fitted.routing,
        spread=sharding.spread,
        expert_s=expert_byte_s * fitted.expert_stream * fp4,
        expert_energy=expert_byte_s * fitted.expert_energy,
        expert_token_s=expert_flop_s * fitted.expert_compute * routed_params,
        expert_token_energy=fitted.expert_compute_energy / fitted.expert_compute,
        cache_token_s=attention.layers * kv_s,
        window_token_s=attention.window_layers * kv_s,
        window_tokens=attention.window_tokens,
        state_s=states * byte_s * fitted.cache_stream / gpus,
        cache_energy=fitted.cache_energy / fitted.cache_stream,
        layers_s=layers_s,
        scales_s=scales_s,
        prefill_layers_s=prefill_s,
        token_s=_activations(model, fitted) * byte_s / gpus,
        sequence_s=fitted.sample_s + fitted.vocabulary_s * model.vocabulary,
        launch_energy=fitted.launch_energy,
        scales_energy=fitted.block_energy,
        meeting_s=meeting_s,
        exchange_token_s=exchange_token_s,
        exchange_energy=fitted.shard_energy,
        host_step_s=fitted.host_s,
        host_sequence_s=fitted.sequence_s,
    )


def _layers(model: ModelShape, fitted: Coefficients) -> tuple[float, float, float]:
    """Return the launch times of a step, of its scales, and of a prefill within it, s."""
    precision, experts, attention = model.precision, model.experts, model.attention
    states = model.states.layers
    others = model.layers - states
    layers_s = others * fitted.attention_layer_s + states * fitted.state_layer_s
    layers_s = layers_s + model.layers * attention.extra_norms * fitted.norm_s
    layers_s = layers_s + attention.chunked * model.layers * fitted.chunked_layer_s
    layers_s = layers_s + experts.layers * fitted.expert_layer_s
    block = model.layers * fitted.block_layer_s + experts.layers * fitted.block_expert_s
    single = (1 - precision.block_scaled) * precision.dense_fp8 * model.layers
    scales_s = precision.block_scaled * block + single * fitted.scaled_layer_s
    prefill_s = others * fitted.prefill_attention_s + states * fitted.prefill_state_s
    return layers_s, scales_s, prefill_s + experts.layers * fitted.prefill_expert_s


def _exchange(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients
) -> tuple[float, float]:
    """Return the exchange between GPUs of a step, and more for each token, s."""
    hidden_s = sharding.split * 4.0 * model.hidden / gpu.link_bps
    meeting_s = sharding.split * model.layers * fitted.shard_layer_s
    wide = model.layers * fitted.link + model.experts.layers * fitted.expert_link
    return meeting_s, hidden_s * wide


def _activations(model: ModelShape, fitted: Coefficients) -> float:
    """Return the bytes that one token moves beside weights and cache, over all GPUs."""
    experts = model.experts
    width = 2.0 * model.hidden + experts.params / model.hidden
    routed = experts.layers * experts.per_token * width * 2.0 * fitted.routed
    return model.layers * model.hidden * 2.0 * fitted.activation + routed
