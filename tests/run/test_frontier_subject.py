"""A frontier file that says whose it is serves no other model and no other GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from steppe.cli import main
from steppe.config import RunConfig, shipped_config
from steppe.errors import ConfigError
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.files import read_model_shape
from steppe.roofline.point import OperatingPoint
from steppe.run.frontier_subject import configured_frontier, subject_of

FRONTIER = Frontier.of([OperatingPoint(1200, 16, 900.0, 500.0)], 70.0, 80.0, "modelled")
BASE: dict[str, Any] = {
    "model": {"name": "llama-3.1-8b"},
    "device": {"kind": "modelled", "gpu": "h100"},
    "fleet": {"replicas": 2},
    "power": {"supply": [{"kind": "constant", "watts": 2000}]},
    "sim": {"duration_s": 30},
}


def _config(folder: Path, subject: FrontierSubject, **changes: Any) -> RunConfig:
    file = folder / "points.yaml"
    write_frontier(FRONTIER, file, subject)
    values = BASE | {"frontier": {"file": str(file)}} | changes
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return RunConfig.model_validate(values)


@pytest.mark.parametrize("command", [["config", "validate"], ["simulate"]])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": {"name": "llama-3.1-70b"}, "fleet": {"replicas": 1, "gpus_per_replica": 4}},
            "model: asked for llama-3.1-70b, found llama-3.1-8b",
        ),
        ({"device": {"kind": "modelled", "gpu": "b200"}}, "gpu: asked for b200, found h100"),
        (
            {"fleet": {"replicas": 1, "gpus_per_replica": 2}},
            "gpus_per_replica: asked for 2, found 1",
        ),
        ({"device": {"kind": "emulated", "profile": "l4"}}, "gpu: asked for l4, found h100"),
    ],
)
def test_a_frontier_of_another_model_or_gpu_prevents_the_run(
    tmp_path: Path, command: list[str], changes: dict[str, Any], says: str
) -> None:
    _config(tmp_path, FrontierSubject("llama-3.1-8b", "h100", 1), **changes)
    more = ["--record", str(tmp_path / "run")] if command == ["simulate"] else []
    result = CliRunner().invoke(main, [*command, str(tmp_path / "run.yaml"), *more])
    assert result.exit_code == 2
    assert result.stderr == f"steppe: {tmp_path / 'points.yaml'}: {says}\n"


def test_a_simulation_reads_the_frontier_that_it_writes(tmp_path: Path) -> None:
    own = tmp_path / "rig.yaml"
    own.write_text((shipped_config("gpus") / "h100.yaml").read_text())
    for gpu in ("h100", str(own)):
        device = {"kind": "modelled", "gpu": gpu}
        config = _config(tmp_path, FrontierSubject(), device=device)
        assert configured_frontier(_config(tmp_path, subject_of(config), device=device)) == FRONTIER


@pytest.mark.parametrize(
    "subject",
    [
        FrontierSubject(),
        FrontierSubject("/srv/models/mine", "NVIDIA H100 80GB HBM3"),
        FrontierSubject("models/mine"),
        FrontierSubject("door"),
        FrontierSubject(None, "NVIDIA H100 80GB HBM3, NVIDIA L4"),
    ],
)
def test_a_fleet_takes_its_frontier_under_any_of_its_names(
    tmp_path: Path, subject: FrontierSubject
) -> None:
    model = {"name": "/srv/models/mine", "served_name": "door"}
    config = _config(tmp_path, subject, model=model, device={"kind": "nvml"})
    assert configured_frontier(config, {"NVIDIA H100 80GB HBM3"}) == FRONTIER


def test_a_fleet_knows_its_gpus_once_it_is_up(tmp_path: Path) -> None:
    subject = FrontierSubject("llama-3.1-8b", "NVIDIA H100 80GB HBM3")
    config = _config(tmp_path, subject, device={"kind": "nvml"})
    assert configured_frontier(config) == FRONTIER
    with pytest.raises(ConfigError, match="gpu: asked for NVIDIA L4, found NVIDIA H100 80GB HBM3"):
        configured_frontier(config, {"NVIDIA L4"})


@pytest.mark.parametrize(
    ("found", "cards"),
    [
        ("NVIDIA H100 PCIe", {"NVIDIA H100 80GB HBM3"}),
        ("NVIDIA H100 80GB HBM3", {"NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"}),
        ("NVIDIA RTX 6000 Ada Generation", {"NVIDIA RTX A6000"}),
    ],
)
def test_a_frontier_of_a_like_gpu_is_refused_by_both_names_unless_forced(
    tmp_path: Path, found: str, cards: set[str]
) -> None:
    config = _config(tmp_path, FrontierSubject("llama-3.1-8b", found), device={"kind": "nvml"})
    with pytest.raises(ConfigError) as refusal:
        configured_frontier(config, cards)
    line = str(refusal.value)
    assert f"gpu: asked for {', '.join(sorted(cards))}, found {found}; " in line
    assert "`steppe serve --force`" in line
    assert configured_frontier(config, cards, any_gpu=True) == FRONTIER


def test_another_model_is_refused_even_when_forced(tmp_path: Path) -> None:
    config = _config(tmp_path, FrontierSubject("qwen3-8b", "h100"), device={"kind": "nvml"})
    with pytest.raises(ConfigError, match="found qwen3-8b"):
        configured_frontier(config, {"NVIDIA L4"}, any_gpu=True)


def test_an_unknown_gpu_accepts_a_frontier_of_any_gpu(tmp_path: Path) -> None:
    config = _config(tmp_path, FrontierSubject("llama-3.1-8b", "h100"), device={"kind": "nvml"})
    assert configured_frontier(config, {"NVIDIA RTX 6000"}) == FRONTIER


def test_a_model_tuned_from_another_has_its_frontier(tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    models = yaml.safe_load(shipped_config("models.yaml").read_text())["models"]
    known = models[read_model_shape("llama-3.1-8b").name]["config"]
    (tuned / "config.json").write_text(json.dumps(known))
    model = {"name": str(tuned)}
    config = _config(tmp_path, FrontierSubject("llama-3.1-8b"), model=model)
    assert configured_frontier(config) == FRONTIER
    config = _config(tmp_path, FrontierSubject("qwen3-8b"), model=model)
    with pytest.raises(ConfigError, match="found qwen3-8b"):
        configured_frontier(config)
