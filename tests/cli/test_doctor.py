"""`steppe doctor` as a command: exit codes, one JSON document, and emulated GPUs with faults."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest
import yaml
from click.testing import CliRunner

from steppe.agent.child_process import start_agent
from steppe.agent.client import AgentClient
from steppe.agent.loss_policy import Restore
from steppe.cli import main
from steppe.emulator.environment import emulated_environment

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="the emulator needs a C compiler"
)


def doctor(*options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a driver stays loaded until its process ends."""
    command = [sys.executable, "-m", "steppe.cli", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


FAULTY: dict[str, Any] = {
    "model": {"name": "none"},
    "engine": {"kind": "synthetic"},
    "device": {
        "kind": "emulated",
        "profile": "h100",
        "count": 4,
        "faults": [
            {"gpu": 0, "uncorrected_ecc_errors": 2},
            {"gpu": 1, "counter_scale": 0.6},
            {"gpu": 2, "neighbour_load": 0.4},
            {"gpu": 3, "thermal_slowdown": True},
        ],
    },
    "power": {"supply": [{"kind": "share_of_rated", "share": 0.7}]},
    "gateway": {"port": 0},
}


@pytest.mark.slow
@needs_compiler
def test_faults_of_emulated_gpus_are_found_and_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(FAULTY))
    result = doctor(str(tmp_path / "run.yaml"), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["emulated"], document["fatal"]) == (True, 0)
    found = {f["check"]: f["found"] for f in document["findings"] if f["level"] == "warning"}
    assert "GPU 0 (GPU-5eed0000): 2 uncorrectable memory errors" in found["memory errors"]
    assert "GPU 1 (GPU-5eed0001): " in found["energy"]
    assert "(-40 %)" in found["energy"]
    assert found["processes"] == "GPU 2 (GPU-5eed0002): process 1"
    assert found["slow-down"] == "GPU 3 (GPU-5eed0003): thermal"
    room = [f["found"] for f in document["findings"] if f["check"] == "replicas"]
    assert room == [
        "asked for all, room for 3 on 3 GPUs, 1 for each; 1 with memory errors left out"
    ]


@pytest.mark.slow
@needs_compiler
def test_a_budget_that_wakes_nothing_ends_with_exit_code_1(tmp_path: Path) -> None:
    power = {"supply": [{"kind": "constant", "watts": 118}]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(FAULTY | {"power": power}))
    result = doctor(str(tmp_path / "run.yaml"))
    assert result.returncode == 1
    assert "at most 118 W for the GPUs" in " ".join(result.stdout.split())
    assert "1 fatal finding: a run cannot work here" in result.stdout


def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", absent)


def test_on_a_host_without_gpus_it_says_what_a_gpu_machine_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_driver(monkeypatch)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    assert "no NVIDIA driver answers" in shown
    assert "a GPU machine needs an NVIDIA driver (580 or newer" in shown
    assert "`steppe demo` and `steppe simulate` work" in shown


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: {name: x}\n")
    for config in (tmp_path / "none.yaml", tmp_path / "run.yaml"):
        result = CliRunner().invoke(main, ["doctor", str(config)])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1


def test_serve_is_refused_on_a_host_that_is_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_driver(monkeypatch)
    config = FAULTY | {"device": {"kind": "nvml"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "run.yaml")])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("steppe: GPUs, driver: no NVIDIA driver answers")
    assert line.endswith("`steppe doctor` shows everything")


@pytest.mark.slow
@needs_compiler
def test_the_agent_of_a_host_is_asked_and_a_lease_of_another_run_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in emulated_environment("h100", 2, tmp_path / "gpus").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    socket = tmp_path / "agent.sock"
    device = {"kind": "nvml", "agent_socket": str(socket)}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(FAULTY | {"device": device}))
    lease_file = tmp_path / "lease.json"
    with start_agent(socket, lease_file=lease_file, loss=Restore(), lease_s=60.0):
        free = doctor(str(tmp_path / "run.yaml"), "--json")
        with AgentClient(socket, 60.0, "night-run") as client:
            client.set_power_limit(json.loads(free.stdout)["nodes"][0]["gpus"][1]["uuid"], 500.0)
            held = doctor(str(tmp_path / "run.yaml"), "--json")
    before, after = (
        {f["check"]: f for f in json.loads(result.stdout)["findings"]} for result in (free, held)
    )
    assert json.loads(free.stdout)["emulated"], "the driver says so, not the configuration"
    assert before["agent"]["found"] == f"the agent at {socket} answers; loss policy restore"
    assert before["lease"]["level"] == "ok"
    assert "1 of 2 GPUs are held by night-run (process " in after["lease"]["found"]
    assert "GPU 1 (GPU-5eed0001): 500 W, 700 W by default" in after["power limits"]["found"]
