"""What each byte, FLOP, layer and sequence of a model costs on some GPUs.

Plain arithmetic, for floats and for arrays alike: a model without experts, windows or states has
zeros there.
"""

from __future__ import annotations

from dataclasses import replace

from steppe.roofline.architecture.shape import ModelShape, least
from steppe.roofline.coefficients import Coefficients
from steppe.roofline.gpu_spec import GpuSpec, Sharding
from steppe.roofline.host import Host
from steppe.roofline.step_costs import StepRates

_EVEN_EXPERTS = 8.0
"""So few experts are taken to be chosen evenly (Mixtral has as many)."""


def step_rates(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients, host: Host
) -> StepRates:
    """Return the costs of a model on `sharding.gpus` GPUs that share it."""
    model = replace(model, precision=model.precision.on(gpu.has_fp8))
    meeting_s, exchange_token_s = _exchange(model, gpu, sharding, fitted)
    layers_s, scales_s, prefill_s = _layers(model, fitted)
    return StepRates(
        **_dense(model, gpu, sharding, fitted),
        **_experts(model, gpu, sharding, fitted),
        **_cache(model, gpu, sharding, fitted),
        layers_s=layers_s,
        scales_s=scales_s,
        prefill_layers_s=prefill_s,
        token_s=_activations(model, fitted) / gpu.bandwidth_bps / sharding.gpus,
        sequence_s=fitted.sample_s + fitted.vocabulary_s * model.vocabulary,
        launch_energy=fitted.launch_energy,
        scales_energy=fitted.block_energy,
        meeting_s=meeting_s,
        exchange_token_s=exchange_token_s,
        exchange_energy=fitted.shard_energy,
        ranks=sharding.ranks,
        padding_skew=_padding_skew(model, sharding),
        host_step_s=fitted.host_s + fitted.crowd_s * host.crowding,
        host_sequence_s=fitted.sequence_s,
    )


def with_measured(fitted: Coefficients, gpu: GpuSpec) -> Coefficients:
    """Return coefficients whose energies are those that probes measured on a GPU, as far as any.

    The fitted ones say that a byte of dense weights costs `weight_energy * limit / bandwidth`, a
    FLOP on them `dense_energy * limit / rate`, and a GPU that is merely busy `bare + context +
    busy * limit`. A measured number takes the place of its formula; the bytes of experts and
    caches and the FLOPs on experts keep their ratio to those of dense weights.
    """
    limit_w = gpu.power_limit_w
    if gpu.joules_per_byte is not None:
        nominal_j = fitted.weight_energy * limit_w / gpu.bandwidth_bps
        fitted = _streaming_scaled(fitted, gpu.joules_per_byte / nominal_j)
    if gpu.joules_per_flop is not None:
        nominal_j = fitted.dense_energy * limit_w / gpu.half_flops
        fitted = _computing_scaled(fitted, gpu.joules_per_flop / nominal_j)
    if gpu.static_w is not None:
        busy_w = gpu.static_w - gpu.bare_w - gpu.context_w
        fitted = replace(fitted, busy=busy_w / limit_w)
    return fitted


def _streaming_scaled(fitted: Coefficients, times: float) -> Coefficients:
    return replace(
        fitted,
        weight_energy=fitted.weight_energy * times,
        expert_energy=fitted.expert_energy * times,
        cache_energy=fitted.cache_energy * times,
    )


def _computing_scaled(fitted: Coefficients, times: float) -> Coefficients:
    return replace(
        fitted,
        dense_energy=fitted.dense_energy * times,
        expert_compute_energy=fitted.expert_compute_energy * times,
    )


def _flop_s(gpu: GpuSpec, sharding: Sharding, fitted: Coefficients, fp8_share: float) -> float:
    """Return the ideal time of multiplying one weight for one token, s, split over the GPUs."""
    fp8 = fitted.fp8_compute * gpu.half_flops / gpu.fp8_flops
    return 2.0 / gpu.half_flops * (1.0 - fp8_share * (1.0 - fp8)) / sharding.gpus


