"""Rebuild the tokenizer of a GGUF file as Hugging Face's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steppe.errors import ModelError
from steppe.models.gguf_weights import Metadata

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL_TOKEN = 3
"""GGUF's token type of tokens such as `<|im_start|>`."""


def smollm_tokenizer(meta: Metadata) -> Tokenizer:
    """Rebuild a byte-level BPE with the pre-tokenizer `smollm`.

    `smollm` splits off single digits first and then splits like GPT-2, so "1234" is four
    tokens. transformers' own GGUF loader does not split digits, and its token counts differ.

    Raises:
        ModelError: The file holds another kind of tokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ModelError(f"asked for a tokenizer of kind ('gpt2', 'smollm'), found {kind}")
    tokens = meta["tokenizer.ggml.tokens"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2])
    tokenizer.decoder = decoders.ByteLevel()
    types = meta["tokenizer.ggml.token_type"]
    control = [t for t, type_ in zip(tokens, types, strict=True) if type_ == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    return tokenizer


def tokenizer_config(meta: Metadata) -> dict[str, Any]:
    """Return `tokenizer_config.json`: class, special tokens, chat template."""
    tokens = meta["tokenizer.ggml.tokens"]
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    special = {
        f"{role}_token": tokens[meta[f"tokenizer.ggml.{name}_token_id"]]
        for role, name in roles.items()
    }
    return {
        # Not GPT2Tokenizer: that class may rebuild the pre-tokenizer without the digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta["llama.context_length"],
        **special,
        "clean_up_tokenization_spaces": False,
        "chat_template": meta["tokenizer.chat_template"],
    }
