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
MIXTRAL = {**LLAMA, "model_type": "mixtral", "vocab_size": 32000}
MIXTRAL |= {"num_local_experts": 8, "num_experts_per_tok": 2}
QWEN_MOE: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "moe_intermediate_size": 768,
    "intermediate_size": 6144,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2880,
    "num_local_experts": 32,
    "experts_per_token": 4,
    "vocab_size": 201088,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4"},
}
LING_LITE: dict[str, Any] = {
    "model_type": "bailing_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "moe_intermediate_size": 1408,
    "intermediate_size": 5632,
    "num_experts": 64,
    "num_experts_per_tok": 6,
    "num_shared_experts": 2,
    "first_k_dense_replace": 0,
    "vocab_size": 126464,
}


@pytest.mark.parametrize(
    ("config", "billions"),
    [(LLAMA, 8.03), (MIXTRAL, 46.7), (QWEN_MOE, 30.5), (GPT_OSS, 20.9), (LING_LITE, 16.8)],
    ids=["llama", "mixtral", "qwen3-moe", "gpt-oss", "ling-lite"],
)
def test_a_config_gives_the_published_number_of_parameters(
    config: dict[str, Any], billions: float
) -> None:
    assert shape_of("x", config).params / 1e9 == pytest.approx(billions, rel=0.005)


def test_grouped_heads_shrink_the_cache() -> None:
    grouped = shape_of("x", LLAMA).sequence_bytes(1000)
    full = shape_of("x", {**LLAMA, "num_key_value_heads": 32}).sequence_bytes(1000)
    assert grouped == 1000 * 2 * 8 * 128 * 2 * 32
    assert full == 4 * grouped


def test_without_kv_heads_every_head_has_its_own() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert shape_of("x", config).attention.kv_heads == 32


def test_tied_embeddings_count_once() -> None:
    untied = shape_of("x", LLAMA)
    tied = shape_of("x", {**LLAMA, "tie_word_embeddings": True})
    assert untied.params - tied.params == 128256 * 4096


def test_gemma_ties_its_embeddings_by_default() -> None:
    config = {**LLAMA, "model_type": "gemma3_text"}
    assert shape_of("x", config).embedding_params == 0


def test_a_window_bounds_the_cache_of_its_layers() -> None:
    shape = shape_of("x", GPT_OSS)
    assert shape.attention.window_layers == 12
    grown = shape.sequence_bytes(2000) - shape.sequence_bytes(1000)
    assert grown == 1000 * 12 * shape.attention.kv_bytes


def test_experts_of_four_bits_weigh_little() -> None:
    assert shape_of("x", GPT_OSS).weight_bytes / 1e9 == pytest.approx(13.7, rel=0.02)


def test_a_model_that_also_sees_is_read_by_its_text_part() -> None:
    assert shape_of("x", {"model_type": "gemma3", "text_config": LLAMA}).params == (
        shape_of("x", LLAMA).params
    )


def test_some_layers_of_a_mixture_may_be_dense() -> None:
    shape = shape_of("x", {**QWEN_MOE, "mlp_only_layers": [0, 1]})
    assert shape.experts.layers == 46
    assert shape.dense_params > shape_of("x", QWEN_MOE).dense_params


def test_the_first_layers_of_an_afmoe_are_dense() -> None:
    config = {**QWEN_MOE, "model_type": "afmoe", "num_dense_layers": 2}
    assert shape_of("x", config).experts.layers == 46


