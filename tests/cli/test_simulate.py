from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.cli.simulate import arrivals_for, frontier_for
from steppe.config import FrontierSection, ModelledSection, RunConfig, load_config
from steppe.errors import UsageError
from steppe.frontier.file import read_frontier, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.run import read_run
from steppe.roofline.point import OperatingPoint
from steppe.run.simulated_fleet import simulated_fleet
from steppe.sim.run import simulate as simulated

REPOSITORY = Path(__file__).parents[2]
CONFIG = """
model: {name: none}
engine: {kind: synthetic, max_batch_limit: 16}
fleet: {replicas: 3}
device: {kind: emulated, profile: l4}
power: {supply: [{kind: constant, watts: 90}]}
frontier: {sweep: {prompt_tokens: 144, output_tokens: 26}}
load:
  length_scale: 0.125
  utilisation: 0.9
  priorities: {interactive: 1, standard: 0, deferrable: 1}
sim: {duration_s: 90}
"""


def simulate(tmp_path: Path, *options: str) -> Result:
    (tmp_path / "config.yaml").write_text(CONFIG)
    folder = str(tmp_path / "run")
    command = ["simulate", str(tmp_path / "config.yaml"), "--record", folder, *options]
    return CliRunner().invoke(main, command)


def test_a_simulation_leaves_a_whole_record_that_is_called_modelled(tmp_path: Path) -> None:
    result = simulate(tmp_path)
    assert result.exit_code == 0, result.output
    assert "energy modelled" in result.output
    run = read_run(tmp_path / "run")
    assert run.summary is not None
    assert run.summary["energy_source"] == "modelled"
    assert {request.energy_source for request in run.requests} == {"modelled"}
    assert {request.priority for request in run.requests} == {"interactive", "deferrable"}
    assert run.summary["output_tokens"] == sum(r.output_tokens for r in run.requests)
    assert (tmp_path / "run" / "frontier.yaml").is_file()
    assert (tmp_path / "run" / "figure.png").is_file()


def test_json_prints_the_summary_and_the_duration_can_be_cut(tmp_path: Path) -> None:
    result = simulate(tmp_path, "--json", "--duration", "20")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["duration_s"] == 20


