from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from click.testing import CliRunner

from steppe.cli import main
from steppe.options import EMULATED
from steppe.sim.engine.pace_model import PROFILES


def gpus(*options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a driver stays loaded until its process ends."""
    command = [sys.executable, "-m", "steppe.cli", "gpus", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_emulated_gpus_are_listed_as_emulated() -> None:
    result = gpus("--emulated", "l4", "--count", "2", "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["gpus"]
    assert [row["meter"] for row in rows] == ["emulated", "emulated"]
    assert len({row["uuid"] for row in rows}) == 2
    assert rows[0]["power_limit_range_w"][1] == 72


def test_an_unknown_profile_is_one_line_that_names_it_and_the_known_ones() -> None:
    result = gpus("--emulated", "abacus")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "'abacus' is not one of 'a100', 'b200'" in result.stderr


def test_the_selectable_profiles_are_those_of_the_emulator() -> None:
    assert sorted(EMULATED.choices) == sorted(re.findall(r'\.key = "(\w+)"', PROFILES.read_text()))


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_a_recording_is_one_document_and_changes_no_limit(tmp_path: Path) -> None:
    out = tmp_path / "l4.json"
    result = gpus("--emulated", "l4", "record", "--seconds", "0.6", "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    document = json.loads(out.read_text())
    assert document["source"] == "emulated"
    assert len(document["gpus"]) == 2
    assert "steps" not in document["gpus"][0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_a_recording_with_control_steps_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    result = gpus("--emulated", "l4", "--count", "1", "record", "--seconds", "0.5", "--control")
    assert result.returncode == 0, result.stderr
    steps = json.loads(result.stdout)["gpus"][0]["steps"]
    assert set(steps) == {"clock_limit", "power_limit_down", "power_limit_up"}
    assert steps["clock_limit"]["lag_s"] is None, "an idle clock is low already"
    assert steps["power_limit_down"]["call_s"] < 1.0


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_a_recording_with_control_needs_the_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "0")
    result = gpus("--emulated", "l4", "--count", "1", "record", "--seconds", "0.5", "--control")
    assert result.returncode == 1
    assert "Insufficient Permissions" in result.stderr


@pytest.mark.parametrize(
    ("command", "otherwise"),
    [
        (["gpus"], "`steppe gpus --emulated l4` has emulated ones"),
        (["gpus", "record"], "`steppe gpus --emulated l4` has emulated ones"),
        (["bench", "probe"], "--emulated l4 probes an emulated one"),
        (
            ["bench", "serve", "--concurrency", "1", "--prompt", "1", "--output", "1"],
            "--meter endpoint and --meter none need none",
        ),
        (["agent"], "`steppe demo` emulates some, and their agent"),
    ],
)
def test_the_error_without_gpus_says_what_works_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], otherwise: str
) -> None:
    def absent() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    if command == ["agent"]:
        command = [*command, "--socket", f"{tmp_path}/a", "--lease-file", f"{tmp_path}/l"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("steppe: asked for the GPUs of this host, found no driver that answers")
    assert line.endswith(f"; {otherwise}")
