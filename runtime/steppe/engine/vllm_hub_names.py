"""What an engine may have to fetch from Hugging Face: offline only when all of it is local."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steppe.engine.vllm_adapters import adapters, read_value


def hub_names(model: str, args: Mapping[str, Any]) -> list[str]:
    """Return the Hugging Face ids that an engine loads; empty if all it needs is local.

    Args:
        model: Folder or Hugging Face id of the model.
        args: Further arguments of vLLM: adapters, a draft model, another tokenizer.
    """
    plain = {name.replace("-", "_"): value for name, value in args.items()}
    named = [model, *_named(plain)]
    return [name for name in named if not Path(name).expanduser().exists()] + _code_of_others(model)


def _named(args: Mapping[str, Any]) -> Iterator[str]:
    """Yield the models, tokenizers and adapters that the arguments name."""
    for name in ("tokenizer", "hf_config_path"):
        if isinstance(args.get(name), str):
            yield args[name]
    match read_value(args.get("speculative_config")):
        case {"model": str(draft)} if draft not in _METHODS:
            yield draft
    yield from adapters(args).values()
    match read_value(args.get("default_mm_loras")):
        case dict() as paths:
            yield from (str(path) for path in paths.values())


_METHODS = ("ngram", "ngram_gpu", "[ngram]", "suffix", "mtp")
"""Speculative methods that vLLM also takes as the name of the draft model."""


def _code_of_others(model: str) -> list[str]:
    """Return the repositories that a local `config.json` names for code, as `ID--file.Class`."""
    try:
        found = json.loads((Path(model).expanduser() / "config.json").read_text())
        classes = list(found.get("auto_map", {}).values())
    except (OSError, ValueError, AttributeError):
        return []
    return [name.partition("--")[0] for name in classes if isinstance(name, str) and "--" in name]
