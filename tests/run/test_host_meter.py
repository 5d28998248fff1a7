from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.agent.host_limits import undo_lease
from steppe.agent.lease_file import read_lease_file
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.errors import AgentError
from steppe.run import host_meter
from steppe.run.host_meter import clock_setter

RESET_CLOCK, TIMEOUT = "nvmlDeviceResetGpuLockedClocks", pynvml.NVML_ERROR_TIMEOUT


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Emulate a GPU whose clock this process may limit, and keep its folders under our own."""
    library, state = build_library(), tmp_path / "gpus"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("STEPPE_EMULATED_GPUS", "h100x1")
    monkeypatch.setenv("STEPPE_EMULATED_STATE", str(state))
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(host_meter, "has_admin_capability", lambda: True)
    emulator = Emulator.attach(library, state, "h100x1")
    yield emulator
    emulator.clear_faults()
    pynvml.nvmlShutdown()


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("steppe-*"))


def test_a_clock_limit_ends_with_its_block_although_undoing_it_failed_at_first(
    gpu: Emulator,
) -> None:
    with clock_setter(open_gpus()) as set_clock:
        set_clock(600)
        gpu.inject(RESET_CLOCK, error=TIMEOUT, count=3)
    assert gpu.snapshot(0).clock_lock_mhz is None
    assert folders() == []


def limit_and_break(gpu: Emulator) -> None:
    with clock_setter(open_gpus()) as set_clock:
        set_clock(600)
        gpu.inject(RESET_CLOCK, error=TIMEOUT)


@pytest.mark.slow
def test_a_clock_limit_that_cannot_be_undone_is_an_error_and_keeps_its_lease_file(
    gpu: Emulator,
) -> None:
    with pytest.raises(AgentError, match="found a GPU that keeps them"):
        limit_and_break(gpu)
    lease_file = folders()[0] / "lease.json"
    assert [limits.clock_mhz for limits in read_lease_file(lease_file)] == [600]
    gpu.clear_faults()
    assert undo_lease(lease_file) == ()
