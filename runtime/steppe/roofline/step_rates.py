"""The cost of each byte, FLOP, layer and sequence of a model on some GPUs.

All numbers may be floats or arrays; a model without experts, windows or states has zeros there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.roofline.architecture.shape import ModelShape, least
from steppe.roofline.calibration import Coefficients
from steppe.roofline.hardware import GpuSpec, Host, Sharding
from steppe.roofline.step_law import StepStages

_EVEN_EXPERTS = 8.0
"""Up to this many experts are assumed to be chosen evenly (Mixtral has as many)."""
LENGTH_SPREAD = 1.0
"""Standard deviation of prompt lengths over their mean; assumed."""


@dataclass(frozen=True, slots=True)
class StepRates:
    """Seconds, and energy over the power limit, of each part of a step.

    Attributes ending in `_s` are times at the highest clock, those in `_energy` energies of one
    GPU over its power limit (so also seconds); `step_rates` derives them all.
    """

    dense_stream_s: float
    dense_stream_energy: float
    dense_token_s: float
    head_sequence_s: float
    pair_s: float
    dense_energy: float
    local_experts: float
    miss: float
    miss_power: float
    spread: float
    expert_s: float
    expert_energy: float
    expert_token_s: float
    expert_token_energy: float
    cache_token_s: float
    window_token_s: float
    window_tokens: float
    state_s: float
    cache_energy: float
    layers_s: float
    scales_s: float
    prefill_layers_s: float
    token_s: float
    sequence_s: float
    launch_energy: float
    scales_energy: float
    sync_s: float
    exchange_token_s: float
    exchange_energy: float
    host_step_s: float
    host_sequence_s: float
    ranks: float
    padding_skew: float

    def stages(
        self,
        prefill_tokens: float,
        sequences: float,
        context_tokens: float,
        padding: float = 0.0,
    ) -> StepStages:
        """Return the stages of a step.

        Args:
            prefill_tokens: Prompt tokens that it computes.
            sequences: Sequences that decode one token each.
            context_tokens: Tokens that they attend to, summed over them.
            padding: Padding tokens that it also computes; see `padded`.
        """
        prefill_tokens = prefill_tokens + padding
        tokens = prefill_tokens + sequences
        mean_context = context_tokens / (sequences + 1e-9)
        dense_s = self.dense_token_s * tokens + self.head_sequence_s * sequences
        dense_s += self.pair_s * prefill_tokens * 0.5 * mean_context
        hit = 1.0 - self.miss ** (tokens * self.miss_power)
        mean_hit = self.local_experts * hit
        most_hit = mean_hit + self.spread * (mean_hit * (1.0 - hit)) ** 0.5
        expert_s = self.expert_s * least(self.local_experts, most_hit)
        routed_s = self.expert_token_s * (tokens + padding * (self.padding_skew - 1.0))
        cache_s = self._cache_s(sequences, context_tokens, mean_context)
        launch_s = self.layers_s + self.token_s * tokens + self.sequence_s * sequences
        launch_s += self.prefill_layers_s * least(prefill_tokens, 1.0)
        exchange_s = self.sync_s + self.exchange_token_s * tokens
        core = self.dense_energy * dense_s + self.expert_token_energy * routed_s
        core += self._overhead_energy(launch_s, exchange_s)
        stream = self.dense_stream_energy + self.expert_energy * mean_hit
        stream += self.cache_energy * cache_s
        return StepStages(
            dense_stream_s=self.dense_stream_s,
            dense_compute_s=dense_s,
            expert_stream_s=expert_s,
            expert_compute_s=routed_s,
            cache_s=cache_s,
            launch_s=launch_s + self.scales_s,
            exchange_s=exchange_s,
            host_s=self.host_step_s + self.host_sequence_s * sequences,
            core_energy=core,
            stream_energy=stream,
        )

    def padded(self, prompts: float) -> float:
        """Return how many prompts a step effectively computes, padding included.

        Data-parallel ranks step together, and each computes as many tokens as the fullest rank
        (vLLM pads them: `coordinate_batch_across_dp`). With random arrivals and prompt lengths
        whose deviation is their mean, the fullest rank has `spread` deviations more than the
        mean, and at least one prompt. Without ranks there is no padding.
        """
        each = prompts / self.ranks
        variance = (1.0 + LENGTH_SPREAD**2) * each * (1.0 - 1.0 / self.ranks)
        fullest = each + self.spread * variance**0.5
        padded: float = self.ranks * (fullest + 1.0 - least(fullest, 1.0))
        return padded

    def _overhead_energy(self, launch_s: float, exchange_s: float) -> float:
        """Return the energy of everything but streaming and multiplying, over the limit, s."""
        overhead = self.launch_energy * launch_s + self.exchange_energy * exchange_s
        return overhead + self.scales_energy * self.scales_s

    def _cache_s(self, sequences: float, context_tokens: float, mean_context: float) -> float:
        """Return the time of streaming keys, values and states, s."""
        window = least(self.window_tokens, mean_context) * sequences
        cached_s = self.cache_token_s * context_tokens + self.window_token_s * window
        return cached_s + self.state_s * sequences


def step_rates(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, fitted: Coefficients, host: Host
) -> StepRates:
    """Return the costs of a model on `sharding.gpus` GPUs that share it."""
    model = replace(model, precision=model.precision.on(gpu.has_fp8))
    sync_s, exchange_token_s = _exchange(model, gpu, sharding, fitted)
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
        sync_s=sync_s,
        exchange_token_s=exchange_token_s,
        exchange_energy=fitted.shard_energy,
        ranks=sharding.ranks,
        padding_skew=_padding_skew(model, sharding),
        host_step_s=fitted.host_s + fitted.crowd_s * host.crowding,
        host_sequence_s=fitted.sequence_s,
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
    """Return how much more padding the experts of the fullest GPU compute than the mean.

    Padding tokens are equal, so they choose the same experts: as many as one token chooses, on
    random GPUs. The other GPUs wait, and draw as much.
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
    """Return the synchronisation time of a step, and the exchange time of each token, s."""
    link_bps = gpu.link_bps + (1 - sharding.split)  # a GPU alone may have no link
    hidden_s = sharding.split * 4.0 * model.hidden / link_bps
    sync_s = sharding.split * model.layers * fitted.shard_layer_s
    wide = model.layers * fitted.link + model.experts.layers * fitted.expert_link
    return sync_s, hidden_s * wide


def _activations(model: ModelShape, fitted: Coefficients) -> float:
    """Return the bytes that one token moves beside weights and cache, over all GPUs."""
    experts = model.experts
    width = 2.0 * model.hidden + experts.params / model.hidden
    routed = experts.layers * experts.per_token * width * 2.0 * fitted.routed
    return model.layers * model.hidden * 2.0 * fitted.activation + routed
