"""`steppe.simulate` as a user of the package sees it, and what a simulation warns of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import steppe
from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.report.record_folder import read_run
from steppe.run.simulation import Simulation, prepare

CONFIG: dict[str, Any] = {
    "model": {"name": "none"},
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "fleet": {"replicas": 3},
    "device": {"kind": "emulated", "profile": "l4"},
    "power": {"supply": [{"kind": "constant", "watts": 90}]},
    "frontier": {"sweep": {"prompt_tokens": 144, "output_tokens": 26}},
    "load": {"length_scale": 0.125, "utilisation": 0.9},
    "sim": {"duration_s": 30},
}


@pytest.fixture(scope="module")
def result() -> steppe.RunResult:
    return steppe.simulate(CONFIG)


def test_a_simulation_returns_ticks_replicas_and_requests_as_frames(
    result: steppe.RunResult,
) -> None:
    ticks, replicas, requests = result.ticks, result.replicas, result.requests
    assert {"t_s", "budget_w", "draw_w", "output_tps"} <= set(ticks)
    assert len(replicas) == 3 * len(ticks)
    assert set(replicas["id"]) == {"replica-1", "replica-2", "replica-3"}
    assert replicas.groupby("t_s")["draw_w"].sum().to_numpy() == pytest.approx(ticks["draw_w"])
    assert requests["output_tokens"].sum() == result.summary["output_tokens"]
    charged_j = requests["energy_j"].sum()
    parts_j = result.summary["idle_energy_j"] + result.summary["transition_energy_j"]
    assert charged_j + parts_j == pytest.approx(result.summary["energy_j"])
    assert result.summary["energy_source"] == "modelled"
    assert result.warnings == ()


def test_a_limit_file_is_read_once_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("55\n")
    power = CONFIG["power"] | {"limits": [{"kind": "signal", "path": "limit"}]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG | {"power": power}))
    ticks = steppe.simulate(tmp_path / "run.yaml").ticks
    assert (set(ticks["supply_w"]), set(ticks["budget_w"])) == ({90.0}, {55.0})


def test_a_users_own_signal_supplies_a_simulated_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two_steps.py").write_text(
        "import steppe\n"
        "class TwoSteps:\n"
        "    def __init__(self, high_w: float) -> None:\n"
        "        self.high_w = high_w\n"
        "    def at(self, time_s: float) -> steppe.Reading:\n"
        "        return steppe.Fresh(self.high_w if time_s < 15 else 60.0)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    supply = {"kind": "custom", "signal": "two_steps:TwoSteps", "settings": {"high_w": 90.0}}
    ticks = steppe.simulate({**CONFIG, "power": {"supply": [supply]}}).ticks
    assert set(ticks["budget_source"]) == {"two_steps:TwoSteps"}
    assert set(ticks["supply_w"][ticks["t_s"] < 15]) == {90.0}
    assert set(ticks["supply_w"][ticks["t_s"] > 16]) == {60.0}


def test_a_saved_result_is_a_record_folder(result: steppe.RunResult, tmp_path: Path) -> None:
    result.save(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert (run.ticks, run.requests) == (result.tick_records, result.request_records)
    assert run.summary == result.summary
    names = {"record.jsonl", "requests.jsonl", "summary.json", "figure.png", "frontier.yaml"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    with pytest.raises(steppe.SteppeError, match="new or empty folder"):
        result.save(tmp_path / "run")


def test_a_path_a_mapping_and_a_configuration_give_the_same_result(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    sources = (str(path), path, CONFIG, RunConfig.model_validate(CONFIG))
    frames = [steppe.simulate(source, duration_s=10).ticks for source in sources]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


def test_duration_and_seed_replace_those_of_the_configuration() -> None:
    first, again, other = (steppe.simulate(CONFIG, duration_s=10, seed=s) for s in (1, 1, 2))
    assert first.summary["duration_s"] == 10
    pd.testing.assert_frame_equal(first.requests, again.requests)
    assert not first.requests["arrival_s"].equals(other.requests["arrival_s"])


@pytest.mark.parametrize(
    ("changed", "options", "problem"),
    [
        ({"places": {}}, {}, "config: places: unknown key"),
        ({}, {"duration_s": 0}, "sim.duration_s: asked for a number above 0"),
        ({}, {"seed": -1}, "load.seed: asked for a number of at least 0"),
        ({"device": {"kind": "nvml"}}, {}, "device.kind: a simulation needs emulated or modelled"),
    ],
)
def test_what_cannot_be_simulated_is_an_error_that_names_the_key(
    changed: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        steppe.simulate(CONFIG | changed, **options)


def test_a_simulation_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    short = CONFIG | {"power": {"supply": [{"kind": "constant", "watts": 52}]}}
    result = steppe.simulate(short, duration_s=5)
    assert result.summary["shortages"], "which a command would log"
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_simulation_needs_neither_ray_nor_vllm(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    program = """
import sys
for name in ("ray", "vllm", "torch", "transformers"):
    sys.modules[name] = None  # an import of it raises ImportError