def _dense(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients
) -> dict[str, float]:
    """Return what streaming and multiplying dense weights costs."""
    precision, attention, gpus = model.precision, model.attention, sharding.gpus
    weights = model.dense_params * precision.dense_bytes + 2.0 * model.head_params
    byte_s = weights / gpu.bandwidth_bps / sharding.dense_split
    flop_s = _flop_s(gpu, sharding, fitted, precision.dense_fp8) * fitted.dense_compute
    half_s = 2.0 / gpu.half_flops / gpus * fitted.dense_compute
    return {
        "dense_stream_s": byte_s * fitted.weight_stream,
        "dense_stream_energy": byte_s * fitted.weight_energy,
        "dense_token_s": flop_s * model.dense_params,
        "head_sequence_s": half_s * model.head_params,
        "pair_s": 0.5 * half_s * attention.pair_flop * attention.layers,
        "dense_energy": fitted.dense_energy / fitted.dense_compute,
    }


def _experts(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients
) -> dict[str, float]:
    """Return what streaming and multiplying experts costs."""
    precision, experts = model.precision, model.experts
    byte_s = experts.layers * experts.params * precision.expert_bytes / gpu.bandwidth_bps
    flop_s = _flop_s(gpu, sharding, fitted, precision.expert_fp8) * fitted.expert_compute
    fp4 = 1.0 + precision.expert_fp4 * (fitted.fp4_stream - 1.0)
    return {
        "local_experts": experts.count / sharding.gpus,
        "miss": 1.0 - experts.per_token / (experts.count + 1e-9),
        "miss_power": (_EVEN_EXPERTS / (experts.count + 1e-9)) ** fitted.routing,
        "spread": sharding.spread,
        "expert_s": byte_s * fitted.expert_stream * fp4,
        "expert_energy": byte_s * fitted.expert_energy,
        "expert_token_s": flop_s * experts.layers * experts.per_token * experts.params,
        "expert_token_energy": fitted.expert_compute_energy / fitted.expert_compute,
    }


def _padding_skew(model: ModelShape, sharding: Sharding) -> float:
    """Return how much more padding the fullest GPU computes with its experts than the mean one.

    Padding is alike, so it chooses the same experts: as many as one token chooses, and they lie
    on GPUs at random. The others wait, and draw as much.
    """
    ranks, chosen = sharding.ranks, model.experts.per_token + 1e-9
    skew = 1.0 + sharding.spread * ((1.0 - 1.0 / ranks) * ranks / chosen) ** 0.5
    return least(skew, ranks)


def _cache(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients
) -> dict[str, float]:
    """Return what streaming keys, values and states costs; a state is read and written."""
    attention, states = model.attention, model.states
    byte_s = fitted.cache_stream / gpu.bandwidth_bps
    kv_s = attention.kv_bytes * byte_s / sharding.kv_split
    return {
        "cache_token_s": attention.layers * kv_s,
        "window_token_s": attention.window_layers * kv_s,
        "window_tokens": attention.window_tokens,
        "state_s": 2.0 * states.layers * states.state_bytes * byte_s / sharding.gpus,
        "cache_energy": fitted.cache_energy / fitted.cache_stream,
    }


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
    link_bps = gpu.link_bps + (1 - sharding.split)  # a GPU alone may have no link
    hidden_s = sharding.split * 4.0 * model.hidden / link_bps
    meeting_s = sharding.split * model.layers * fitted.shard_layer_s
    wide = model.layers * fitted.link + model.experts.layers * fitted.expert_link
    return meeting_s, hidden_s * wide


def _activations(model: ModelShape, fitted: Coefficients) -> float:
    """Return the bytes that one token moves beside weights and cache, over all GPUs."""
    experts = model.experts
    width = 2.0 * model.hidden + experts.params / model.hidden
    routed = experts.layers * experts.per_token * width * 2.0 * fitted.routed
    return model.layers * model.hidden * 2.0 * fitted.activation + routed
