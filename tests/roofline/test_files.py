from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from steppe.config import shipped_config
from steppe.errors import ConfigError, ModelError
from steppe.roofline.files import (
    read_calibration,
    read_gpu_spec,
    read_model_shape,
    read_residuals,
    spec_name,
)

GPUS = sorted(path.stem for path in shipped_config("gpus").glob("*.yaml"))
MODELS = yaml.safe_load(shipped_config("models.yaml").read_text())["models"]
PUBLISHED_B = {
    "llama-3.1-70b": 70.6,
    "qwen3-14b": 14.8,
    "qwen3-235b-a22b": 235.1,
    "qwen3-coder-480b-a35b": 480.2,
    "gpt-oss-120b": 116.8,
    "deepseek-r1": 671.0,
    "gemma-3-27b": 27.0,
    "llama-4-maverick": 400.7,
    "nemotron-nano-12b-v2": 12.3,
    "phi-4": 14.7,
    "smollm2-135m": 0.1345,
}


@pytest.mark.parametrize("name", GPUS)
def test_every_shipped_gpu_is_complete_and_has_sources(name: str) -> None:
    gpu = read_gpu_spec(name)
    assert gpu.name == name
    assert 0 < gpu.bare_w + gpu.context_w < gpu.power_limit_w
    assert gpu.coefficients in read_calibration().coefficients
    entries = yaml.safe_load((shipped_config("gpus") / f"{name}.yaml").read_text())
    numbers = [value for value in entries.values() if not isinstance(value, str)]
    assert all(entry["source"] for entry in numbers)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_shipped_model_has_a_shape(name: str) -> None:
    shape = read_model_shape(name)
    assert shape.name == name
    assert 0 < shape.dense_params <= shape.params


@pytest.mark.parametrize(("alias", "billions"), PUBLISHED_B.items())
def test_shipped_models_have_their_published_size(alias: str, billions: float) -> None:
    assert read_model_shape(alias).params / 1e9 == pytest.approx(billions, rel=0.005)


def test_aliases_name_one_model_each() -> None:
    aliases = [a.lower() for entry in MODELS.values() for a in entry.get("aliases", ())]
    assert len(aliases) == len(set(aliases))


def test_a_folder_needs_only_its_config(tmp_path: Path) -> None:
    config = MODELS["Qwen/Qwen3-8B"]["config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_model_shape(tmp_path).params == read_model_shape("qwen3-8b").params


def test_a_model_has_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    config = MODELS["Qwen/Qwen3-8B"]["config"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "other.json").write_text(json.dumps(config))
    monkeypatch.chdir(folder)
    for asked in (folder, folder / "config.json", "config.json", "."):
        assert read_model_shape(asked).name == "mine"
    assert read_model_shape(folder / "other.json").name == "other.json"


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelError, match="asked for model no-such"):
        read_model_shape("no-such")


def test_a_folder_without_a_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_model_shape(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a":' + "[" * 100_000])
def test_a_config_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_model_shape(tmp_path)


def test_an_unknown_gpu_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="asked for GPU 'h900', found a100, b200, h100"):
        read_gpu_spec("h900")


def test_a_users_own_gpu_file_is_read(tmp_path: Path) -> None:
    text = (shipped_config("gpus") / "h100.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: h100", "name: mine"))
    assert read_gpu_spec(path).name == "mine"


