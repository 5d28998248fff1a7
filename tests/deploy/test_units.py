"""Units of systemd are sound, and mistakes in them are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from deploy.check.units import (
    AGENT,
    CLOSE_S,
    DRIVER,
    LIMITS,
    MISSING,
    NODE,
    SANDBOXES,
    exposure_problems,
    problems,
    root_problems,
    sandbox_problems,
    seconds,
    settings,
    stop_problems,
    undo_problems,
    unknown_settings,
)

from steppe.agent.install import GROUP
from steppe.cli.serve import serve_command
from steppe.config.control import ControlSection
from steppe.config.gateway import GatewaySection

NEEDS_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="apt-get install systemd"
)
OF_SANDBOX = "# No capability:"


@NEEDS_SYSTEMD
def test_units_are_sound() -> None:
    assert list(problems()) == []


def test_a_host_without_systemd_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(problems()) == [MISSING]


@NEEDS_SYSTEMD
@pytest.mark.parametrize("unit", LIMITS, ids=[path.name for path in LIMITS])
def test_a_service_without_its_sandbox_is_too_exposed(unit: Path) -> None:
    text = unit.read_text()
    for setting in ("NoNewPrivileges", "ProtectSystem", "SystemCallFilter", "RestrictNamespaces"):
        text = text.replace(f"{setting}=", f"# {setting}=")
    (problem,) = exposure_problems(text, LIMITS[unit])
    assert f"not {LIMITS[unit]} at most" in problem


@NEEDS_SYSTEMD
def test_a_setting_that_systemd_does_not_know_is_found() -> None:
    (problem,) = unknown_settings(DRIVER.read_text().replace("KillMode=", "KilMode="))
    assert "Unknown key 'KilMode' in section [Service]" in problem


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("TimeoutStopSec=120s", "TimeoutStopSec=5s", "is shorter than a stop may take, 65 s"),
        ("KillMode=mixed", "KillMode=control-group", "KillMode is not mixed"),
        ("User=steppe", "User=root", "User is root: it runs as root"),
        ("User=steppe\n", "", "User is not set: it runs as root"),
    ],
)
def test_a_mistake_in_the_unit_of_the_driver_is_found(right: str, wrong: str, problem: str) -> None:
    text = DRIVER.read_text()
    assert text.count(right) == 1
    text = text.replace(right, wrong)
    drain_s = GatewaySection().drain_s + CLOSE_S
    (found,) = (*root_problems(text), *stop_problems(text, drain_s))
    assert problem in found


@pytest.mark.parametrize("path", SANDBOXES, ids=[path.name for path in SANDBOXES])
def test_each_setting_of_a_sandbox_that_is_weaker_is_named(path: Path) -> None:
    lines = path.read_text().replace("\\\n", "").splitlines()
    for name, asked in SANDBOXES[path].items():
        weaker = [line for line in lines if not line.startswith(f"{name}=")]
        (problem,) = sandbox_problems("\n".join(weaker), SANDBOXES[path])
        assert problem == f"{name} is not set, asked for {name}={asked}"


def test_a_capability_of_the_driver_is_named() -> None:
    text = DRIVER.read_text()
    more = text.replace("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_SYS_ADMIN")
    (problem,) = sandbox_problems(more, SANDBOXES[DRIVER])
    assert problem.startswith("CapabilityBoundingSet is CAP_SYS_ADMIN, asked for")


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("--undo", "", "no ExecStopPost undoes"),
        ("Restart=always", "Restart=no", "is not always started again"),
        ("Preserve=yes", "Preserve=no", "loses its lease file"),
    ],
)
def test_an_agent_that_would_leave_limits_behind_is_found(
    right: str, wrong: str, problem: str
) -> None:
    (found,) = undo_problems(AGENT.read_text().replace(right, wrong))
    assert problem in found


def test_a_replica_may_finish_its_requests_before_its_node_is_ended() -> None:
    assert seconds(settings(NODE.read_text())["TimeoutStopSec"]) > ControlSection().drain_s


def test_driver_and_node_have_the_same_sandbox() -> None:
    driver, node = (path.read_text().partition(OF_SANDBOX)[2] for path in (DRIVER, NODE))
    assert driver == node != ""


def test_the_user_is_the_one_that_the_agent_lets_in() -> None:
    for unit in (DRIVER, NODE):
        found = settings(unit.read_text())
        assert found["User"] == found["Group"] == GROUP


def test_the_driver_runs_a_command_with_options_that_it_has() -> None:
    program, command, _config, *options = settings(DRIVER.read_text())["ExecStart"].split()
    assert (Path(program).name, command) == ("steppe", "serve")
    told = CliRunner().invoke(serve_command, ["--help"]).output
    assert {"--record", "--resume"} <= set(options)
    assert all(option in told for option in options if option.startswith("--"))
