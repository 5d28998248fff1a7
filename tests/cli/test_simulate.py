from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from steppe.cli import main
from steppe.config import load_config
from steppe.errors import UsageError
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.report.record_folder import read_run
from steppe.report.shortages import shortage_text
from steppe.roofline.point import OperatingPoint

REPOSITORY = Path(__file__).parents[2]
CONFIG = """
model: {name: none}
engine: {kind: synthetic, max_batch_limit: 16}
fleet: {replicas: 3}
device: {kind: emulated, profile: l4, count: 3}
power: {supply: [{kind: constant, watts: 90}]}
frontier: {sweep: {prompt_tokens: 144, output_tokens: 26}}
load:
  length_scale: 0.125
  utilisation: 0.9
  priorities: {interactive: 1, standard: 0, deferrable: 1}
sim: {duration_s: 20}
"""


def simulate(tmp_path: Path, *options: str, **changed: Any) -> Result:
    """Run `steppe simulate` on the configuration with some sections changed."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(CONFIG) | changed))
    return CliRunner().invoke(
        main, ["simulate", str(path), "--record", str(tmp_path / "run"), *options]
    )


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


@pytest.mark.parametrize(
    ("curve", "said"),
    [("nominal", "as fitted"), ("low", "one standard error lower"), ("high", "error higher")],
)
def test_a_simulation_of_modelled_gpus_names_its_clock_curve(
    tmp_path: Path, curve: str, said: str
) -> None:
    device = {"kind": "modelled", "gpu": "h100", "clock_curve": curve}
    power = {"supply": [{"kind": "share_of_rated", "share": 0.5}]}
    model = {"name": "llama-3.1-8b"}
    result = simulate(tmp_path, "--duration", "1", device=device, model=model, power=power)
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.output.split())


def test_json_prints_the_summary_and_duration_cuts_the_run(tmp_path: Path) -> None:
    result = simulate(tmp_path, "--json", "--duration", "5")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["duration_s"] == 5


def test_a_frontier_without_clock_limits_is_simulated_at_the_highest_clock(tmp_path: Path) -> None:
    points = [OperatingPoint(0, batch, 20.0 * batch, 40.0 + batch, 0.05) for batch in (4, 16)]
    write_frontier(Frontier.of(points, 15.0, 20.0, "measured"), tmp_path / "swept.yaml")
    result = simulate(tmp_path, "--duration", "5", frontier={"file": "swept.yaml"})
    assert result.exit_code == 0, result.output
    awake = [r for tick in read_run(tmp_path / "run").ticks for r in tick.awake]
    assert {replica.clock_mhz for replica in awake} == {2040}
    summary = read_run(tmp_path / "run").summary
    assert summary is not None
    assert summary["frontier_source"] == "file"


def test_a_policy_of_ones_own_runs_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = REPOSITORY / "tests" / "fixtures" / "own_policy.py"
    (tmp_path / "my_policies.py").write_text(own.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = simulate(tmp_path, control={"policy": "my_policies:EqualShares"})
    assert result.exit_code == 0, result.output
    ticks = read_run(tmp_path / "run").ticks
    limits = [{(r.clock_mhz, r.batch_limit) for r in tick.replicas} for tick in ticks]
    assert all(len(found) == 1 for found in limits[2:])


def test_a_policy_that_cannot_be_imported_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = simulate(tmp_path, control={"policy": "nowhere_at_all:Best"})
    assert result.exit_code != 0
    message = "control.policy: asked for nowhere_at_all:Best, found: No module named"
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    result = simulate(tmp_path)
    assert result.exit_code == 2
    assert "full one" in result.output


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "half record"),
        (UsageError("too little"), "steppe: too little\n"),
        (ZeroDivisionError(), ""),
    ],
    ids=repr,
)
def test_a_run_that_breaks_off_leaves_no_record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existed: bool,
    error: BaseException,
    message: str,
) -> None:
    def stopped(*_: object) -> None:
        raise error

    if existed:
        (tmp_path / "run").mkdir()
    monkeypatch.setattr("steppe.run.simulation.run_scenario", stopped)
    result = simulate(tmp_path)
    assert result.exit_code
    assert message in result.stderr
    assert (tmp_path / "run").exists() == existed
    assert not existed or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("duration", ["nan", "inf", "0"])
def test_a_duration_that_is_no_time_is_refused(tmp_path: Path, duration: str) -> None:
    result = simulate(tmp_path, "--duration", duration)
    assert result.exit_code == 2
    assert "--duration" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"fleet": {"replicas": "all", "gpus_per_replica": 4}}, "asked for 4 GPUs a replica"),
        ({"frontier": {"file": "points.yaml"}}, "found engine.max_batch_limit: 16"),
        (
            {"frontier": {"sweep": {"prompt_tokens": 900, "output_tokens": 200}}},
            "needs 1100 tokens",
        ),
    ],
)
def test_a_fleet_that_cannot_exist_is_refused_in_one_line(
    tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    point = "{clock_mhz: 600, batch_limit: 64, output_tps: 1, draw_w: 70}"
    frontier = f"source: measured\nasleep_w: 1\nidle_w: 1\npoints: [{point}]\n"
    (tmp_path / "points.yaml").write_text(frontier)
    device = {"kind": "emulated", "profile": "l4", "count": 1}
    result = simulate(tmp_path, device=device, sim={"kv_tokens": 1000}, **changed)
    assert result.exit_code == 2, result.output
    assert problem in " ".join(result.output.split())
    assert result.stderr.count("\n") == 1


def test_warnings_are_lines_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("time_utc,p_kw\n0,0.09\n20,0.09\n")
    power = {"supply": [{"kind": "trace", "path": "short.csv"}], "stale_s": 5}
    result = simulate(tmp_path, "--json", power=power, sim={"duration_s": 40})
    warning = (
        "steppe: warning: power.supply: a trace ends 20 s into a run of 40 s; "
        "5 s later the budget is that of power.fallback_w, 0 W\n"
    )
    assert warning in result.stderr
    assert 14 <= json.loads(result.stdout)["stale_s"] <= 16
    ticks = read_run(tmp_path / "run").ticks
    assert {tick.stale for tick in ticks if tick.t_s > 27} == {True}
    assert not any(tick.stale for tick in ticks if tick.t_s < 24)
    validate = ["config", "validate", str(tmp_path / "config.yaml")]
    assert CliRunner().invoke(main, validate).stderr == warning


def test_a_shortage_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "supply.csv").write_text("time_utc,p_kw\n0,20\n3600,20\n7200,200\n")
    trace = {"kind": "trace", "path": "supply.csv", "watts_per_unit": 1}
    simulate(tmp_path, power={"supply": [trace]})
    floor, demand = read_run(tmp_path / "run").ticks[0].shortages
    assert caplog.messages == [f"0:02: {shortage_text(short)}" for short in (floor, demand)]


@pytest.mark.parametrize(("rows", "requests"), [([], 0), (["2023-11-16 18:00:00,100,20"], 1)])
def test_a_fleet_with_hardly_any_request_is_simulated(
    tmp_path: Path, rows: list[str], requests: int
) -> None:
    load: dict[str, object] = {"rate_rps": 1e-6}
    if rows:
        path = tmp_path / "trace.csv"
        path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
        load = {"trace": str(path)}
    result = simulate(tmp_path, load=load)
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
