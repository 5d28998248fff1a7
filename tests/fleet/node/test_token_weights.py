from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from steppe.config import EmulatedSection, NvmlSection, RunConfig
from steppe.energy.attribution import BusyStep, TokenWeights, attribute
from steppe.errors import ModelError
from steppe.fleet.messages import ServedModel
from steppe.fleet.node import token_weights as token_weights_module
from steppe.fleet.node.token_weights import (
    estimated_weights,
    shape_of_served,
    token_weights,
)
from steppe.models.tiny_model import write_tiny_model
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.files import read_model_shape, read_roofline

H100 = "NVIDIA H100 80GB HBM3"
NVML = NvmlSection(kind="nvml")
MODELS = (
    "llama-3.1-8b",
    "meta-llama/Llama-3.2-1B-Instruct",
    "gpt-oss-20b",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "Qwen/Qwen3-0.6B",
)


def run_config(**changes: Any) -> RunConfig:
    values = {
        "model": {"name": "llama-3.1-8b"},
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "frontier": {"sweep": {}},
    }
    return RunConfig.model_validate(values | changes)


def decode_over_prompt(found: TokenWeights) -> float:
    return (found.sequence + found.decode) / found.prompt


def test_tokens_have_the_weights_of_the_roofline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = token_weights(NVML, [H100], ServedModel(read_model_shape("llama-3.1-8b")))
    roofline = read_roofline("llama-3.1-8b", "h100", 1)

    def step_j(*work: int) -> float:
        step_s, draw_w = roofline.step(StepWork(*work), roofline.gpu.highest_mhz)
        return step_s * draw_w

    alone_j = step_j(0, 32, 32 * 1024)
    assert found.prompt == pytest.approx((step_j(256, 32, 32 * 1024) - alone_j) / 256)
    assert found.decode == pytest.approx((step_j(0, 64, 64 * 1024) - alone_j) / 32)
    assert found.sequence + found.decode == pytest.approx(alone_j / 32)
    assert 1.0 < decode_over_prompt(found) < 20.0
    assert caplog.records == []


def test_tokens_on_several_gpus_have_the_weights_of_their_roofline() -> None:
    shape = read_model_shape("llama-3.1-70b")
    token = read_roofline("llama-3.1-70b", "h100", 4).token_weights()
    found = token_weights(NVML, [H100] * 4, ServedModel(shape, 4))
    assert found == TokenWeights(token.sequence_j, token.prompt_j, token.decode_j)


@pytest.mark.parametrize(
    ("names", "model", "gpus", "says"),
    [
        (["NVIDIA X900"], "llama-3.1-8b", 1, "asked for the GPU 'NVIDIA X900', found a100"),
        ([], "llama-3.1-8b", 1, "asked for the GPU 'no GPU'"),
        ([H100], "llama-3.1-70b", 1, "141 GB of weights for 1 x 80 GB"),
        ([H100], "llama-3.1-8b", 3, "asked for tp 3, found 32 attention heads"),
    ],
)
def test_without_a_roofline_weights_are_estimated_from_the_model_and_logged_once(
    caplog: pytest.LogCaptureFixture, names: list[str], model: str, gpus: int, says: str
) -> None:
    shape = read_model_shape(model)
    assert token_weights(NVML, names, ServedModel(shape, gpus)) == estimated_weights(shape)
    (line,) = caplog.messages
    assert line.startswith("tokens are weighted by the bytes and FLOP of the model only: ")
    assert says in line


def test_tokens_of_an_unknown_model_have_the_same_weight_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert token_weights(NVML, [H100], ServedModel(None)) == TokenWeights()
    assert caplog.messages == [
        "all tokens have the same weight: the shape of the model is not known"
    ]


@pytest.mark.parametrize("gpu", ["l4", "v100", "a100", "h100", "b200"])
@pytest.mark.parametrize("model", MODELS)
def test_an_estimate_is_near_the_roofline(model: str, gpu: str) -> None:
    token = read_roofline(model, gpu, 1).token_weights()
    roofline = TokenWeights(token.sequence_j, token.prompt_j, token.decode_j)
    found = estimated_weights(read_model_shape(model))
    assert 0.3 < decode_over_prompt(found) / decode_over_prompt(roofline) < 3.5


def test_tokens_on_emulated_gpus_have_the_weights_of_their_pace() -> None:
    device = EmulatedSection(kind="emulated")
    pace = device.pace
    expected = TokenWeights(pace.weights_s, pace.prefill_s, pace.decode_s)
    assert token_weights(device, ["NVIDIA L4"], ServedModel(None)) == expected


def test_with_any_weights_the_parts_sum_to_the_microjoule() -> None:
    shape = read_model_shape("llama-3.1-8b")
    for found in (
        token_weights(NVML, [H100], ServedModel(shape)),
        estimated_weights(shape),
        TokenWeights(),
    ):
        prompt = found.sequence + 700 * found.prompt
        steps = [
            BusyStep(0.013, dict.fromkeys(range(n), found.sequence + found.decode) | {99: prompt})
            for n in range(1, 30)
        ]
        shares = attribute(123.4567891, 1.0, 70.0, steps)
        assert shares.requests_uj.total() + shares.idle_uj == 123_456_789


def test_the_shape_of_the_served_model_is_that_of_its_name_or_of_its_folder(
    tmp_path: Path,
) -> None:
    assert shape_of_served(run_config()) == read_model_shape("llama-3.1-8b")
    folder = write_tiny_model(tmp_path / "tiny", seed=0)
    found = shape_of_served(run_config(model={"name": str(folder)}))
    assert found == read_model_shape(folder)


def test_the_shape_of_a_hub_model_is_read_from_what_the_engine_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path / "hub", seed=0)
    monkeypatch.setattr(token_weights_module, "get_model_config", lambda name, progress: folder)
    found = shape_of_served(run_config(model={"name": "someone/a-model"}))
    assert found == read_model_shape(folder)


def test_a_model_without_a_shape_is_logged_and_still_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def get_none(name: str, progress: object) -> Path:
        raise ModelError(f"{name}: no such model")

    monkeypatch.setattr(token_weights_module, "get_model_config", get_none)
    with caplog.at_level(logging.WARNING):
        assert shape_of_served(run_config(model={"name": "someone/a-model"})) is None
    assert caplog.messages == ["someone/a-model: no such model"]
    assert shape_of_served(run_config(engine={"kind": "synthetic"})) is None
