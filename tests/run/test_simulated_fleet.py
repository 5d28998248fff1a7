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
from steppe.run.simulated_fleet import (
    mean_request,
    simulated_fleet,
    swept_as_load,
    warn_of_lengths,
)
from steppe.sim.points import Lengths


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
    said = read_roofline("gemma-3-27b", "h100", 1).held(1000, 100_000, 211)
    assert kind.engine.kv_tokens / 100_105.5 == pytest.approx(said, rel=0.01)


def trace_of(path: Path) -> str:
    """Write a trace of requests of 200 prompt and 20 output tokens on average."""
    rows = [f"2023-11-16 18:00:0{at},{prompt},20" for at, prompt in enumerate((100, 300))]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return str(path)


def test_without_a_sweep_the_mean_request_is_that_of_the_load(tmp_path: Path) -> None:
    path = trace_of(tmp_path / "trace.csv")
    replayed = config_of(load={"trace": path, "length_scale": 2.0})
    assert mean_request(replayed) == Lengths(400, 40)
    drawn = mean_request(config_of())
    assert drawn.prompt_tokens == pytest.approx(1155, rel=0.03)
    assert drawn.output_tokens == pytest.approx(211, rel=0.03)


def test_a_sweep_that_gives_no_lengths_is_simulated_with_those_of_the_load(tmp_path: Path) -> None:
    drawn = swept_as_load(config_of(frontier={"sweep": {"clocks": 3}}))
    assert drawn.frontier.sweep is not None
    assert drawn.frontier.sweep.clocks == 3
    assert mean_request(drawn).prompt_tokens == pytest.approx(1155, rel=0.03)
    assert mean_request(drawn).output_tokens == pytest.approx(211, rel=0.03)
    load = {"trace": trace_of(tmp_path / "trace.csv"), "length_scale": 2.0}
    assert mean_request(swept_as_load(config_of(frontier={"sweep": {}}, load=load))) == Lengths(
        400, 40
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"prompt_tokens": 128, "output_tokens": 64}, Lengths(128, 64)),
        ({"prompt_tokens": 500}, Lengths(500, 64)),
        ({"output_tokens": 500}, Lengths(128, 500)),
    ],
)
def test_a_sweep_that_gives_lengths_means_them(given: dict[str, int], meant: Lengths) -> None:
    config = config_of(frontier={"sweep": given})
    assert mean_request(swept_as_load(config)) == meant


def test_a_sweep_of_the_loads_lengths_takes_no_model_that_the_load_fits_for_too_small() -> None:
    model = {"name": "gemma-3-27b", "max_model_len": 160}
    check_config(config_of(model=model, frontier={"sweep": {}}))


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        ({}, False),
        ({"prompt_tokens": 200, "output_tokens": 20}, False),
        ({"prompt_tokens": 101, "output_tokens": 29}, False),
        ({"prompt_tokens": 99, "output_tokens": 20}, True),
        ({"prompt_tokens": 200, "output_tokens": 31}, True),
    ],
)
def test_a_sweep_of_requests_that_are_not_the_loads_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, int], is_told: bool
) -> None:
    load = {"trace": trace_of(tmp_path / "trace.csv")}
    warn_of_lengths(config_of(frontier={"sweep": given}, load=load))
    said = (
        "steppe: warning: frontier.sweep: the points and load.utilisation are those of requests of "
        f"{given.get('prompt_tokens')} prompt and {given.get('output_tokens')} output tokens, the "
        "load's have 200 and 20 on average\n"
    )
    assert capsys.readouterr().err == (said if is_told else "")


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


def test_a_live_sweep_of_requests_that_the_model_does_not_take_is_no_valid_config() -> None:
    model = {"name": "somebody/model", "max_model_len": 4096}
    sweep = {"sweep": {"prompt_tokens": 5000}}
    with pytest.raises(ConfigError, match=r"frontier\.sweep: .* longest context of 4096"):
        check_config(config_of(model=model, device={"kind": "nvml"}, frontier=sweep))
