from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from steppe.cli import COMMANDS, SteppeGroup, main
from steppe.errors import ConfigError, InfeasibleError

CONFIG = """
model: {name: smollm2-135m}
device: {kind: emulated}
power: {supply: [{kind: constant, watts: 100}]}
frontier: {sweep: {}}
"""


def group_that_raises(error: Exception) -> SteppeGroup:
    group = SteppeGroup("steppe", invoke_without_command=True)

    @click.pass_context
    def fail(ctx: click.Context) -> None:
        raise error

    group.callback = fail
    return group


def test_the_help_text_lists_every_command_without_importing_them() -> None:
    code = "import sys, steppe.cli; steppe.cli.main(['--help'], standalone_mode=False); "
    code += "print(sorted(m for m in sys.modules if m.startswith('steppe.')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in run.stdout for name in COMMANDS)
    assert run.stdout.splitlines()[-1] == "['steppe.cli', 'steppe.errors']"


@pytest.mark.parametrize("module", ["steppe", "steppe.cli"])
def test_the_command_is_a_module_too(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Usage: steppe [OPTIONS]" in run.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_gives_one_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"steppe {name}" in result.output


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("site.pue: found\n0"), 2),
        (InfeasibleError("site.pue: found\n0"), 1),
        (OSError(28, "found 0", "site.pue"), 1),
    ],
)
def test_an_error_of_steppe_is_one_line_and_an_exit_code(error: Exception, exit_code: int) -> None:
    result = CliRunner().invoke(group_that_raises(error), [])
    assert result.exit_code == exit_code
    assert result.stderr == "steppe: site.pue: found 0\n"


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(group_that_raises(KeyError("gone")), [])
    assert isinstance(result.exception, KeyError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "No such command 'fly'; see steppe --help"),
        (["--fly"], "No such option '--fly'; see steppe --help"),
        (["serve"], "Missing argument 'CONFIG'; see steppe serve --help"),
        (["bench", "compare"], "Missing argument 'RESULTS...'; see steppe bench compare --help"),
        (["load", "--seed", "-1"], "Invalid value for '--seed': -1 is not in the range"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="steppe")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"steppe: {said}")
    assert result.stderr.count("\n") == 1


def test_a_group_alone_shows_its_help() -> None:
    assert "Commands:" in CliRunner().invoke(main, ["bench"]).output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("command", ["--help", "model list"])
def test_a_full_disk_is_one_line(command: str) -> None:
    code = f"import steppe.cli; steppe.cli.main({command.split()!r})"
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (run.returncode, run.stderr) == (1, "steppe: No space left on device\n")


def test_a_model_without_a_name_is_refused() -> None:
    result = CliRunner().invoke(main, ["model", "get", ""])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "found an empty name" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["config", "validate", ""],
        ["serve", ""],
        ["simulate", "", "--record", "x"],
        ["load", "--trace", ""],
        ["bench", "serve", "--trace", " "],
    ],
)
def test_an_empty_path_is_refused(command: list[str]) -> None:
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "asked for a text that is not empty, found ''" in result.stderr


def test_a_good_config_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    result = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert (result.exit_code, result.output) == (0, f"{path}: ok\n")


def test_a_config_as_json_shows_the_defaults_too(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    result = CliRunner().invoke(main, ["config", "validate", "--json", str(path)])
    values = json.loads(result.output)
    assert values["power"]["supply"][0]["watts"] == 100
    assert values["control"]["period_s"] == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("watts: 100 -> watts: -1", "power.supply.0.watts"),
        ("name: -> nome: ", "model."),
        ("kind: emulated -> kind: abacus", "device"),
    ],
)
def test_a_bad_config_is_one_line_that_names_the_key(
    tmp_path: Path, change: str, named: str
) -> None:
    path = tmp_path / "run.yaml"
    before, after = change.split(" -> ")
    path.write_text(CONFIG.replace(before, after))
    result = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"steppe: {path}: {named}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("device: {kind: modelled, gpu: h1000}", "h1000"),
        ("power: {supply: [{kind: trace, path: wind.csv}]}", "wind.csv"),
        ("load: {trace: azure.csv}", "azure.csv"),
    ],
)
def test_a_config_that_names_a_missing_file_or_gpu_is_not_valid(
    tmp_path: Path, changed: str, named: str
) -> None:
    path = tmp_path / "run.yaml"
    section = changed.partition(":")[0]
    kept = [line for line in CONFIG.splitlines() if not line.startswith(section)]
    path.write_text("\n".join([*kept, changed]).replace("smollm2-135m", "llama-3.1-8b"))
    result = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert result.exit_code == 2
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_config_is_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["config", "validate", "nowhere.yaml"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "nowhere.yaml" in result.stderr


def test_the_models_are_listed_with_whether_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    listed = CliRunner().invoke(main, ["model", "list", "--json"])
    models = json.loads(listed.output)["models"]
    assert [model["name"] for model in models] == ["smollm2-135m", "tiny-random"]
    assert not any(model["here"] for model in models)
    (tmp_path / "steppe" / "models" / "smollm2-135m").mkdir(parents=True)
    again = CliRunner().invoke(main, ["model", "list"])
    assert again.output.splitlines()[0].endswith("(here)")


def test_a_missing_model_is_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["model", "get", "./nowhere"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "./nowhere" in result.stderr
