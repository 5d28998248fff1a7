"""The configurations for real GPUs serve here, on emulated GPUs of the same number.

Their engines have no model: what is tested is that the files are right as they are.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.ray_cluster import ray_cluster
from tests.fixtures.serving import Serving, free_port

from steppe.config import shipped_config
from steppe.config.yaml_file import read_mapping

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

H100_W = 700.0


def on_emulated_gpus(name: str, each_node: int, **sections: Any) -> dict[str, Any]:
    """Return a shipped configuration with emulated GPUs and engines without a model."""
    values = dict(read_mapping(shipped_config(f"{name}.yaml")))
    values["engine"] = {**values["engine"], "kind": "synthetic"}
    values["device"] = {"kind": "emulated", "profile": "h100", "count": each_node}
    values["gateway"] = {**values["gateway"], "port": free_port()}
    return values | sections


def check(fleet: Serving, model: str, gpus: int, replicas: int) -> None:
    """Check that a fleet serves its model within 70 % of the rating of its GPUs."""
    fleet.wait_for_words("serving on")
    fleet.last_tick()
    answer = fleet.client.completions.create(
        model=model, prompt="The wind comes over the steppe", max_tokens=8
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    tick = fleet.next_tick()
    assert tick.budget_w == pytest.approx(0.7 * H100_W * gpus)
    assert tick.budget_source == "share_of_rated"
    assert len(tick.replicas) == replicas
    assert fleet.end(signal.SIGINT) == 0
    assert "warning" not in fleet.log.read_text().lower()


@pytest.mark.parametrize(
    ("name", "model", "gpus", "replicas"),
    [("one_gpu", "Qwen3-8B", 1, 1), ("eight_gpus", "Qwen3-32B", 8, 4)],
)
def test_one_machine_serves_as_its_file_says(
    tmp_path: Path, name: str, model: str, gpus: int, replicas: int
) -> None:
    fleet = Serving.start(on_emulated_gpus(name, gpus), tmp_path)
    try:
        check(fleet, model, gpus, replicas)
    finally:
        fleet.clean()


def test_four_machines_are_looked_at_and_serve_as_their_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    with ray_cluster(4, gpus=8) as cluster:
        config = on_emulated_gpus("ray_cluster", 8, ray={"address": cluster.address})
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "steppe.cli", "doctor", str(tmp_path / "run.yaml")]
        looked = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        assert looked.returncode == 0, looked.stdout + looked.stderr
        found = json.loads(looked.stdout)
        assert [len(node["gpus"]) for node in found["nodes"]] == [8, 8, 8, 8]
        assert len({node["address"] for node in found["nodes"]}) == 4
        lines = {(each["check"], each["found"]) for each in found["findings"]}
        assert ("Ray", f"4 of 4 GPU nodes answer at {cluster.address}") in lines
        assert ("replicas", "asked for all, room for 8 on 32 GPUs, 4 for each") in lines
        fleet = Serving.start(config, tmp_path)
        try:
            check(fleet, "Qwen2.5-72B-Instruct", 32, 8)
        finally:
            fleet.clean()
