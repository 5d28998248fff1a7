from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.roofline.files import read_roofline
from steppe.run.check_inputs import check_config
from steppe.run.simulated_fleet import frontier_for, simulated_fleet


def config_of(**parts: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "gemma-3-27b"},
            "fleet": {"replicas": 2},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {"supply": [{"kind": "constant", "watts": 1000}]},
            "frontier": {"file": "points.yaml"},
        }
        | parts
    )


def test_memory_holds_as_many_long_requests_as_the_roofline_says() -> None:
    sweep = {"prompt_tokens": 100_000, "output_tokens": 211}
    kind = simulated_fleet(config_of(frontier={"sweep": sweep})).kind
    said = read_roofline("gemma-3-27b", "h100", 1).running_sequences(1000, 100_000, 211)
    assert kind.engine.kv_tokens / 100_105.5 == pytest.approx(said, rel=0.01)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"fleet": {"replicas": "all"}}, "fleet.replicas: a simulation needs a number"),
        ({"sim": {"failures": [{"at_s": 1, "replica": 3}]}}, "sim.failures: replica 3 of 2"),
        ({"engine": {"max_tokens_per_step": 32}}, "engine.max_tokens_per_step: a simulation needs"),
        (
            {"frontier": {"sweep": {"prompt_tokens": 200_000}}},
            "frontier.sweep: asked for requests of 200064 tokens (200000 in, 64 out), found a "
            "longest context of 16384 in gemma-3-27b",
        ),
        (
            {"frontier": {"sweep": {"batch_limits": [8, 128]}}},
            "frontier.sweep.batch_limits: asked for 128, found engine.max_batch_limit: 64",
        ),
    ],
)
def test_what_cannot_be_simulated_is_no_valid_config(
    tmp_path: Path, parts: dict[str, Any], problem: str
) -> None:
    model = {"name": "gemma-3-27b", "max_model_len": 16384}
    config = config_of(**{"model": model, "frontier": {"sweep": {}}} | parts)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    for command in (["config", "validate"], ["simulate", "--record", str(tmp_path / "run")]):
        result = CliRunner().invoke(main, [*command, str(path)])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith(f"steppe: {problem}")
        assert result.stderr.count("\n") == 1


def test_a_modelled_frontier_has_the_batch_limits_of_the_sweep() -> None:
    sweep = {"prompt_tokens": 144, "output_tokens": 26, "batch_limits": [4, 12]}
    config = config_of(frontier={"sweep": sweep})
    frontier = frontier_for(config, simulated_fleet(config).kind)
    assert {point.batch_limit for point in frontier.candidates} == {4, 12}


def test_a_live_sweep_of_requests_that_the_model_does_not_take_is_no_valid_config() -> None:
    model = {"name": "somebody/model", "max_model_len": 4096}
    sweep = {"sweep": {"prompt_tokens": 5000}}
    with pytest.raises(ConfigError, match=r"frontier\.sweep: .* longest context of 4096"):
        check_config(config_of(model=model, device={"kind": "nvml"}, frontier=sweep))
