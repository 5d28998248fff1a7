"""Settings of a transformers engine; imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass, replace

CACHE_TOKENS = 16384
"""Tokens in the KV cache by default."""


@dataclass(frozen=True, slots=True)
class TransformersSettings:
    """Settings of one transformers engine.

    Attributes:
        model: Folder or Hugging Face id.
        served_name: Model name in requests.
        max_model_len: Longest prompt + output, tokens; None: the model's own.
        max_batch_limit: Largest batch limit that may ever be set.
        max_tokens_per_step: Most tokens in one step.
        kv_cache_bytes: Size of the KV cache, bytes; None: that of 16384 tokens.
        cores: CPU cores of this engine; empty: no restriction.
    """

    model: str
    served_name: str
    max_model_len: int | None = None
    max_batch_limit: int = 64
    max_tokens_per_step: int = 256
    kv_cache_bytes: int | None = None
    cores: tuple[int, ...] = ()

    def on(self, folder: str, cores: tuple[int, ...]) -> TransformersSettings:
        """Return these settings for a model folder and CPU cores of one node."""
        return replace(self, model=folder, cores=cores)