import steppe
assert len(steppe.simulate("run.yaml", duration_s=3).ticks) == 2
from steppe.cli import main
main(["simulate", "run.yaml", "--record", "run", "--duration", "3"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "summary.json").is_file()


def prepared(**changed: Any) -> tuple[Simulation, list[str]]:
    """Return a simulation that is ready to run, and its warnings."""
    warnings: list[str] = []
    return prepare(RunConfig.model_validate(CONFIG | changed), warnings.append), warnings


def test_an_slo_that_no_operating_point_keeps_causes_a_warning() -> None:
    _, warnings = prepared(slo={"tpot_s": 0.001}, control={"policy": "follow_budget"})
    assert warnings == [
        "slo.tpot_s: asked for 0.001 s per output token, found 0.0375 s at the fastest point; "
        "the policy goes without it"
    ]


def test_an_slo_that_no_operating_point_keeps_is_an_error_if_the_policy_needs_one() -> None:
    with pytest.raises(ConfigError, match=r"slo\.tpot_s: .* \(0\.9 of an SLO of 0\.001 s\)"):
        prepared(slo={"tpot_s": 0.001}, control={"policy": "save_energy"})


@pytest.mark.parametrize("args", [{}, {"quantization": "fp8", "kv_cache_dtype": "fp8"}])
def test_arguments_of_a_live_engine_cause_a_warning(args: dict[str, str]) -> None:
    _, warnings = prepared(engine={"max_batch_limit": 16, "args": args})
    warning = (
        "engine.args: only a live engine takes kv_cache_dtype, quantization; "
        "a simulation goes without"
    )
    assert warnings == ([warning] if args else [])


def test_the_frontier_of_a_sweep_without_lengths_is_that_of_the_load() -> None:
    plain, warnings = prepared(frontier={"sweep": {}})
    given, _ = prepared()
    full_tps = given.frontier.full.output_tps
    assert plain.frontier.full.output_tps == pytest.approx(full_tps, rel=0.03)
    assert warnings == []


@pytest.mark.parametrize(
    ("policy", "slo", "given"),
    [
        ("follow_budget", {"tpot_s": 0.05, "ttft_s": 0.05}, ("133.6", "the SLO of 0.05 s")),
        ("follow_budget", {"tpot_s": 0.05}, ("133.6", "the SLO of 0.05 s")),
        ("save_energy", {"tpot_s": 0.06}, ("171.8", "0.9 of the SLO of 0.06 s")),
        ("follow_budget", {"tpot_s": 0.15}, None),
        ("full_clocks", {"tpot_s": 0.05}, None),
    ],
)
def test_a_fleet_too_slow_for_its_load_at_the_slo_causes_a_warning(
    policy: str, slo: dict[str, float], given: tuple[str, str] | None
) -> None:
    _, warnings = prepared(slo=slo, control={"policy": policy})
    if given is None:
        assert warnings == []
        return
    most_tps, limit = given
    assert warnings == [
        "slo.tpot_s: the load asks for 306.5 output tokens/s on average, all 3 replicas give "
        f"{most_tps} at the fastest point that keeps {limit} per output token"
    ]


@pytest.mark.parametrize(("utilisation", "tpot_s"), [(0.3, 0.05), (1.5, 0.15)])
def test_an_slo_that_the_fleet_can_keep_causes_no_warning(
    utilisation: float, tpot_s: float
) -> None:
    load = CONFIG["load"] | {"utilisation": utilisation}
    _, warnings = prepared(load=load, slo={"tpot_s": tpot_s})
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "age_s", "problem"),
    [
        (None, 0, "No such file"),
        ("much", 0, "asked for a number, found 'much'"),
        ("100", 3600, " s old, power.stale_s is 60 s"),
    ],
)
def test_a_simulation_does_not_begin_without_its_signal(
    tmp_path: Path, text: str | None, age_s: float, problem: str
) -> None:
    path = tmp_path / "watts"
    if text is not None:
        path.write_text(text)
        os.utime(path, (time.time() - age_s,) * 2)
    power = {"supply": [{"kind": "signal", "path": str(path)}], "fallback_w": 30}
    with pytest.raises(ConfigError, match=r"^power\.supply\.0\.path: .*" + problem):
        prepared(power=power)


def test_a_signal_holds_for_the_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "watts"
    path.write_text("80\n")
    power = {"supply": [{"kind": "signal", "path": str(path)}], "fallback_w": 30}
    simulation, _ = prepared(power=power)
    path.unlink()
    budget = simulation.scenario.budget
    assert {budget.at(t_s).supply_w for t_s in (0.0, 1.0, 100.0)} == {80.0}


def test_what_a_models_config_leaves_open_causes_a_warning(tmp_path: Path) -> None:
    sizes = {"hidden_size": 3072, "num_hidden_layers": 30, "num_attention_heads": 24}
    sizes |= {"num_key_value_heads": 8, "intermediate_size": 9000, "vocab_size": 64000}
    quantisation = {"quant_method": "fp8"}
    config = {"model_type": "llama", **sizes, "quantization_config": quantisation}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, warnings = prepared(
        model={"name": str(tmp_path), "max_model_len": 4096},
        engine={"max_batch_limit": 16},
        device={"kind": "modelled", "gpu": "h100"},
        power={"supply": [{"kind": "constant", "watts": 2000}]},
    )
    key = "quantization_config.weight_block_size"
    assert warnings == [f"config of {tmp_path.name}: {key}: not stated, assumed none"]
