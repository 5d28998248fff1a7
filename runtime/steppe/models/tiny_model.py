"""Write a tiny model with random weights, to try engines and fleets without a download.

Its text is noise. Its steps take about a millisecond on one core, so what a test then measures
is the machinery around the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.models.bfloat16 import Bits, to_bfloat16, write_safetensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = 512
HIDDEN = 128
INTERMEDIATE = 256
LAYERS = 4
QUERY_HEADS = 4
KV_HEADS = 2
HEAD_SIZE = 64
CONTEXT = 2048

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SENTENCES = (
    "The wind comes over the steppe in the morning and turns the blades until the evening.",
    "When the sun stands high, the panels give more power than the machines can use.",
    "A battery keeps what is left over and gives it back when the clouds hide the light.",
    "Every request waits for its turn, and every answer costs some energy.",
    "At night the clocks run slower, fewer replicas are awake, and the queue grows longer.",
    "Grass bends, cranes turn above the river, and the snow melts on the southern slope.",
    "The controller reads the meters once a second and decides how fast each of them may run.",
    "Nothing is wasted that can be stored, and nothing is stored that can be used at once.",
    "Somebody asked how many tokens one joule buys; the answer depends on the hour.",
    "Tomorrow there will be rain, little wind, and a long list of prompts to read.",
)


def write_tiny_model(folder: Path, seed: int) -> Path:
    """Write a Qwen3 model of 0.85 million random parameters as a Hugging Face folder.

    Byte-level BPE of 512 tokens, ChatML template, 4 layers, hidden size 128, context of 2048
    tokens, bfloat16; 1.8 MB. The same seed gives the same files.

    Args:
        folder: Where to write; made if absent.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _train_tokenizer().save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", dict(_weights(np.random.default_rng(seed))))
    settings = {
        "config.json": _config(),
        "generation_config.json": {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT,
            "bos_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[2],
            "pad_token": SPECIAL_TOKENS[2],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, values in settings.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n")
    return folder


def _train_tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def _config() -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": QUERY_HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }


def _weights(rng: np.random.Generator) -> Iterator[tuple[str, Bits]]:
    """Yield random matrices of standard deviation 0.05, and norms of one."""
    query, kv = QUERY_HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (HIDDEN,),
        "self_attn.q_proj": (query, HIDDEN),
        "self_attn.k_proj": (kv, HIDDEN),
        "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, query),
        "self_attn.q_norm": (HEAD_SIZE,),
        "self_attn.k_norm": (HEAD_SIZE,),
        "post_attention_layernorm": (HIDDEN,),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }
    tensors = {
        f"model.layers.{layer}.{part}.weight": shape
        for layer in range(LAYERS)
        for part, shape in shapes.items()
    }
    tensors["model.embed_tokens.weight"] = (VOCABULARY, HIDDEN)
    tensors["model.norm.weight"] = (HIDDEN,)
    for name, shape in tensors.items():
        values = np.ones(shape) if len(shape) == 1 else rng.normal(0.0, 0.05, shape)
        yield name, to_bfloat16(values.astype(np.float32))
