"""Models that are not quite like Llama: each is read rightly or refused."""

from __future__ import annotations

from typing import Any

import pytest

from steppe.errors import ModelError
from steppe.roofline.architecture.config_json import longest_context_of, shape_of

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
        ({"index_topk": 2048}, "index_topk: asked for a decoder such as llama, found 2048"),
        ({"moe_latent_size": 1024}, "moe_latent_size: asked for a decoder such as llama"),
        ({"global_head_dim": 512}, "global_head_dim: asked for a decoder such as llama, found 512"),
        ({"per_layer_config": {"5": {"head_dim": 512}}}, "per_layer_config: asked for a decoder"),
        ({"hidden_size_per_layer_input": 256}, "hidden_size_per_layer_input: asked for a decoder"),
        ({"layer_types": ["conv"] * 32}, "layer_types: asked for full_attention, sl.*'conv'"),
        ({"layer_types": [None] * 32}, "layer_types: asked for full_attention, .*, found nothing"),
        ({"layers_block_type": ["mamba"] * 32}, "hybrid_override_pattern: missing"),
        ({"hybrid_override_pattern": "M-X*" * 8}, "hybrid_override_pattern: asked for a text of M"),
        ({"hybrid_override_pattern": "-" * 32}, "hybrid_override_pattern: asked for a layer with"),
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


@pytest.mark.parametrize(
    ("pattern", "window_layers"), [("LLLG", 24), ("L", 31), (4, 24), (0, 32), (None, 32)]
)
def test_a_window_pattern_is_a_number_or_a_text(pattern: Any, window_layers: int) -> None:
    config = {**LLAMA, "sliding_window": 4096, "sliding_window_pattern": pattern}
    assert shape_of("x", config).attention.window_layers == window_layers


def test_a_window_pattern_beside_a_list_of_layers_does_not_count() -> None:
    kinds = ["sliding_attention"] * 20 + ["full_attention"] * 12
    config = {**LLAMA, "sliding_window": 4096, "layer_types": kinds}
    for pattern in ("LLLG", "other", 4):
        shape = shape_of("x", {**config, "sliding_window_pattern": pattern})
        assert shape.attention.window_layers == 20


@pytest.mark.parametrize("pattern", ["LLX", "", [4], -1, True])
def test_another_window_pattern_is_refused(pattern: Any) -> None:
    config = {**LLAMA, "sliding_window": 4096, "sliding_window_pattern": pattern}
    with pytest.raises(ModelError, match="sliding_window_pattern: asked for a "):
        shape_of("x", config)


NEMOTRON_NANO: dict[str, Any] = {
    "model_type": "nemotron_h",
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "mlp_hidden_act": "relu2",
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "conv_kernel": 4,
    "tie_word_embeddings": False,
    "vocab_size": 131072,
}
ERNIE_21B: dict[str, Any] = {
    "model_type": "ernie4_5_moe",
    "hidden_act": "silu",
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "moe_k": 6,
    "moe_layer_interval": 1,
    "moe_layer_start_index": 1,
    "moe_num_experts": 64,
    "moe_num_shared_experts": 2,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "num_hidden_layers": 28,
    "tie_word_embeddings": True,
    "vocab_size": 103424,
}


@pytest.mark.parametrize(
    ("config", "billions", "expert_layers"),
    [(NEMOTRON_NANO, 31.6, 23), (ERNIE_21B, 21.9, 27)],
    ids=["nemotron-3-nano-30b-a3b", "ernie-4.5-21b-a3b"],
)
def test_experts_under_other_keys_are_counted(
    config: dict[str, Any], billions: float, expert_layers: int
) -> None:
    shape = shape_of("x", config)
    assert shape.params / 1e9 == pytest.approx(billions, rel=0.005)
    assert shape.experts.layers == expert_layers


