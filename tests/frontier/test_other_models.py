"""Models that are not quite like Llama: each is read rightly or refused."""

from __future__ import annotations

from typing import Any

import pytest

from steppe.errors import ModelError
from steppe.frontier.model_config import shape_of

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
FALCON_7B: dict[str, Any] = {
    "model_type": "falcon",
    "hidden_size": 4544,
    "multi_query": True,
    "num_attention_heads": 71,
    "num_hidden_layers": 32,
    "vocab_size": 65024,
}


def _without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"multi_query": True}, "multi_query: asked for a decoder such as llama, found True"),
        ({"ffn_dim": 16384}, "ffn_dim: asked for a decoder such as llama, found 16384"),
        ({"block_configs": [{}]}, r"block_configs: asked for a decoder such as llama, found \[{}"),
        ({"attn_layer_period": 8}, "attn_layer_period: asked for a decoder such as llama"),
        ({"full_attention_interval": 4}, "full_attention_interval: asked for a decoder such as"),
        ({"mamba_d_state": 128}, "mamba_d_state: asked for a decoder such as llama, found 128"),
        ({"moe_latent_size": 1024}, "moe_latent_size: asked for a decoder such as llama"),
        ({"layer_types": ["conv"] * 32}, "layer_types: asked for full_attention, sl.*'conv'"),
        ({"layer_types": [None] * 32}, "layer_types: asked for full_attention, .*, found nothing"),
        ({"layers_block_type": ["mamba"] * 32}, "hybrid_override_pattern: missing"),
        ({"hybrid_override_pattern": "M-X*" * 8}, "hybrid_override_pattern: asked for a text of M"),
        ({"hybrid_override_pattern": ["M"] * 32}, "hybrid_override_pattern: asked for a text of M"),
    ],
)
def test_layers_that_only_the_models_own_code_knows_are_refused(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=f"config of x: {said}"):
        shape_of("x", {**LLAMA, **change})


@pytest.mark.parametrize(
    "config",
    [
        _without(FALCON_7B, "multi_query"),
        _without(LLAMA, "intermediate_size"),
        {**LLAMA, "intermediate_size": None},
        {**_without(LLAMA, "intermediate_size"), "num_local_experts": 8, "num_experts_per_tok": 2},
    ],
)
def test_a_decoder_without_a_width_of_its_feed_forward_layers_is_refused(
    config: dict[str, Any],
) -> None:
    with pytest.raises(ModelError, match="config of x: intermediate_size: missing"):
        shape_of("x", config)


@pytest.mark.parametrize("listed", [31, 33])
def test_a_list_of_layers_that_is_not_one_for_each_is_refused(listed: int) -> None:
    kinds = {"layer_types": ["full_attention"] * listed, "sliding_window": 128}
    with pytest.raises(ModelError, match=f"layer_types: asked for 32 layers, found {listed}"):
        shape_of("x", {**LLAMA, **kinds})
    with pytest.raises(ModelError, match=f"pattern: asked for 32 layers, found {listed}"):
        shape_of("x", {**LLAMA, "hybrid_override_pattern": "*" * listed})
