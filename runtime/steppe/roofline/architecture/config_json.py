"""From the `config.json` of a Hugging Face model to its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steppe.errors import ModelError
from steppe.roofline.architecture.check import check_model
from steppe.roofline.architecture.shape import AttentionShape, ExpertShape, ModelShape, StateShape
from steppe.roofline.architecture.weight_precision import weight_assumptions, weight_precision
from steppe.roofline.architecture.windows import windows_of

Config = Mapping[str, Any]

_UNGATED = ("relu2", "gelu_new", "gelu_fast", "relu", "xielu")
"""Activations of feed-forward layers with two matrices instead of three."""
_UNGATED_TYPES = ("gpt_neox", "phi", "starcoder2")
"""Models with such layers whatever their activation; Gemma's `gelu` is gated."""
_TIED_TYPES = ("cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "smollm3", "starcoder2")
"""Models whose class in transformers ties the embeddings by default; so does every Gemma."""
_CLASS_DEFAULTS: Mapping[str, Config] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "max_position_embeddings": 131072,
    },
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
}
"""What the language model inside another may leave out: the defaults of its class in transformers
(Gemma3TextConfig, LlamaConfig), of which its config has only what differs."""
_EXTRA_NORMS = {"qwen3": 2, "qwen3_moe": 2, "gemma2": 2, "gemma3": 4, "gemma3_text": 4}
_EXTRA_NORMS |= {"deepseek_v2": 2, "deepseek_v3": 2, "olmo2": 2}
_STATE_VALUE_BYTES = 4
"""vLLM keeps the state of a Mamba layer in 32 bit."""


def shape_of(name: str, config: Config) -> ModelShape:
    """Return the shape of a model from its `config.json`; nothing else is needed.

    Raises:
        ModelError: It is no decoder, a size is missing or cannot be, or the quantisation is not
            known.
    """
    try:
        whole = _whole(config)
        check_model(whole)
        return _shape_of(name, whole)
    except KeyError as error:
        raise ModelError(f"config of {name}: {error.args[0]}: missing") from error
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise ModelError(f"config of {name}: {error}") from error


def assumptions_of(name: str, config: Config) -> tuple[str, ...]:
    """Return what `shape_of` assumes because a `config.json` does not state it, one line each.

    Raises:
        ModelError: As of `shape_of`.
    """
    shape_of(name, config)
    return tuple(f"config of {name}: {line}" for line in weight_assumptions(_whole(config)))


def longest_context_of(name: str, config: Config) -> int | None:
    """Return the longest context of a model, tokens; None where its `config.json` has none.

    Where positions are stretched (`rope_scaling`), some configs count them before, some after:
    the larger count holds. Gemma 3 counts them after.

    Raises:
        ModelError: It is no number.
    """
    whole = _whole(config)
    own = whole.get("max_position_embeddings")
    if own is None:
        return None
    is_stretched = str(whole.get("model_type", "")).startswith("gemma3")
    scaling = whole.get("rope_scaling") or whole.get("rope_parameters") or {}
    try:
        before = int(scaling.get("original_max_position_embeddings") or own)
        factor = 1.0 if is_stretched else float(scaling.get("factor") or 1)
        return max(int(own), int(before * factor))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"config of {name}: max_position_embeddings: {error}") from error


def _whole(config: Config) -> Config:
    """Return the config with the part on top that is the language model inside another."""
    part = config.get("text_config") or config.get("llm_config") or {}
    text = part if isinstance(part, Mapping) else {}
    return {**config, **_CLASS_DEFAULTS.get(str(text.get("model_type")), {}), **text}


def _shape_of(name: str, config: Config) -> ModelShape:
    layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
    pattern = str(config.get("hybrid_override_pattern") or "")
    attention = _attention(config, pattern.count("*") if pattern else layers)
    experts = _experts(config, layers)
    if "E" in pattern and not experts.layers:
        raise KeyError("n_routed_experts")
    states, state_params = _states(config, pattern.count("M"))
    plain_layers = pattern.count("-") if pattern else layers - experts.layers
    attention_params = attention.all_layers * attention.params
    each = _matrices(config) * hidden
    shared = experts.layers * (each * _shared_width(config) + hidden * experts.count)
    feed_forward = plain_layers * each * _plain_width(config) if plain_layers else 0
    dense = attention_params + feed_forward + shared + state_params
    head = int(config["vocab_size"]) * hidden
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        vocabulary=int(config["vocab_size"]),
        dense_params=dense,
        head_params=head,
        embedding_params=0 if _tied(config) else head,
        attention=attention,
        experts=experts,
        states=states,
        precision=weight_precision(config, dense, attention_params),
    )


def _tied(config: Config) -> bool:
    model_type = str(config.get("model_type", ""))
    by_default = model_type.startswith("gemma") or model_type in _TIED_TYPES
    return bool(config.get("tie_word_embeddings", by_default))


def _matrices(config: Config) -> int:
    """Return how many matrices a feed-forward layer has."""
    if config.get("model_type") in _UNGATED_TYPES:
        return 2
    act = config.get("mlp_hidden_act") or config.get("hidden_act") or "silu"
    return 2 if act in _UNGATED else 3


def _plain_width(config: Config) -> int:
    """Return the width of a feed-forward layer without experts."""
    return _width(config, "intermediate_size_mlp", "intermediate_size")


