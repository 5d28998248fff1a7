"""Which layers of a model see only a window, by its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OFF_BY_DEFAULT = ("qwen2", "qwen3", "smollm3")
"""How the types begin whose class in transformers has `use_sliding_window: false`."""
_FIRST_WINDOW_LAYER = {"qwen2": 28, "qwen3": 28, "dots1": 62}
_FIRST_WINDOW_LAYER |= {"qwen2_vl": 80, "qwen2_vl_text": 80}
_FIRST_WINDOW_LAYER |= {"qwen2_5_vl": 80, "qwen2_5_vl_text": 80}
"""Types whose layers from `max_window_layers` on see a window, and its default in transformers."""
_QWEN2_MOE_WINDOW_LAYERS = 28
"""Default of Qwen2MoeConfig, where every other layer before `max_window_layers` sees a window."""


def windows_of(config: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """Return how many layers see only a window, and how many tokens it has.

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
    """Return how many layers see a window where only the class of the model says it."""
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
    """Return `max_window_layers`, or its default, as far as there are layers."""
    said = config.get("max_window_layers")
    return min(default if said is None else int(said), layers)


def _local_layers(pattern: int | str, layers: int) -> int:
    """Return how many layers see a window: all but every n-th, or the L of a text such as LLLG.

    The text repeats, and the last layer sees all whatever it says (EXAONE-4).
    """
    if isinstance(pattern, int):
        return layers - layers // pattern
    return sum(pattern[place % len(pattern)] == "L" for place in range(layers - 1))
