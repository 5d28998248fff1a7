"""The configurations for real GPUs: valid, and run here on as many modelled or emulated GPUs."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

import steppe
from steppe.cli import main
from steppe.config import EmulatedSection, ModelledSection, RunConfig, load_config, shipped_config
from steppe.roofline.files import read_roofline
from steppe.run.check_supply import modelled_rating_w

CONFIGS = {"one_gpu": 1, "eight_gpus": 8, "ray_cluster": 32}
RATED_W = 700.0


def shipped(name: str) -> RunConfig:
    return load_config(shipped_config(f"{name}.yaml"))


def on(config: RunConfig, device: ModelledSection | EmulatedSection, gpus: int) -> RunConfig:
    """Return the configuration with other GPUs of the same number."""
    replicas = gpus // config.fleet.gpus_per_replica
    fleet = config.fleet.model_copy(update={"replicas": replicas})
    return config.model_copy(update={"device": device, "fleet": fleet})


@pytest.mark.parametrize("name", CONFIGS)
def test_each_is_valid_and_is_for_real_gpus_with_vllms_own_defaults(name: str) -> None:
    result = CliRunner().invoke(main, ["config", "validate", str(shipped_config(f"{name}.yaml"))])
    assert result.output == f"{shipped_config(f'{name}.yaml')}: ok\n"
    config = shipped(name)
    assert (config.device.kind, config.engine.kind) == ("nvml", "vllm")
    assert config.engine.args == {}, "CUDA graphs are vLLM's default"
    assert config.engine.kv_cache_bytes is None, "vLLM sizes its KV cache"
    # The defaults of an OpenAI server of vLLM 0.32 by the memory of the GPU, `engine/arg_utils.py`.
    found = config.engine.max_batch_limit, config.engine.max_tokens_per_step
    assert found in {(1024, 8192), (256, 2048)}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_follows_a_budget_of_70_percent_of_its_gpus(name: str) -> None:
    config = on(shipped(name), ModelledSection(kind="modelled"), CONFIGS[name])
    run = steppe.simulate(config, duration_s=15)
    assert run.warnings == ()
    budget_w = 0.7 * RATED_W * CONFIGS[name]
    assert all(tick.budget_w == pytest.approx(budget_w) for tick in run.tick_records)
    assert {tick.budget_source for tick in run.tick_records} == {"share_of_rated"}
    assert run.summary["output_tokens"] > 1000 * CONFIGS[name]
    assert run.summary["energy_j"] < budget_w * run.summary["duration_s"]
    assert all(tick.output_tps > 0 for tick in run.tick_records[3:])


@pytest.mark.parametrize(("name", "gpu"), [("one_gpu", "l4"), ("eight_gpus", "h100")])
def test_each_model_fits_the_smallest_gpus_that_its_file_names(name: str, gpu: str) -> None:
    config = shipped(name)
    roofline = read_roofline(config.model.name, gpu, config.fleet.gpus_per_replica)
    assert roofline.running_sequences(64, 1366, 0) >= 4


@pytest.mark.parametrize("name", ["one_gpu", "eight_gpus"])
def test_each_runs_on_emulated_gpus_too(name: str) -> None:
    count = CONFIGS[name]
    device = EmulatedSection(kind="emulated", profile="h100", count=count)
    config = on(shipped(name), device, count)
    assert modelled_rating_w(config, config.fleet.replicas) == RATED_W * count  # type: ignore[arg-type]
    run = steppe.simulate(config, duration_s=10)
    assert run.summary["output_tokens"] > 0
    assert run.tick_records[-1].budget_w == pytest.approx(0.7 * RATED_W * count)


TWO_H100: dict[str, Any] = {
    "model": {"name": "llama-3.1-8b"},
    "fleet": {"replicas": 2},
    "device": {"kind": "modelled", "gpu": "h100"},
    "sim": {"duration_s": 2},
}


def power(watts: float) -> dict[str, Any]:
    return {"power": {"supply": [{"kind": "constant", "watts": watts}]}}


def test_a_budget_that_never_exceeds_the_sleeping_draw_is_refused_with_the_figures() -> None:
    with pytest.raises(steppe.SteppeError) as refusal:
        steppe.simulate(TWO_H100 | power(118))
    assert str(refusal.value) == (
        "power.supply: asked for more than the 178 W of 2 sleeping replicas, found at most "
        "118 W for the GPUs: raise the supply, or lower fleet.replicas"
    )


def test_a_budget_that_a_deeper_sleep_leaves_room_in_is_taken() -> None:
    fleet = TWO_H100["fleet"] | {"sleep": [{"kind": "stopped", "gpu_w": 40.0}]}
    (warning,) = steppe.simulate(TWO_H100 | power(118) | {"fleet": fleet}).warnings
    assert warning.startswith("power.supply: asked for at least")


def test_a_budget_without_room_for_one_awake_replica_is_warned_of() -> None:
    (warning,) = steppe.simulate(TWO_H100 | power(260)).warnings
    assert warning.startswith("power.supply: asked for at least the ")
    assert "found at most 260 W for the GPUs: requests will wait" in warning


def test_a_fleet_that_follows_no_budget_may_have_any() -> None:
    assert steppe.simulate(TWO_H100 | power(0) | {"control": {"policy": "full_clocks"}}).summary