@pytest.mark.parametrize(
    ("change", "expert_layers"),
    [
        ({"moe_layer_start_index": 3}, 25),
        ({"moe_layer_interval": 2}, 14),
        ({"moe_layer_interval": 2, "moe_layer_start_index": 2, "moe_layer_end_index": 24}, 11),
        ({"moe_layer_end_index": -1}, 27),
        ({"moe_layer_end_index": 9}, 9),
        ({"moe_layer_end_index": 99}, 27),
        ({"moe_layer_start_index": None, "moe_layer_interval": None}, 27),
    ],
)
def test_an_ernie_has_experts_in_every_nth_layer_of_some(
    change: dict[str, Any], expert_layers: int
) -> None:
    assert shape_of("x", {**ERNIE_21B, **change}).experts.layers == expert_layers


def test_expert_layers_of_a_hybrid_need_experts() -> None:
    with pytest.raises(ModelError, match="n_routed_experts: missing"):
        shape_of("x", _without(NEMOTRON_NANO, "n_routed_experts"))


def test_expert_layers_listed_one_by_one_are_refused() -> None:
    config = {**NEMOTRON_NANO, "moe_layer_freq": [0] + [1] * 51}
    with pytest.raises(ModelError, match=r"moe_layer_freq: asked for 1, found \[0, 1, "):
        shape_of("x", config)


PYTHIA: dict[str, Any] = {
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "tie_word_embeddings": False,
    "vocab_size": 50432,
}
STARCODER: dict[str, Any] = {
    "model_type": "starcoder2",
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 4608,
    "intermediate_size": 18432,
    "num_attention_heads": 36,
    "num_key_value_heads": 4,
    "num_hidden_layers": 32,
    "vocab_size": 49152,
}
GEMMA_1: dict[str, Any] = {
    "model_type": "gemma",
    "hidden_act": "gelu",
    "head_dim": 256,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "vocab_size": 256000,
}
COMMAND_R: dict[str, Any] = {
    "model_type": "cohere",
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "num_attention_heads": 64,
    "num_hidden_layers": 40,
    "vocab_size": 256000,
}


@pytest.mark.parametrize(
    ("config", "billions"),
    [(PYTHIA, 6.86), (STARCODER, 7.17), (GEMMA_1, 8.54), (COMMAND_R, 35.0)],
    ids=["pythia-6.9b", "starcoder2-7b", "gemma-7b", "command-r"],
)
def test_the_model_type_completes_the_keys(config: dict[str, Any], billions: float) -> None:
    assert shape_of("x", config).params / 1e9 == pytest.approx(billions, rel=0.005)


GEMMA_3_4B: dict[str, Any] = {
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}
LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "text_config": {"max_position_embeddings": 4096, "model_type": "llama", "vocab_size": 32064},
}


@pytest.mark.parametrize(
    ("config", "billions", "context_tokens"),
    [(GEMMA_3_4B, 3.88, 131072), (LLAVA, 6.74, 4096)],
    ids=["gemma-3-4b", "llava-1.5-7b"],
)
def test_a_language_model_inside_another_may_leave_out_what_its_class_has(
    config: dict[str, Any], billions: float, context_tokens: int
) -> None:
    assert shape_of("x", config).params / 1e9 == pytest.approx(billions, rel=0.005)
    assert longest_context_of("x", config) == context_tokens


def test_a_plain_language_model_gets_no_defaults_of_another() -> None:
    with pytest.raises(ModelError, match="num_attention_heads: missing"):
        shape_of("x", GEMMA_3_4B["text_config"] | {"vocab_size": 262208})


def test_heads_and_states_of_no_size_are_refused() -> None:
    with pytest.raises(ModelError, match="head_dim: missing, and 32 heads have no part in 16"):
        shape_of("x", {**LLAMA, "hidden_size": 16})
    states = {**NEMOTRON_NANO, "conv_kernel": 0, "ssm_state_size": 0}
    states |= {"hybrid_override_pattern": "M" * 52}
    with pytest.raises(ModelError, match="ssm_state_size: asked for a state, found one of 0 bytes"):
        shape_of("x", states)