def _width(config: Config, own: str, common: str) -> int:
    """Return the width of some feed-forward layers, under their own key or the common one."""
    width = config.get(own) or config.get(common)
    if not width:
        raise KeyError(common)
    return int(width)


def _shared_width(config: Config) -> int:
    """Return the width of what every token of an expert layer also computes."""
    if str(config.get("model_type", "")).startswith("llama4"):
        return int(config["intermediate_size"])
    count = int(
        config.get("n_shared_experts")
        or config.get("num_shared_experts")
        or config.get("moe_num_shared_experts")
        or 0
    )
    own = config.get("moe_shared_expert_intermediate_size")
    shared = count * int(own or config.get("moe_intermediate_size") or 0)
    return shared or int(config.get("shared_expert_intermediate_size") or 0)


def _attention(config: Config, layers: int) -> AttentionShape:
    if config.get("kv_lora_rank"):
        return _latent_attention(config, layers)
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or config.get("attention_head_dim") or hidden // heads)
    if not size:
        raise ValueError(f"head_dim: missing, and {heads} heads have no part in {hidden}")
    windows, window_tokens = windows_of(config, layers)
    model_type = str(config.get("model_type", ""))
    return AttentionShape(
        layers=layers - windows,
        window_layers=windows,
        window_tokens=window_tokens,
        query_heads=heads,
        kv_heads=kv_heads,
        params=hidden * (heads + 2 * kv_heads) * size + heads * size * hidden,
        kv_bytes=2 * kv_heads * size * 2,
        pair_flop=4 * heads * size,
        extra_norms=_EXTRA_NORMS.get(model_type, 0),
        chunked=int(bool(config.get("attention_chunk_size"))),
    )


def _latent_attention(config: Config, layers: int) -> AttentionShape:
    """Return DeepSeek's attention, whose heads share one compressed vector per token."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    latent, rope = int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"])
    plain, value = int(config["qk_nope_head_dim"]), int(config["v_head_dim"])
    low_rank = int(config.get("q_lora_rank") or 0)
    wide = heads * (plain + rope)
    query = hidden * low_rank + low_rank * wide if low_rank else hidden * wide
    key_value = hidden * (latent + rope) + latent * heads * (plain + value)
    return AttentionShape(
        layers=layers,
        window_layers=0,
        window_tokens=0,
        query_heads=heads,
        kv_heads=1,
        params=query + key_value + heads * value * hidden,
        kv_bytes=2 * (latent + rope),
        pair_flop=2 * heads * (2 * latent + rope),
        extra_norms=_EXTRA_NORMS.get(str(config.get("model_type", "")), 2),
        chunked=0,
    )


def _experts(config: Config, layers: int) -> ExpertShape:
    count = int(
        config.get("num_local_experts")
        or config.get("num_experts")
        or config.get("n_routed_experts")
        or config.get("moe_num_experts")
        or 0
    )
    if not count:
        return ExpertShape(0, 0, 0, 0)
    chosen = config.get("num_experts_per_tok") or config.get("experts_per_token")
    per_token = int(chosen or config.get("moe_k") or 0)
    if not 0 < per_token <= count:
        raise ModelError(f"asked for experts per token, found {per_token} of {count}")
    width = _width(config, "moe_intermediate_size", "intermediate_size")
    routed = _expert_layers(config, layers)
    if not 0 <= routed <= layers:
        raise ModelError(f"asked for expert layers, found {routed} of {layers}")
    return ExpertShape(
        routed, count, per_token, _matrices(config) * int(config["hidden_size"]) * width
    )


def _expert_layers(config: Config, layers: int) -> int:
    """Return how many layers have experts, in a model with some."""
    if config.get("hybrid_override_pattern"):
        return str(config["hybrid_override_pattern"]).count("E")
    if config.get("moe_num_experts"):
        return _spaced_layers(config, layers)
    for dense in ("first_k_dense_replace", "num_dense_layers"):
        if config.get(dense) is not None:
            return layers - int(config[dense])
    if config.get("interleave_moe_layer_step"):
        return layers // int(config["interleave_moe_layer_step"])
    spaced = layers // int(config.get("decoder_sparse_step") or 1)
    return spaced - len(config.get("mlp_only_layers") or ())


def _spaced_layers(config: Config, layers: int) -> int:
    """Return how many layers of an ERNIE have experts: every n-th from one to another."""
    first, last = config.get("moe_layer_start_index"), config.get("moe_layer_end_index")
    first = 1 if first is None else int(first)
    last = layers - 1 if last in (None, -1) else min(int(last), layers - 1)
    interval = int(config.get("moe_layer_interval") or 1)
    return (last + 1) // interval - first // interval


def _states(config: Config, layers: int) -> tuple[StateShape, int]:
    """Return the Mamba-2 layers, and the weights of all of them."""
    if not layers:
        return StateShape(0, 0), 0
    hidden, heads = int(config["hidden_size"]), int(config["mamba_num_heads"])
    size, state = int(config["mamba_head_dim"]), int(config["ssm_state_size"])
    inner, mixed = heads * size, 2 * int(config["n_groups"]) * state
    conv = int(config["conv_kernel"])
    params = hidden * (2 * inner + mixed + heads) + inner * hidden + (inner + mixed) * conv
    state_bytes = heads * size * state * _STATE_VALUE_BYTES + (inner + mixed) * conv * 2
    if not state_bytes:
        raise ValueError("ssm_state_size: asked for a state, found one of 0 bytes")
    return StateShape(layers, state_bytes), layers * params