def test_measured_energies_are_read_where_a_gpu_file_has_them(tmp_path: Path) -> None:
    text = (shipped_config("gpus") / "h100.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}joules_per_byte: {{value: 4.5e-11, source: measured}}\n")
    gpu = read_gpu_spec(path)
    assert (gpu.joules_per_byte, gpu.joules_per_flop, gpu.static_w) == (4.5e-11, None, None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("power_limit_w", "# power_limit_w", "power_limit_w: missing"),
        ("coefficients:", "joules_per_byte: some\ncoefficients:", "joules_per_byte: asked for a f"),
        ("value: 700", "value: many", "power_limit_w: asked for a finite number, found 'many'"),
        ("value: 700", "value: 0", "power_limit_w: asked for a number from 0.001 to 1e\\+06, f"),
        ("value: 700", "value: .nan", "power_limit_w: asked for a finite number, found nan"),
        ("value: 700", "vale: 700", "power_limit_w.value: missing"),
        ("value: 210", "value: 210.5", "lowest_mhz: asked for a whole number, found 210.5"),
        ("value: 210", "value: 0210", "line 12: asked for a decimal number, found 0210"),
        ("name: h100", "name: 100", "name: asked for a text, found 100"),
        ("3.35e+12", "1e-300", "bandwidth_bps: asked for a number from 1e\\+06 to 1e\\+21, found"),
        ("bare_w", "joules_per_flops: 1\nbare_w", "unknown key, did you mean joules_per_flop?"),
        (
            "name: h100",
            "static_w: -1\nname: h100",
            "static_w: asked for a number from 0 to 1e\\+06",
        ),
        ("value: 70,", "value: -1,", "bare_w: asked for a number from 0 to 1e\\+06, found -1"),
        ("value: 50,", "value: 1e21,", "context_w: asked for a number from 0 to 1e\\+06, found 1e"),
        ("450.0e+9", "0.5", "link_bps: asked for a number from 1e\\+06 to 1e\\+21, found 0.5"),
        ("value: 1980", "value: 100", "lowest_mhz: asked for at most highest_mhz 100"),
    ],
)
def test_a_bad_gpu_file_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (shipped_config("gpus") / "h100.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        read_gpu_spec(path)


def test_the_shipped_residuals_are_small() -> None:
    residuals = read_calibration().residuals
    assert len(residuals) > 300
    assert sum(abs(r.log_time) < 0.2 for r in residuals) > 0.85 * len(residuals)


def test_a_bad_table_of_residuals_is_named(tmp_path: Path) -> None:
    path = tmp_path / "residuals.csv"
    path.write_text("model,gpu\nqwen3-8b,h100\n")
    with pytest.raises(ConfigError, match="not a table of residuals"):
        read_residuals(path)


def _write_modelopt(folder: Path, quantisation: Any, **config: Any) -> None:
    """Write a checkpoint as ModelOpt 0.29 and before left it: its quantisation in its own file."""
    whole = MODELS["Qwen/Qwen3-8B"]["config"] | config
    (folder / "config.json").write_text(json.dumps(whole))
    said = {"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": quantisation}
    (folder / "hf_quant_config.json").write_text(json.dumps(said))


@pytest.mark.parametrize("algorithm", ["FP8", "NVFP4"])
def test_a_quantisation_beside_the_config_is_one_in_it(tmp_path: Path, algorithm: str) -> None:
    said: dict[str, Any] = {"quant_algo": algorithm, "kv_cache_quant_algo": "FP8"}
    said |= {"exclude_modules": ["lm_head", "model.layers.3.self_attn*"]}
    _write_modelopt(tmp_path, said)
    beside = read_model_shape(tmp_path).precision
    (tmp_path / "hf_quant_config.json").unlink()
    plain = read_model_shape(tmp_path).precision
    _write_modelopt(tmp_path, {}, quantization_config={"quant_method": "modelopt", **said})
    assert beside == read_model_shape(tmp_path / "config.json").precision
    assert beside.dense_bytes < 0.6 * plain.dense_bytes


@pytest.mark.parametrize(
    ("quantisation", "said"),
    [
        ({"quant_algo": "W4A16_AWQ"}, "quantization.quant_algo: asked for .*, found 'W4A16_AWQ'"),
        (
            {"quant_algo": "MIXED_PRECISION"},
            "quantization.quant_algo: asked for FP8 or NVFP4, found 'MIXED_PRECISION'",
        ),
        ({"kv_cache_quant_algo": "FP8"}, "quantization.quant_algo: asked for .*, found nothing"),
        ({"quant_algo": ["FP8"]}, r"quantization.quant_algo: asked for .*, found \['FP8'\]"),
        (None, "quantization: asked for a mapping, found nothing"),
        ("FP8", "quantization: asked for a mapping, found 'FP8'"),
    ],
)
def test_a_quantisation_beside_the_config_that_is_not_known_is_named(
    tmp_path: Path, quantisation: Any, said: str
) -> None:
    _write_modelopt(tmp_path, quantisation)
    with pytest.raises(ModelError, match=rf"hf_quant_config\.json: {said}") as caught:
        read_model_shape(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_quantisation_beside_the_config_that_is_no_json_is_named_once(tmp_path: Path) -> None:
    _write_modelopt(tmp_path, {})
    beside = tmp_path / "hf_quant_config.json"
    beside.write_text("{")
    with pytest.raises(ModelError) as caught:
        read_model_shape(tmp_path)
    assert str(caught.value).startswith(f"{beside}: not JSON: ")


def test_a_quantisation_beside_another_file_is_not_its_own(tmp_path: Path) -> None:
    _write_modelopt(tmp_path, {"quant_algo": "FP8"})
    other = (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert read_model_shape(other).precision.dense_bytes == 2.0


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L4", "l4"),
    ],
)
def test_a_gpu_is_known_by_the_name_that_nvml_reports(name: str, spec: str) -> None:
    assert spec_name(name) == spec


@pytest.mark.parametrize("name", ["NVIDIA L40S", "NVIDIA GH200 480GB", "NVIDIA RTX A1000", ""])
def test_a_name_that_only_resembles_a_known_one_is_unknown(name: str) -> None:
    with pytest.raises(ConfigError, match="found a100, b200, h100"):
        spec_name(name)