def test_a_sweep_whose_clock_nobody_limited_is_simulated_at_the_highest(tmp_path: Path) -> None:
    values = yaml.safe_load(CONFIG)
    points = [OperatingPoint(0, batch, 20.0 * batch, 40.0 + batch, 0.05) for batch in (4, 16)]
    write_frontier(Frontier.of(points, 15.0, 20.0, "measured"), tmp_path / "swept.yaml")
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({**values, "frontier": {"file": "swept.yaml"}})
    )
    command = ["simulate", str(tmp_path / "config.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, "--duration", "5"])
    assert result.exit_code == 0, result.output
    awake = [r for tick in read_run(tmp_path / "run").ticks for r in tick.awake]
    assert {replica.clock_mhz for replica in awake} == {2040}


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    result = simulate(tmp_path)
    assert result.exit_code == 2
    assert "full one" in result.output


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "half record"),
        (UsageError("too little"), "steppe: too little\n"),
        (ZeroDivisionError(), ""),
    ],
    ids=repr,
)
def test_a_run_that_breaks_off_leaves_a_folder_for_the_next(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
    error: BaseException,
    said: str,
) -> None:
    def stopped(*_: object) -> None:
        raise error

    if is_there:
        (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("steppe.cli.simulate.simulate", stopped)
        result = simulate(tmp_path)
    assert result.exit_code
    assert said in result.stderr
    assert (tmp_path / "run").exists() == is_there
    assert simulate(tmp_path, "--duration", "20").exit_code == 0


@pytest.mark.parametrize("duration", ["nan", "inf", "0"])
def test_a_duration_that_is_no_time_is_refused(tmp_path: Path, duration: str) -> None:
    result = simulate(tmp_path, "--duration", duration)
    assert result.exit_code == 2
    assert "--duration" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fleet": {"replicas": "all", "gpus_per_replica": 2}}, "asked for 2 GPUs a replica"),
        ({"frontier": {"file": "points.yaml"}}, "found engine.max_batch_limit: 16"),
        (
            {"frontier": {"sweep": {"prompt_tokens": 900, "output_tokens": 200}}},
            "needs 1100 tokens",
        ),
    ],
)
def test_a_fleet_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    point = "{clock_mhz: 600, batch_limit: 64, output_tps: 1, draw_w: 70}"
    frontier = f"source: measured\nasleep_w: 1\nidle_w: 1\npoints: [{point}]\n"
    (tmp_path / "points.yaml").write_text(frontier)
    config = yaml.safe_load(CONFIG)
    config["device"]["count"] = 1
    config["sim"]["kv_tokens"] = 1000
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(config | changed))
    result = CliRunner().invoke(
        main, ["simulate", str(tmp_path / "changed.yaml"), "--record", str(tmp_path / "run")]
    )
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "age_s", "said"),
    [
        (None, 0, "No such file"),
        ("much", 0, "asked for a number, found 'much'"),
        ("100", 3600, " s old, power.stale_s is 60 s"),
    ],
)
def test_a_simulation_does_not_begin_without_its_signal(
    tmp_path: Path, text: str | None, age_s: float, said: str
) -> None:
    if text is not None:
        (tmp_path / "watts").write_text(text)
        os.utime(tmp_path / "watts", (time.time() - age_s,) * 2)
    config = yaml.safe_load(CONFIG)
    config["power"] = {"supply": [{"kind": "signal", "path": "watts"}], "fallback_w": 30}
    (tmp_path / "signal.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(
        main, ["simulate", str(tmp_path / "signal.yaml"), "--record", str(tmp_path / "run")]
    )
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("steppe: power.supply.0.path: a simulation needs a signal")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_signal_holds_for_the_whole_run_however_long_the_computer_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_after(*arguments: Any) -> Any:
        (tmp_path / "watts").unlink()
        return simulated(*arguments)

    (tmp_path / "watts").write_text("80\n")
    config = yaml.safe_load(CONFIG)
    config["power"] = {"supply": [{"kind": "signal", "path": "watts"}], "fallback_w": 30}
    (tmp_path / "signal.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("steppe.cli.simulate.simulate", long_after)
    command = ["simulate", str(tmp_path / "signal.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, "--duration", "20", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stale_s"] == 0
    assert {tick.supply_w for tick in read_run(tmp_path / "run").ticks} == {80.0}


def test_a_trace_that_ends_before_the_run_is_told_of_and_its_ticks_are_stale(
    tmp_path: Path,
) -> None:
    (tmp_path / "short.csv").write_text("time_utc,p_kw\n0,0.09\n20,0.09\n")
    values = yaml.safe_load(CONFIG)
    values["power"] = {"supply": [{"kind": "trace", "path": "short.csv"}], "stale_s": 5}
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(values | {"sim": {"duration_s": 40}}))
    warning = (
        "steppe: warning: power.supply: a trace ends 20 s into a run of 40 s; "
        "5 s later the budget is that of power.fallback_w, 0 W\n"
    )
    assert CliRunner().invoke(main, ["config", "validate", str(path)]).stderr == warning
    command = ["simulate", str(path), "--record", str(tmp_path / "run"), "--json"]
    result = CliRunner().invoke(main, command)
    assert warning in result.stderr
    assert 14 <= json.loads(result.stdout)["stale_s"] <= 16
    ticks = read_run(tmp_path / "run").ticks
    assert {tick.stale for tick in ticks if tick.t_s > 27} == {True}
    assert not any(tick.stale for tick in ticks if tick.t_s < 24)


@pytest.mark.parametrize(
    ("policy", "exit_code", "said"),
    [
        (
            "save_energy",
            2,
            r"steppe: slo\.tpot_s: asked for 0\.0009 s per output token "
            r"\(0\.9 of an SLO of 0\.001 s\), found 0\.\d+ s at the fastest point\n",
        ),
        (
            "follow_budget",
            0,
            r"steppe: warning: slo\.tpot_s: asked for 0\.001 s per output token, "
            r"found 0\.\d+ s at the fastest point; the policy goes without it\n",
        ),
    ],
)
def test_an_slo_that_no_operating_point_keeps_is_told_of(
    tmp_path: Path, policy: str, exit_code: int, said: str
) -> None:
    config = yaml.safe_load(CONFIG)
    config |= {"slo": {"tpot_s": 0.001}, "control": {"policy": policy}, "sim": {"duration_s": 10}}
    (tmp_path / "hasty.yaml").write_text(yaml.safe_dump(config))
    command = ["simulate", str(tmp_path / "hasty.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == exit_code, result.output
    assert re.fullmatch(said, result.stderr)
    assert (tmp_path / "run").exists() == (exit_code == 0)


@pytest.mark.parametrize("args", [{}, {"quantization": "fp8", "kv_cache_dtype": "fp8"}])
def test_engine_arguments_that_a_simulation_does_not_know_are_told_of_in_one_line(
    tmp_path: Path, args: dict[str, str]
) -> None:
    config = yaml.safe_load(CONFIG) | {"engine": {"max_batch_limit": 16, "args": args}}
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(config))
    command = ["simulate", str(tmp_path / "args.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, "--duration", "10"])
    assert result.exit_code == 0, result.output
    warning = (
        "steppe: warning: engine.args: only a live engine takes kv_cache_dtype, quantization; "
        "a simulation goes without\n"
    )
    assert result.stderr == (warning if args else "")


def test_the_utilisation_of_a_sweep_without_lengths_is_that_of_the_load(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG) | {"frontier": {"sweep": {}}}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    command = ["simulate", str(tmp_path / "plain.yaml"), "--record", str(tmp_path / "plain")]
    result = CliRunner().invoke(main, [*command, "--duration", "20"])
    assert result.exit_code == 0, result.output
    assert not result.stderr
    assert simulate(tmp_path, "--duration", "20").exit_code == 0
    full_tps, said_tps = (
        read_frontier(tmp_path / run / "frontier.yaml").full.output_tps for run in ("plain", "run")
    )
    assert full_tps == pytest.approx(said_tps, rel=0.03)


@pytest.mark.parametrize(
    ("policy", "slo", "said"),
    [
        ("follow_budget", {"tpot_s": 0.05, "ttft_s": 0.05}, r"133\.6 at .* the SLO of 0\.05 s"),
        ("clocks_and_replicas", {"tpot_s": 0.05}, r"133\.6 at .* the SLO of 0\.05 s"),
        ("save_energy", {"tpot_s": 0.06}, r"171\.8 at .* 0\.9 of the SLO of 0\.06 s"),
        ("follow_budget", {"tpot_s": 0.15}, None),
        ("reactive", {"tpot_s": 0.05}, None),
    ],
)
def test_an_slo_at_which_the_fleet_cannot_serve_the_load_is_told_of(
    tmp_path: Path, policy: str, slo: dict[str, float], said: str | None
) -> None:
    config = yaml.safe_load(CONFIG) | {"slo": slo, "control": {"policy": policy}}
    (tmp_path / "hasty.yaml").write_text(yaml.safe_dump(config))
    command = ["simulate", str(tmp_path / "hasty.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, "--duration", "30"])
    assert result.exit_code == 0, result.output
    if said is None:
        assert not result.stderr
    else:
        asked = r"the load asks for 306\.5 output tokens/s on average"
        head = rf"steppe: warning: slo\.tpot_s: {asked}, all 3 replicas give {said}"
        assert re.fullmatch(head + r" per output token\n", result.stderr)


@pytest.mark.parametrize("utilisation", [0.3, 1.5])
def test_an_slo_that_costs_nothing_is_not_told_of_whatever_the_load(
    tmp_path: Path, utilisation: float
) -> None:
    config = yaml.safe_load(CONFIG)
    config["load"]["utilisation"] = utilisation
    config["slo"] = {"tpot_s": 0.15 if utilisation > 1 else 0.05}
    (tmp_path / "calm.yaml").write_text(yaml.safe_dump(config))
    command = ["simulate", str(tmp_path / "calm.yaml"), "--record", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, "--duration", "30"])
    assert result.exit_code == 0, result.output
    assert not result.stderr


def config_of(load: Mapping[str, object], duration_s: float = 86_400 / 24) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "device": {"kind": "emulated"},
            "power": {
                "supply": [{"kind": "constant", "watts": 1}],
                "start": datetime(2001, 9, 5, 6),
                "speedup": 24,
            },
            "frontier": {"sweep": {}},
            "load": load,
            "sim": {"duration_s": duration_s},
        }
    )


def test_requests_fit_the_model_also_where_only_its_own_config_says_how_long_it_takes() -> None:
    config = config_of({"length_scale": 40.0, "rate_rps": 1.0}, duration_s=600)
    modelled = ModelledSection(kind="modelled", gpu="h100")
    own = config.model.model_copy(update={"name": "qwen3-8b"})
    found = arrivals_for(config.model_copy(update={"device": modelled, "model": own}), 1e4)
    assert max(arrival.prompt_tokens for arrival in found) == 40960 // 2
    assert max(arrival.output_tokens for arrival in found) == 40960 // 4
    asked = own.model_copy(update={"max_model_len": 4096})
    found = arrivals_for(config.model_copy(update={"device": modelled, "model": asked}), 1e4)
    assert max(arrival.prompt_tokens for arrival in found) == 2048


def hourly(times_s: Sequence[float]) -> np.ndarray:
    return np.histogram(times_s, bins=24, range=(0, 3600))[0]


def test_the_load_peaks_at_the_hour_of_the_day_that_is_asked_for() -> None:
    config = config_of({"rate_rps": 5, "daily_depth": 0.9, "daily_peak_hour": 18})
    counts = hourly([arrival.at_s for arrival in arrivals_for(config, 1000)])
    # The run begins at 6 o'clock, so 18 o'clock is in the middle.
    assert counts[10:14].sum() > 5 * counts[[0, 1, 22, 23]].sum()


def test_the_rate_follows_the_utilisation_unless_it_is_given() -> None:
    offered = [
        sum(a.output_tokens for a in arrivals_for(config_of(load), 1000.0)) / 3600
        for load in ({"utilisation": 0.5}, {"utilisation": 1.0})
    ]
    assert offered == pytest.approx([500, 1000], rel=0.15)
    given = arrivals_for(config_of({"rate_rps": 2, "utilisation": 1.0}), 1000.0)
    assert len(given) / 3600 == pytest.approx(2, rel=0.1)


def test_a_trace_file_is_replayed_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:00:{second:02}.0000000,100,20" for second in range(60)]
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    found = arrivals_for(config_of({"trace": str(path), "rate_rps": 2}), 1000.0)
    assert len(found) == 60
    assert found[-1].at_s == pytest.approx(59 / 2)


def test_the_batch_limits_of_a_sweep_are_those_that_are_computed() -> None:
    sweep = {"prompt_tokens": 144, "output_tokens": 26, "batch_limits": [4, 12]}
    config = config_of({}).model_copy(
        update={"frontier": FrontierSection.model_validate({"sweep": sweep})}
    )
    frontier = frontier_for(config, simulated_fleet(config).kind)
    assert {point.batch_limit for point in frontier.candidates} == {4, 12}


def trace_of(path: Path, prompts: Sequence[int]) -> Path:
    """Write a trace of one request a second with such prompts."""
    rows = [
        f"2023-11-16 18:{at // 60:02}:{at % 60:02}.0000000,{prompt},20"
        for at, prompt in enumerate(prompts)
    ]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


def test_it_is_said_how_many_requests_of_a_trace_are_longer_than_the_model_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace_of(tmp_path / "trace.csv", [100, 40_000, 8192, 8193] * 10)
    config = config_of({"trace": str(path), "rate_rps": 1}, duration_s=20)
    short = config.model.model_copy(update={"max_model_len": 16384})
    found = arrivals_for(config.model_copy(update={"model": short}), 1000.0)
    assert [arrival.prompt_tokens for arrival in found[:4]] == [100, 8192, 8192, 8192]
    assert capsys.readouterr().err == (
        f"steppe: warning: load.trace: 10 of 20 requests of {path} are cut to what the model "
        "takes, at most 8192 prompt and 4096 output tokens\n"
    )
    arrivals_for(config, 1000.0)
    assert not capsys.readouterr().err


def test_it_is_said_when_a_trace_is_played_so_fast_that_most_of_the_run_is_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace_of(tmp_path / "trace.csv", [100] * 200)
    load = {"trace": str(path), "utilisation": 0.5}
    found = arrivals_for(config_of(load, duration_s=600), 800.0)
    assert found[-1].at_s == pytest.approx(9.95)
    assert capsys.readouterr().err == (
        f"steppe: warning: load.trace: {path} is played at 20 requests/s, its own rate is 1: "
        "it ends 9.95 s into a run of 600 s\n"
    )
    arrivals_for(config_of(load, duration_s=10), 800.0)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("rows", "requests"), [([], 0), (["2023-11-16 18:00:00,100,20"], 1)])
def test_a_fleet_that_hardly_anybody_asks_is_simulated(
    tmp_path: Path, rows: list[str], requests: int
) -> None:
    config = yaml.safe_load(CONFIG)
    config["load"] = {"rate_rps": 1e-6}
    if rows:
        path = tmp_path / "trace.csv"
        path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
        config["load"] = {"trace": str(path)}
    (tmp_path / "quiet.yaml").write_text(yaml.safe_dump(config))
    folder = str(tmp_path / "run")
    command = ["simulate", str(tmp_path / "quiet.yaml"), "--record", folder, "--duration", "20"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert f"and {requests} request" in result.output
    found = read_run(tmp_path / "run")
    assert len(found.requests) == requests
    assert found.summary is not None
    assert found.summary["energy_j"] > 0


def test_the_shipped_day_is_a_valid_config() -> None:
    config = load_config(REPOSITORY / "configs" / "windy_day.yaml")
    assert config.fleet.replicas == 64
    assert config.device.kind == "modelled"
