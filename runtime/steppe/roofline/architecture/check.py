"""Is a Hugging Face `config.json` that of a decoder, with plausible numbers?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
_FURTHER_SIZES = (
    "attention_head_dim",
    "conv_kernel",
    "decoder_sparse_step",
    "experts_per_token",
    "first_k_dense_replace",
    "head_dim",
    "interleave_moe_layer_step",
    "intermediate_size",
    "intermediate_size_mlp",
    "kv_lora_rank",
    "mamba_head_dim",
    "mamba_num_heads",
    "max_position_embeddings",
    "max_window_layers",
    "moe_intermediate_size",
    "moe_k",
    "moe_layer_interval",
    "moe_layer_start_index",
    "moe_num_experts",
    "moe_num_shared_experts",
    "moe_shared_expert_intermediate_size",
    "n_groups",
    "n_routed_experts",
    "n_shared_experts",
    "num_dense_layers",
    "num_experts",
    "num_experts_per_tok",
    "num_key_value_heads",
    "num_local_experts",
    "num_shared_experts",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "shared_expert_intermediate_size",
    "sliding_window",
    "ssm_state_size",
    "v_head_dim",
)
"""Sizes that a config may leave out, or have as null or 0."""
_LISTS = ("layer_types", "mlp_only_layers")
_MAPPINGS = ("quantization_config", "rope_parameters", "rope_scaling")
_LAYER_KINDS = ("full_attention", "sliding_attention", "chunked_attention")
_UNREAD = (
    "attn_layer_indices",
    "attn_layer_period",
    "attn_type_list",
    "block_configs",
    "ffn_dim",
    "full_attention_interval",
    "global_head_dim",
    "hidden_size_per_layer_input",
    "index_topk",
    "linear_attn_config",
    "mamba_d_state",
    "moe_latent_size",
    "multi_query",
    "per_layer_config",
)
"""Keys of decoders whose layers, heads or widths only their own code defines."""
LARGEST = 1_000_000_000
"""Largest size of anything in a model."""
_NOT_DECODERS = (
    r"(xlm-)?roberta(-xl)?|(conv|distil|mobile|modern|nomic_|al)?bert|camembert|deberta(-v2)?|electra|"
    r"ernie|flaubert|funnel|layoutlm|longformer|mpnet|[mu]?t5|m?bart|(bigbird_)?pegasus|led|marian|"
    r"m2m_100|whisper|wav2vec2|clip|siglip|vit"
)
"""Model types that are not decoders: encoders, and those with both."""


def check_model(config: Mapping[str, Any]) -> None:
    """Check the keys that the shape of a model is read from.

    An unknown type is taken for a decoder like Llama if it has the sizes of one.

    Args:
        config: The whole `config.json`, the language model's part on top.

    Raises:
        KeyError: A size is missing.
        ValueError: It is not a decoder, or a value is invalid; the message names the key.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or re.fullmatch(_NOT_DECODERS, kind.lower()):
        raise ValueError(f"model_type: asked for a decoder such as llama, found {_shown(kind)}")
    if config.get("is_encoder_decoder") is True:
        raise ValueError("is_encoder_decoder: asked for a decoder alone, found true")
    for key in _UNREAD:
        if config.get(key):
            raise ValueError(
                f"{key}: asked for a decoder such as llama, found {_shown(config[key])}"
            )
    for key in _SIZES:
        _require_size(key, config[key], least=1)
    for key in _FURTHER_SIZES:
        if config.get(key) is not None:
            _require_size(key, config[key], least=0)
    if config.get("moe_layer_end_index") is not None:
        _require_size("moe_layer_end_index", config["moe_layer_end_index"], least=-1)
    for key in _LISTS:
        if not isinstance(config.get(key) or [], list | tuple):
            raise ValueError(f"{key}: asked for a list, found {_shown(config[key])}")
    for key in _MAPPINGS:
        if not isinstance(config.get(key) or {}, Mapping):
            raise ValueError(f"{key}: asked for a mapping, found {_shown(config[key])}")
    _check_layers(config)


def _check_layers(config: Mapping[str, Any]) -> None:
    """Check the keys that define the layers one by one."""
    kinds, pattern = config.get("layer_types"), config.get("hybrid_override_pattern")
    for kind in kinds or ():
        if kind not in _LAYER_KINDS:
            asked = ", ".join(_LAYER_KINDS)
            raise ValueError(f"layer_types: asked for {asked}, found {_shown(kind)}")
    if pattern and not (isinstance(pattern, str) and re.fullmatch("[M*E-]+", pattern)):
        asked = "a text of M, *, E and -"
        raise ValueError(f"hybrid_override_pattern: asked for {asked}, found {_shown(pattern)}")
    if config.get("layers_block_type") and not pattern:
        raise KeyError("hybrid_override_pattern")
    if not kinds:
        _check_window_pattern(config.get("sliding_window_pattern"))
    if config.get("moe_layer_freq") not in (None, 0, 1):
        raise ValueError(f"moe_layer_freq: asked for 1, found {_shown(config['moe_layer_freq'])}")
    if pattern and not {"M", "*"} & set(pattern):
        asked = "a layer with attention or a state"
        raise ValueError(f"hybrid_override_pattern: asked for {asked}, found {_shown(pattern)}")
    layers = config["num_hidden_layers"]
    for key, listed in (("layer_types", kinds), ("hybrid_override_pattern", pattern)):
        if listed and len(listed) != layers:
            raise ValueError(f"{key}: asked for {layers} layers, found {len(listed)}")


def _check_window_pattern(pattern: Any) -> None:
    """Check which layers see a window: all but every n-th, or a text such as LLLG."""
    if isinstance(pattern, str):
        if not re.fullmatch("[LG]+", pattern):
            asked = "a number or a text of L and G"
            raise ValueError(f"sliding_window_pattern: asked for {asked}, found {_shown(pattern)}")
    elif pattern is not None:
        _require_size("sliding_window_pattern", pattern, least=0)


def _require_size(key: str, found: Any, least: int) -> None:
    if type(found) is not int or not least <= found <= LARGEST:
        asked = f"a whole number from {least} to {LARGEST:,}"
        raise ValueError(f"{key}: asked for {asked}, found {_shown(found)}")


def _shown(found: Any) -> str:
    if found is None:
        return "nothing"
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:60]}..."
