from __future__ import annotations

import json
from pathlib import Path

import pytest

from steppe.agent.lease_file import HeldLimits, owned_lease_file, read_lease_file
from steppe.errors import AgentError

GPUS_OF = "STEPPE_EMULATED_STATE"
LIMITS = (HeldLimits("GPU-a", clock_mhz=900), HeldLimits("GPU-b", None, 300.0, 700.0))


@pytest.fixture(autouse=True)
def real_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPUS_OF, raising=False)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        file.write(LIMITS)
        assert file.read() == LIMITS
    assert read_lease_file(path) == LIMITS


def test_free_gpus_are_not_written(tmp_path: Path) -> None:
    with owned_lease_file(tmp_path / "lease.json") as file:
        file.write((HeldLimits("GPU-a"), *LIMITS))
        assert file.read() == LIMITS


def test_no_file_means_nothing_is_left(tmp_path: Path) -> None:
    assert read_lease_file(tmp_path / "lease.json") == ()


def test_a_file_from_before_a_reboot_is_void(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        file.write(LIMITS)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "another boot"}))
    assert read_lease_file(path) == ()


def test_a_file_of_emulated_gpus_is_void_once_they_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = tmp_path / "lease.json", tmp_path / "gpus"
    state.touch()
    monkeypatch.setenv(GPUS_OF, str(state))
    with owned_lease_file(path) as file:
        file.write(LIMITS)
    assert read_lease_file(path) == LIMITS
    state.unlink()
    assert read_lease_file(path) == ()


def test_limits_of_emulated_and_real_gpus_are_never_taken_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        file.write(LIMITS)
    monkeypatch.setenv(GPUS_OF, str(tmp_path / "gpus"))
    with owned_lease_file(path) as file, pytest.raises(AgentError, match="found the real driver"):
        file.read()
    assert read_lease_file(path) == LIMITS


def test_a_broken_file_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text('{"boot_id": 1')
    with pytest.raises(AgentError, match="not a lease file"):
        read_lease_file(path)


def test_two_agents_never_own_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with (
        owned_lease_file(path),
        pytest.raises(AgentError, match="a running agent owns it"),
        owned_lease_file(path),
    ):
        pytest.fail("two owners")


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with owned_lease_file(path) as file:
        file.write(LIMITS)
        (tmp_path / "lease.json.draft").write_text("half a li")
        assert file.read() == LIMITS
