"""The agent as a service: what is written, and what is checked before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from steppe.agent import install
from steppe.agent.install import (
    OPTIONS_FILE,
    UNIT_FILE,
    USERS_FILE,
    WANTED,
    start_service,
    writable_by_others,
)
from steppe.cli.agent import agent_group
from steppe.errors import InstallError, UsageError

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "steppe-agent.service"
PYTHON = "/usr/lib/steppe/bin/python"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(agent_group, ["install", *arguments])


def test_an_image_gets_unit_user_group_and_options(tmp_path: Path) -> None:
    result = run("--root", str(tmp_path), "--python", PYTHON, "--options", "--lease-s 5")
    assert result.exit_code == 0
    written = (tmp_path / UNIT_FILE).read_text()
    assert written == UNIT.read_text().replace("/opt/steppe/.venv/bin/python", PYTHON)
    assert written.count(PYTHON) == 2
    assert 'u steppe - "Steppe fleets"' in (tmp_path / USERS_FILE).read_text()
    assert 'OPTIONS="--lease-s 5"' in (tmp_path / OPTIONS_FILE).read_text()
    assert (tmp_path / WANTED).resolve() == (tmp_path / UNIT_FILE)
    assert "--socket-group steppe" in written
    assert f"EnvironmentFile=-/{OPTIONS_FILE}" in written


def test_options_that_a_site_has_set_are_kept(tmp_path: Path) -> None:
    run("--root", str(tmp_path), "--options", "--lease-s 5")
    result = run("--root", str(tmp_path), "--options", "--lease-s 9")
    assert "kept" in result.output
    assert 'OPTIONS="--lease-s 5"' in (tmp_path / OPTIONS_FILE).read_text()


def test_a_dry_run_prints_the_files_and_writes_none(tmp_path: Path) -> None:
    result = run("--root", str(tmp_path), "--dry-run", "--python", PYTHON)
    for path in (UNIT_FILE, USERS_FILE, OPTIONS_FILE, WANTED):
        assert f"# {tmp_path / path}" in result.output
    assert f"ExecStart={PYTHON} -m steppe.agent.server" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--bad 3", "--bad"),
        ("--lease-s 0", "--lease-s"),
        ("--loss floor=low", "floor=low"),
        ('"', "quotation"),
    ],
)
def test_options_that_the_agent_does_not_know_are_refused(
    tmp_path: Path, options: str, found: str
) -> None:
    result = run("--root", str(tmp_path), "--options", options)
    assert isinstance(result.exception, UsageError)
    assert found in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_python_that_another_user_may_change_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    python = folder / "python"
    python.touch()
    tmp_path.parent.chmod(0o755)
    assert writable_by_others((python,)) is None
    os.chown(folder, 1000, -1)
    assert writable_by_others((python,)) == f"{folder} belongs to user 1000"
    os.chown(folder, 0, -1)
    python.chmod(0o775)
    assert writable_by_others((python,)) == f"{python} may be written by others than its owner"


def test_a_link_counts_with_what_it_points_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.touch()
    target.chmod(0o777)
    (tmp_path / "link").symlink_to(target)
    found = writable_by_others((tmp_path / "link",))
    assert found is not None
    assert os.geteuid() != 0 or str(target) in found


def test_the_service_starts_once_its_group_exists() -> None:
    ran: list[str] = []

    def note(command: Sequence[str]) -> None:
        ran.append(command[0] + " " + command[1])

    lines = start_service(note)
    assert ran[0].startswith("systemd-sysusers")
    assert ran[1:] == ["systemctl daemon-reload", "systemctl enable", "systemctl restart"]
    assert len(lines) == len(ran)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("no-such-command", "x"), "found no such command"),
        (("sh", "-c", "echo broken >&2; exit 3"), "broken"),
        (("sh", "-c", "exit 3"), "exit code 3"),
    ],
)
def test_a_command_that_fails_says_why(command: Sequence[str], found: str) -> None:
    with pytest.raises(InstallError, match=found):
        install.run_command(command)
