from __future__ import annotations

from typing import Any

import pytest
import yaml

from steppe.config import shipped_config
from steppe.errors import ModelError
from steppe.roofline.architecture.weight_precision import (
    weight_assumptions,
    weight_precision,
)
from steppe.roofline.files import read_assumptions

CONFIG: dict[str, Any] = {"num_hidden_layers": 10}


def _dense_bytes(**quantisation: Any) -> float:
    """Return the mean size of a dense weight where attention has a quarter of them."""
    config = {**CONFIG, "quantization_config": {"quant_method": "fp8", **quantisation}}
    return weight_precision(config, 4000, 1000).dense_bytes


@pytest.mark.parametrize("key", ["modules_to_not_convert", "ignore", "exclude_modules"])
@pytest.mark.parametrize(
    "name", ["self_attn", "*self_attn*", "re:.*self_attn.*", "model.layers.*.self_attn.q_proj"]
)
def test_a_name_without_a_number_keeps_the_attention_of_all_layers(key: str, name: str) -> None:
    assert _dense_bytes(**{key: ["lm_head", name]}) == pytest.approx(1.25)


def test_a_name_with_a_number_keeps_the_attention_of_one_layer() -> None:
    names = ["model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.k_proj"]
    assert _dense_bytes(modules_to_not_convert=names) == pytest.approx(1.025)
    names += ["model.layers.7.self_attn*", r"re:.*layers\.9\.self_attn.*"]
    assert _dense_bytes(modules_to_not_convert=names) == pytest.approx(1.075)


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.encoder.layers.0.self_attn.q_proj",
        "model.vision_tower.encoder.layers.0.self_attn.q_proj",
        "re:vision_model.*self_attn",
        "re:.*visual.*self_attn",
        "multi_modal_projector.self_attn",
        "audio_tower.layers.1.self_attn",
    ],
)
def test_vision_and_audio_parts_do_not_count_as_the_language_model(name: str) -> None:
    assert _dense_bytes(ignore=[name]) == 1.0


def test_unquantised_attention_and_shared_experts_leave_all_dense_weights_in_16_bits() -> None:
    assert _dense_bytes(ignore=["re:.*self_attn", "re:.*shared_expert"]) == 2.0


@pytest.mark.parametrize("bits", [2, 3, 0, -4, 4.5, True, "4", None])
def test_unknown_bits_are_refused(bits: Any) -> None:
    groups = {"group_0": {"weights": {"num_bits": bits, "type": "int"}}}
    for quantisation in (
        {"quant_method": "gptq", "bits": bits},
        {"quant_method": "compressed-tensors", "config_groups": groups},
    ):
        with pytest.raises(ModelError, match="asked for 4, 8 or 16 as the bits of '"):
            _dense_bytes(**quantisation)


def test_sixteen_bits_are_no_quantisation() -> None:
    assert _dense_bytes(quant_method="gptq", bits=16) == 2.0


@pytest.mark.parametrize(("algorithm", "size"), [("NVFP4", 0.5625), ("FP8", 1.0)])
def test_modelopts_algorithm_names_the_bits(algorithm: str, size: float) -> None:
    assert _dense_bytes(quant_method="modelopt", quant_algo=algorithm) == size
    with pytest.raises(ModelError, match="the bits of 'modelopt'"):
        _dense_bytes(quant_method="modelopt", quant_algo="W4A16_AWQ")


def test_modelopts_method_may_name_the_bits() -> None:
    assert _dense_bytes(quant_method="modelopt_fp4", quant_algo="NVFP4") == 0.5625
    config = {**CONFIG, "quantization_config": {"quant_method": "modelopt_fp4"}}
    assert weight_precision(config, 4000, 1000).expert_fp4 == 1


def _group(bits: int, kind: str, *targets: str) -> dict[str, Any]:
    return {"weights": {"num_bits": bits, "type": kind}, "targets": list(targets)}


@pytest.mark.parametrize(
    ("bits", "kind", "found"),
    [
        (4, "int", "8-bit float and 4-bit int"),
        (4, "float", "8-bit float and 4-bit float"),
        (8, "int", "8-bit float and 8-bit int"),
    ],
)
def test_groups_of_modules_with_weights_of_several_sizes_are_refused(
    bits: int, kind: str, found: str
) -> None:
    groups = {
        "group_0": _group(8, "float", "re:.*self_attn.*"),
        "group_1": _group(bits, kind, "re:.*mlp.*"),
    }
    said = f"quantization_config.config_groups: asked for weights of one kind, found {found}$"
    with pytest.raises(ModelError, match=said):
        _dense_bytes(quant_method="compressed-tensors", config_groups=groups)


@pytest.mark.parametrize(
    "other",
    [
        _group(4, "int", "re:.*mlp.*"),
        _group(8, "float", "re:.*vision_tower.*", "re:.*audio.*"),
        _group(8, "int", "lm_head"),
    ],
    ids=["the same size", "what sees and hears", "the head"],
)
def test_groups_with_one_size_of_decoder_weights_are_read(
    other: dict[str, Any],
) -> None:
    mine = _group(4, "int", "re:.*self_attn.*")
    for groups in ({"group_0": mine, "group_1": other}, {"group_0": other, "group_1": mine}):
        assert _dense_bytes(quant_method="compressed-tensors", config_groups=groups) == 0.5625


def test_groups_that_are_all_beside_the_decoder_leave_it_as_it_was() -> None:
    groups = {"group_0": _group(8, "float", "re:.*vision_tower.*")}
    assert _dense_bytes(quant_method="compressed-tensors", config_groups=groups) == 2.0


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("dtype", ["float32", "float", "float16", "bfloat16", None])
def test_an_unquantised_weight_has_16_bits_in_memory(key: str, dtype: str | None) -> None:
    precision = weight_precision({**CONFIG, key: dtype}, 4000, 1000)
    assert (precision.dense_bytes, precision.expert_bytes) == (2.0, 2.0)


WEIGHTS = {"num_bits": 8, "type": "float", "strategy": "channel"}


@pytest.mark.parametrize(
    ("quantisation", "assumed"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, []),
        ({"quant_method": "fp8"}, ["weight_block_size"]),
        ({"quant_method": "gptq", "bits": 4}, []),
        ({"quant_method": "awq"}, ["bits"]),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, []),
        ({"quant_method": "bitsandbytes"}, ["load_in_4bit"]),
        ({"quant_method": "compressed-tensors"}, ["config_groups"]),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": WEIGHTS}}},
            [],
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {}}}},
            [f"config_groups.weights.{name}" for name in ("num_bits", "type", "strategy")],
        ),
    ],
)
def test_each_value_that_a_config_leaves_open_is_named(
    quantisation: dict[str, Any], assumed: list[str]
) -> None:
    config = {**CONFIG, "quantization_config": quantisation}
    lines = weight_assumptions(config)
    assert [line.split(": ")[0] for line in lines] == [f"quantization_config.{a}" for a in assumed]


def test_no_shipped_model_leaves_its_precision_open() -> None:
    models = yaml.safe_load(shipped_config("models.yaml").read_text())["models"]
    assert not [line for name in models for line in read_assumptions(name)]


def test_compressed_tensors_may_have_a_scale_for_each_block() -> None:
    for strategy, scaled in (("channel", 0), ("block", 1)):
        weights = {**WEIGHTS, "strategy": strategy}
        groups = {"group_0": {"weights": weights}}
        quantisation = {"quant_method": "compressed-tensors", "config_groups": groups}
        config = {**CONFIG, "quantization_config": quantisation}
        assert weight_precision(config, 4000, 1000).block_scaled == scaled
