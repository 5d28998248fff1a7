"""The layers that see a window are those of transformers."""

from __future__ import annotations

from typing import Any

import pytest

from steppe.roofline.architecture.config_json import shape_of

MODEL: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 11008,
    "vocab_size": 151936,
    "sliding_window": 4096,
}


def _window_layers(model_type: str, **more: Any) -> int:
    return shape_of("x", {**MODEL, "model_type": model_type, **more}).attention.window_layers


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "qwen2_5_vl", "qwen2_moe", "qwen3_moe"])
@pytest.mark.parametrize("more", [{}, {"use_sliding_window": None}, {"use_sliding_window": False}])
def test_a_qwen_has_no_window_by_default(model_type: str, more: dict[str, Any]) -> None:
    assert _window_layers(model_type, **more) == 0
    kinds = ["sliding_attention"] * 32
    assert _window_layers(model_type, layer_types=kinds, **more) == 0


@pytest.mark.parametrize(
    ("model_type", "first", "window_layers"),
    [
        ("qwen2", 32, 0),
        ("qwen2", 40, 0),
        ("qwen2", 16, 16),
        ("qwen3", 28, 4),
        ("qwen2_vl", 24, 8),
        ("qwen2_moe", 16, 8),
        ("qwen2_moe", 15, 8),
        ("qwen3_moe", 32, 32),
    ],
)
def test_the_layers_before_max_window_layers_see_all(
    model_type: str, first: int, window_layers: int
) -> None:
    said = {"use_sliding_window": True, "max_window_layers": first}
    assert _window_layers(model_type, **said) == window_layers


@pytest.mark.parametrize(
    ("model_type", "window_layers"),
    [("qwen2", 4), ("qwen3", 4), ("qwen2_5_vl", 0), ("qwen2_moe", 14)],
)
def test_without_max_window_layers_it_is_that_of_the_class(
    model_type: str, window_layers: int
) -> None:
    for more in ({}, {"max_window_layers": None}):
        assert _window_layers(model_type, use_sliding_window=True, **more) == window_layers


def test_a_mistral_slides_in_every_layer_without_a_word() -> None:
    assert _window_layers("mistral") == 32
