"""From the `config.json` of a Hugging Face model to its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steppe.errors import ModelError
from steppe.roofline.architecture.check import check_model
from steppe.roofline.architecture.shape import AttentionShape, ExpertShape, ModelShape, StateShape
from steppe.roofline.architecture.weight_precision import weight_assumptions, weight_precision

Config = Mapping[str, Any]

_UNGATED = ("relu2", "gelu_new", "gelu_fast", "relu", "xielu")
"""Activations of feed-forward layers with two matrices instead of three."""
_UNGATED_TYPES = ("gpt_neox", "phi", "starcoder2")
"""Model types with such layers for any activation; Gemma's `gelu` is gated."""
_TIED_TYPES = ("cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "smollm3", "starcoder2")
"""Model types that tie the embeddings by default in transformers; so does every Gemma."""
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
"""Defaults of the language model inside another, as in its class in transformers (Gemma3TextConfig,
LlamaConfig): its config only has the differences."""
_EXTRA_NORMS = {"qwen3": 2, "qwen3_moe": 2, "gemma2": 2, "gemma3": 4, "gemma3_text": 4}
_EXTRA_NORMS |= {"deepseek_v2": 2, "deepseek_v3": 2, "olmo2": 2}
_STATE_VALUE_BYTES = 4
"""vLLM keeps the state of a Mamba layer in 32 bits."""
_OFF_BY_DEFAULT = ("qwen2", "qwen3", "smollm3")
"""Prefixes of model types with `use_sliding_window: false` by default in transformers."""
_FIRST_WINDOW_LAYER = {"qwen2": 28, "qwen3": 28, "dots1": 62}
_FIRST_WINDOW_LAYER |= {"qwen2_vl": 80, "qwen2_vl_text": 80}
_FIRST_WINDOW_LAYER |= {"qwen2_5_vl": 80, "qwen2_5_vl_text": 80}
"""Types with windows in the layers from `max_window_layers` on, and its default in transformers."""
_QWEN2_MOE_WINDOW_LAYERS = 28
"""Default of Qwen2MoeConfig: every other layer before `max_window_layers` sees a window."""


def shape_of(name: str, config: Config) -> ModelShape:
    """Return the shape of a model from its `config.json`; nothing else is needed.

    Raises:
        ModelError: It is not a decoder, a size is missing or invalid, or the quantisation is
            unknown.
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

    Where positions are scaled (`rope_scaling`), some configs give the length before scaling and
    some after: the larger one counts. Gemma 3 gives it after.

    Raises:
        ModelError: It is not a number.
    """
    whole = _whole(config)
    own = whole.get("max_position_embeddings")
    if own is None:
        return None
    is_scaled = str(whole.get("model_type", "")).startswith("gemma3")
    scaling = whole.get("rope_scaling") or whole.get("rope_parameters") or {}
    try:
        before = int(scaling.get("original_max_position_embeddings") or own)
        factor = 1.0 if is_scaled else float(scaling.get("factor") or 1)
        return max(int(own), int(before * factor))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"config of {name}: max_position_embeddings: {error}") from error


def _whole(config: Config) -> Config:
    """Return the config with the part of the language model merged on top."""
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
    """Return the number of matrices of a feed-forward layer."""
    if config.get("model_type") in _UNGATED_TYPES:
        return 2
    act = config.get("mlp_hidden_act") or config.get("hidden_act") or "silu"
    return 2 if act in _UNGATED else 3


def _plain_width(config: Config) -> int:
    """Return the width of a feed-forward layer without experts."""
    return _width(config, "intermediate_size_mlp", "intermediate_size")


def _width(config: Config, own: str, common: str) -> int:
    """Return the width of feed-forward layers, from their own key or the common one."""
    width = config.get(own) or config.get(common)
    if not width:
        raise KeyError(common)
    return int(width)


def _shared_width(config: Config) -> int:
    """Return the width of the shared experts, which every token computes."""
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
    windows, window_tokens = _windows(config, layers)
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
    """Return DeepSeek's attention, in which heads share one compressed vector per token."""
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
    """Return the number of layers with experts, in a model that has some."""
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
    """Return the number of expert layers of an ERNIE: every n-th in a range."""
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


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """Return the number of layers with a window, and its tokens.

    Args:
        config: The language model's part of `config.json`.
        layers: Layers with attention.
    """
    model_type, window = str(config.get("model_type", "")), int(config.get("sliding_window") or 0)
    by_default = not model_type.startswith(_OFF_BY_DEFAULT)
    used = config.get("use_sliding_window", by_default)
    if not window or used is False or (used is None and not by_default):
        return 0, 0
    kinds = config.get("layer_types")
    if kinds:
        return sum(kind == "sliding_attention" for kind in kinds), window
    if pattern := config.get("sliding_window_pattern"):
        return _local_layers(pattern, layers), window
    return _layers_by_type(model_type, config, layers), window


def _layers_by_type(model_type: str, config: Mapping[str, Any], layers: int) -> int:
    """Return the number of layers with a window where only the model type defines it."""
    if default := _FIRST_WINDOW_LAYER.get(model_type):
        return layers - _bound(config, default, layers)
    match model_type:
        case "gpt_oss" | "gemma2":
            return layers // 2
        case "gemma3" | "gemma3_text":
            return layers - layers // 6
        case "qwen2_moe":
            return (_bound(config, _QWEN2_MOE_WINDOW_LAYERS, layers) + 1) // 2
        case _:
            return layers


def _bound(config: Mapping[str, Any], default: int, layers: int) -> int:
    """Return `max_window_layers` or its default, at most the number of layers."""
    stated = config.get("max_window_layers")
    return min(default if stated is None else int(stated), layers)


def _local_layers(pattern: int | str, layers: int) -> int:
    """Return the number of layers with a window: all but every n-th, or the L of LLLG and the like.

    The text repeats, and the last layer always sees the whole context (EXAONE-4).
    """
    if isinstance(pattern, int):
        return layers - layers // pattern
    return sum(pattern[place % len(pattern)] == "L" for place in range(layers - 1))
