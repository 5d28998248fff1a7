from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from steppe.cli import main
from steppe.config import load_config
from steppe.errors import UsageError
from steppe.report.live import RunSoFar
from steppe.run.live import RunPlan, versions
from steppe.run.running_fleet import running_fleet

CONFIG = """
model: {name: no-such-model/nowhere}
device: {kind: emulated}
power: {supply: [{kind: constant, watts: 100}]}
frontier: {sweep: {}}
gateway: {port: 0}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize(
    "command", [["serve", "nowhere.yaml"], ["demo", "--config", "nowhere.yaml"]]
)
def test_a_missing_config_is_one_line_and_exit_code_2(command: list[str]) -> None:
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "steppe: nowhere.yaml: No such file or directory\n"


@pytest.mark.parametrize("command", [["serve"], ["demo", "--config"]])
def test_a_config_with_an_unknown_key_is_exit_code_2_and_names_it(
    config: Path, command: list[str]
) -> None:
    config.write_text(CONFIG + "site: {pues: 2}\n")
    result = CliRunner().invoke(main, [*command, str(config)])
    assert result.exit_code == 2
    assert result.stderr == f"steppe: {config}: site.pues: unknown key, did you mean pue?\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve"], "CONFIG"),
        (["serve", "run.yaml", "--duration", "0"], "--duration"),
        (["serve", "run.yaml", "--duration", "soon"], "--duration"),
        (["serve", "run.yaml", "--for-ever"], "--for-ever"),
        (["demo", "--duration", "29"], "--duration"),
        (["demo", "run.yaml"], "run.yaml"),
    ],
)
def test_a_wrong_argument_is_exit_code_2_and_is_named(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_standby_in_a_cluster_of_others_is_refused(config: Path) -> None:
    config.write_text(f"{config.read_text()}\nray: {{address: auto}}\n")
    result = CliRunner().invoke(main, ["serve", str(config), "--standby"])
    assert result.exit_code == 2
    assert "ray.address: auto; a standby is for a cluster that" in result.stderr


def test_a_missing_model_is_refused_before_anything_starts(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(CONFIG.replace("no-such-model/nowhere", "./nowhere"))
    monkeypatch.setattr("steppe.run.running_fleet.FleetDriver", None)
    with pytest.raises(UsageError, match="nowhere"), running_fleet(load_config(config), Console()):
        pass


class BriefRun:
    """A run that is over at once."""

    lost = None
    so_far = RunSoFar(None, "emulated", "gpu", energy_j=10.0, output_tokens=20, completed=1)

    def __init__(self, driver: object, plan: RunPlan, *_: object) -> None:
        self.record = plan.record

    def follow(self, frontier: object) -> None: ...

    def close(self) -> dict[str, int] | None:
        return None if self.record is None else {"output_tokens": 20}


@pytest.fixture
def brief_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `steppe serve` end at once, without a fleet."""
    monkeypatch.setattr(
        "steppe.cli.serve.running_fleet",
        lambda *_: nullcontext(SimpleNamespace(url="u", actors=None)),
    )
    starts = {"": SimpleNamespace(explanation="")}
    monkeypatch.setattr("steppe.cli.serve.starting_frontiers", lambda *_, **options: starts)
    monkeypatch.setattr("steppe.cli.serve.LiveRun", BriefRun)


@pytest.mark.parametrize(
    ("option", "said"),
    [("--json", '{\n  "output_tokens": 20\n}\n'), ("--duration=1", "2 tokens/J")],
)
def test_a_run_without_a_record_is_summarised(
    config: Path, brief_runs: None, option: str, said: str
) -> None:
    result = CliRunner().invoke(main, ["serve", str(config), option])
    assert result.exit_code == 0, result.output
    assert result.stdout == said if option == "--json" else said in result.stdout


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        ("{replicas: 9}", "asked for 9 with 1 GPU each, found room for 2"),
        ("{replicas: all, gpus_per_replica: 4}", "asked for all with 4 GPU each, found room for 0"),
    ],
)
def test_replicas_beyond_the_emulated_gpus_are_refused_before_anything_starts(
    config: Path, monkeypatch: pytest.MonkeyPatch, fleet: str, said: str
) -> None:
    kind = "engine: {kind: synthetic}\n"
    device = "device: {kind: emulated, count: 2}"
    text = CONFIG.replace("device: {kind: emulated}", device)
    config.write_text(f"{text}{kind}fleet: {fleet}\n")
    monkeypatch.setattr("steppe.run.running_fleet.FleetDriver", None)
    result = CliRunner().invoke(main, ["serve", str(config)])
    assert (result.exit_code, result.stderr) == (
        2,
        f"steppe: fleet.replicas: {said} on 2 emulated GPUs (device.count)\n",
    )


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ([], "a run without an end"),
        (["--duration", "600"], "a run of 600 s"),
        (["--duration", "60"], ""),
    ],
)
def test_a_trace_that_ends_before_the_run_causes_a_warning(
    config: Path, brief_runs: None, options: list[str], whole: str
) -> None:
    config.with_name("day.csv").write_text("time_utc,p_kw\n0,0.1\n300,0.1\n")
    supply = "power: {supply: [{kind: trace, path: day.csv}], fallback_w: 40}"
    config.write_text(CONFIG.replace("power: {supply: [{kind: constant, watts: 100}]}", supply))
    result = CliRunner().invoke(main, ["serve", str(config), *options])
    warning = f"steppe: warning: power.supply: a trace ends 300 s into {whole}; "
    assert (warning in result.stderr) == bool(whole)
    assert ("power.fallback_w, 40 W" in result.stderr) == bool(whole)


def test_clients_request_the_model_by_its_served_name_or_its_own(config: Path) -> None:
    settings = load_config(config)
    assert settings.model.client_name == "nowhere"
    model = settings.model.model_copy(update={"served_name": "mine"})
    assert model.client_name == "mine"


def test_versions_lists_the_installed_distributions() -> None:
    assert {"steppe", "ray"} <= set(versions())
