"""What systemd is asked to run is there, and asked for in a way that can work."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from steppe.agent.loss_policy import format_loss, parse_loss

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "steppe-agent.service"


def settings() -> dict[str, str]:
    text = UNIT.read_text().replace("\\\n", " ")
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#")
    return dict(pairs)


@pytest.mark.parametrize("setting", ["ExecStart", "ExecStopPost"])
def test_the_unit_runs_a_module_of_an_environment_with_options_that_it_has(setting: str) -> None:
    python, dash_m, module, *arguments = shlex.split(settings()[setting])
    assert PurePosixPath(python).is_absolute()
    assert python.endswith("/.venv/bin/python"), "where `make install` puts steppe"
    assert dash_m == "-m"
    assert importlib.util.find_spec(module) is not None
    told = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in told for word in arguments if word.startswith("--"))


def test_the_loss_policy_of_the_unit_is_one() -> None:
    words = shlex.split(settings()["ExecStart"])
    loss = words[words.index("--loss") + 1]
    assert format_loss(parse_loss(loss)) == loss == "restore"


def test_an_agent_that_cannot_start_is_not_tried_more_than_once_a_second() -> None:
    assert settings()["RestartSec"] == "1s"


def test_the_unit_can_run_an_environment_in_a_home_that_only_its_owner_may_read() -> None:
    assert settings()["ProtectHome"] == "read-only"
    assert "CAP_DAC_READ_SEARCH" in settings()["CapabilityBoundingSet"].split()


def test_the_unit_lets_the_agent_do_what_its_options_need() -> None:
    capabilities = settings()["CapabilityBoundingSet"].split()
    assert {"CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_SYS_NICE"} <= set(capabilities)
    words = shlex.split(settings()["ExecStart"])
    metrics = PurePosixPath(words[words.index("--metrics-file") + 1])
    assert metrics.parent == PurePosixPath("/run") / settings()["RuntimeDirectory"]
    assert words[-1] == "$OPTIONS", "the last option of a kind counts"