def test_deepseek_caches_one_latent_vector() -> None:
    config = {**LLAMA, "model_type": "deepseek_v3", "kv_lora_rank": 512, "q_lora_rank": 1536}
    config |= {"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    shape = shape_of("x", config)
    assert shape.attention.kv_bytes == 2 * (512 + 64)
    assert shape.attention.kv_heads == 1


def test_a_mamba_layer_keeps_a_state_of_fixed_size() -> None:
    config = {**LLAMA, "hybrid_override_pattern": "M-M-*-M-", "num_hidden_layers": 8}
    config |= {"mamba_num_heads": 8, "mamba_head_dim": 64, "ssm_state_size": 16}
    config |= {"n_groups": 2, "conv_kernel": 4}
    shape = shape_of("x", config)
    assert shape.states.layers == 3
    assert shape.attention.all_layers == 1
    assert shape.sequence_bytes(0) == 3 * shape.states.state_bytes


@pytest.mark.parametrize(
    ("quantisation", "dense_bytes", "fp8"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 1.0, 1.0),
        ({"quant_method": "awq", "bits": 4}, 0.5625, 0.0),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 1.0, 1.0),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}},
            },
            1.0,
            0.0,
        ),
    ],
    ids=["block fp8", "awq", "modelopt", "int8"],
)
def test_a_quantisation_is_read(
    quantisation: dict[str, Any], dense_bytes: float, fp8: float
) -> None:
    precision = shape_of("x", {**LLAMA, "quantization_config": quantisation}).precision
    assert (precision.dense_bytes, precision.dense_fp8) == (dense_bytes, fp8)


def test_attention_that_was_not_quantised_stays_large() -> None:
    quantisation = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["a.self_attn.q_proj"]}
    precision = shape_of("x", {**LLAMA, "quantization_config": quantisation}).precision
    assert 1.1 < precision.dense_bytes < 1.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": None}, "config of x"),
        ({"quantization_config": {"quant_method": "magic"}}, "magic"),
        ({"torch_dtype": "int3"}, "int3"),
        ({"quantization_config": "fp8"}, "quantization_config: asked for a mapping, found 'fp8'"),
        (
            {"num_hidden_layers": 0},
            "num_hidden_layers: asked for a whole number from 1 .*, found 0",
        ),
        ({"num_hidden_layers": 32.5}, "num_hidden_layers: asked for a whole .*, found 32.5"),
        ({"num_hidden_layers": True}, "num_hidden_layers: asked for a whole .*, found True"),
        ({"hidden_size": "4096"}, "hidden_size: asked for a whole number .*, found '4096'"),
        ({"hidden_size": 10**400}, "hidden_size: asked for a whole number .*, found 10000"),
        ({"head_dim": [64]}, r"head_dim: asked for a whole number from 0 .*, found \[64\]"),
        ({"quantization_config": {"quant_method": "awq", "bits": "x"}}, "the bits of 'awq', f"),
        ({**MIXTRAL, "mlp_only_layers": [0] * 40}, "asked for expert layers, found -8 of 32"),
        ({"mlp_only_layers": 5}, "mlp_only_layers: asked for a list, found 5"),
        ({"model_type": "bert"}, "model_type: asked for a decoder such as llama, found 'bert'"),
        ({"model_type": None}, "model_type: asked for a decoder such as llama, found nothing"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder: asked for a decoder alone, found true"),
        ({"num_attention_heads": -4}, "num_attention_heads: asked for a whole number from 1"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "9 of 8"),
    ],
)
def test_a_bad_config_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        shape_of("x", {**LLAMA, **change})


def test_an_unknown_decoder_is_read_like_llama() -> None:
    assert shape_of("x", {**LLAMA, "model_type": "newcomer"}).params == shape_of("x", LLAMA).params


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ModelError, match="config of x: vocab_size: missing"):
        shape_of("x", {k: v for k, v in LLAMA.items() if k != "vocab_size"})


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"factor": 2.5}}, 10240),
        ({}, None),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_the_longest_context_is_that_of_the_config(
    config: dict[str, Any], tokens: int | None
) -> None:
    assert longest_context_of("model", {**LLAMA, **config}) == tokens


@pytest.mark.parametrize("counted", [32768, 131072])
def test_stretched_positions_are_counted_once(counted: int) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = {**LLAMA, "max_position_embeddings": counted, "rope_scaling": yarn}
    assert longest_context_of("model", config) == 131072


@pytest.mark.parametrize("value", ["long", [4096], {}])
def test_a_longest_context_that_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(ModelError, match="config of model: max_position_embeddings: "):
        longest_context_of("model", {**LLAMA, "max_position_embeddings": value})
