"""Turn the weights and settings of a llama GGUF file into Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import InstallError, ModelError
from steppe.models.bfloat16 import Bits, to_bfloat16

Metadata = Mapping[str, Any]
"""The key-value part of a GGUF file."""

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_gguf(path: Path) -> tuple[Metadata, dict[str, Bits]]:
    """Read a llama GGUF file.

    Returns:
        The metadata, and the weights in bfloat16 under their Hugging Face names.

    Raises:
        InstallError: The package `gguf` is missing.
        ModelError: The file is no GGUF, or holds another architecture or other tensors.
    """
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: asked for a GGUF file: {error}") from error
    meta = {key: field.contents() for key, field in reader.fields.items()}
    architecture = meta.get("general.architecture")
    if architecture != "llama":
        raise ModelError(f"{path}: asked for the architecture llama, found {architecture}")
    heads = {
        "attn_q": meta["llama.attention.head_count"],
        "attn_k": meta["llama.attention.head_count_kv"],
    }
    weights = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        # GGUF lists dimensions from the fastest to the slowest.
        values = values.reshape([int(size) for size in reversed(tensor.shape)])
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = unpermute(values, heads[part])
        weights[hugging_face_name(tensor.name)] = to_bfloat16(values)
    return meta, weights


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        message = "converting a model needs the package gguf, found none: install steppe[cpu]"
        raise InstallError(message) from error
    return gguf


def hugging_face_name(name: str) -> str:
    """Translate a tensor's GGUF name.

    Raises:
        ModelError: No llama tensor has this name.
    """
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    match name.split("."):
        case ["blk", layer, part, kind] if part in LAYER_NAMES:
            return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"
        case _:
            raise ModelError(f"asked for the tensors of a llama model, found {name!r}")


def unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo the row order that llama.cpp gives q_proj and k_proj for its rotary embedding.

    Per head, llama.cpp interleaves the first and the second half of the rows
    (`LlamaModel.permute` in its converter); Hugging Face keeps the halves apart.

    Args:
        weight: Shape (heads x head size, hidden size).
        heads: Heads of this projection: query heads for q, key-value heads for k.
    """
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def llama_config(meta: Metadata, *, tied: bool) -> dict[str, Any]:
    """Return `config.json` of the model.

    Args:
        meta: Metadata of the GGUF file.
        tied: The output layer uses the embedding's weights.
    """
    heads = meta["llama.attention.head_count"]
    hidden_size = meta["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": meta["llama.vocab_size"],
        "hidden_size": hidden_size,
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": hidden_size // heads,
        "max_position_embeddings": meta["llama.context_length"],
        # Stored as float32: six digits give back the number that was meant, 1e-05.
        "rms_norm_eps": float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": float(meta["llama.rope.freq_base"]),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"],
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
    }
