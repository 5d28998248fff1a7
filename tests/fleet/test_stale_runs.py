from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.agent.lease_file import HeldLimits, owned_lease_file
from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.environment import STATE_VARIABLE, emulated_environment
from steppe.emulator.library import Emulator
from steppe.fleet.stale_runs import LEASE_FILE, hold, remove_stale_runs

DEAD, ALIVE = "1111", "2222"


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """Return a kernel's list with one process, which uses none of these files."""
    process = tmp_path / "proc" / ALIVE
    process.mkdir(parents=True)
    (process / "maps").write_text("7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libc.so.6\n")
    (process / "cmdline").write_text("python\0-m\0http.server\0")
    return tmp_path / "proc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shm"
    made.mkdir()
    for pid in (DEAD, ALIVE):
        (made / f"steppe-gpus-{pid}").write_text("state")
        (made / f"steppe-run-{pid}-a1b2c3d4").mkdir()
        (made / f"steppe-run-{pid}-a1b2c3d4" / "replica-1.block").write_text("block")
    (made / "psm_1111").write_text("of another program")
    return made


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Return the truth about one GPU that this process and its children see."""
    for name, value in emulated_environment("h100", 1, tmp_path / "gpus").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    made = Emulator.attach(build_library(), tmp_path / "gpus", "h100x1")
    made.use_virtual_clock(True)
    yield made
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def leave_limit(folder: Path, uuid: str) -> None:
    with owned_lease_file(folder / f"steppe-run-{DEAD}-a1b2c3d4" / LEASE_FILE) as file:
        file.write((HeldLimits(uuid, clock_mhz=900),))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_dead_run_left_is_removed_and_nothing_else(folder: Path, processes: Path) -> None:
    removed = remove_stale_runs(folder, processes)
    assert {path.name for path in removed} == {"steppe-gpus-1111", "steppe-run-1111-a1b2c3d4"}
    assert names(folder) == {"steppe-gpus-2222", "steppe-run-2222-a1b2c3d4", "psm_1111"}


def test_what_a_process_maps_is_in_use(folder: Path, processes: Path) -> None:
    gpus = folder / "steppe-gpus-node-a1b2c3d4"
    gpus.write_text("state")
    block = folder / "steppe-run-1111-a1b2c3d4" / "replica-1.block"
    maps = "".join(f"7f00-7f01 rw-s 00000000 00:18 5 {path}\n" for path in (block, gpus))
    (processes / ALIVE / "maps").write_text(maps)
    remove_stale_runs(folder, processes)
    assert {"steppe-run-1111-a1b2c3d4", "steppe-gpus-node-a1b2c3d4"} <= names(folder)
    (processes / ALIVE / "maps").write_text("")
    remove_stale_runs(folder, processes)
    assert names(folder) == {"steppe-gpus-2222", "steppe-run-2222-a1b2c3d4", "psm_1111"}


def test_gpus_of_a_dead_run_are_removed_even_while_a_helper_of_ray_maps_them(
    folder: Path, processes: Path
) -> None:
    state = folder / "steppe-gpus-1111"
    (processes / ALIVE / "maps").write_text(f"7f00-7f01 rw-s 00000000 00:18 5 {state}\n")
    remove_stale_runs(folder, processes)
    assert "steppe-gpus-1111" not in names(folder)


def test_a_folder_on_a_command_line_is_in_use(folder: Path, processes: Path) -> None:
    socket = folder / "steppe-run-1111-a1b2c3d4" / "agent.sock"
    (processes / ALIVE / "cmdline").write_text(f"agent\0--socket\0{socket}\0")
    remove_stale_runs(folder, processes)
    assert "steppe-run-1111-a1b2c3d4" in names(folder)


def test_a_run_that_is_over_leaves_nothing_even_while_its_process_is_alive(
    folder: Path, processes: Path
) -> None:
    remove_stale_runs(folder, processes, ended=int(ALIVE))
    assert names(folder) == {"psm_1111"}


def test_a_semaphore_that_no_process_maps_is_removed(folder: Path, processes: Path) -> None:
    for name in ("sem.mp-dead", "sem.mp-used"):
        (folder / name).write_text("semaphore")
    (processes / ALIVE / "maps").write_text(f"7f00-7f01 rw-s 0 00:18 6 {folder / 'sem.mp-used'}\n")
    remove_stale_runs(folder, processes)
    assert "sem.mp-used" in names(folder)
    assert "sem.mp-dead" not in names(folder)


def test_limits_of_a_run_that_was_killed_with_its_agent_are_undone_before_its_folder_goes(
    folder: Path, processes: Path, emulator: Emulator
) -> None:
    (gpu,) = open_gpus()
    gpu.set_clock_limit(900)
    leave_limit(folder, gpu.uuid)
    emulator.tick(0.1)
    assert emulator.snapshot(0).clock_lock_mhz == (210, 900)
    remove_stale_runs(folder, processes)
    emulator.tick(0.1)
    assert emulator.snapshot(0).clock_lock_mhz is None
    assert "steppe-run-1111-a1b2c3d4" not in names(folder)


def test_the_folder_of_a_run_stays_while_limits_that_it_names_cannot_be_undone(
    folder: Path,
    processes: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    leave_limit(folder, "GPU-elsewhere")
    remove_stale_runs(folder, processes)
    assert "steppe-run-1111-a1b2c3d4" in names(folder)
    assert "limits of a dead run stay set" in caplog.text


def test_limits_of_emulated_gpus_that_are_gone_keep_no_folder(
    folder: Path, processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(folder / f"steppe-gpus-{DEAD}"))
    leave_limit(folder, "GPU-emulated")
    monkeypatch.delenv(STATE_VARIABLE)
    remove_stale_runs(folder, processes)
    assert not {name for name in names(folder) if DEAD in name} - {"psm_1111"}


def test_a_run_of_another_container_that_shares_our_memory_is_in_use(
    folder: Path, processes: Path
) -> None:
    run = folder / f"steppe-run-{DEAD}-a1b2c3d4"  # no process of that number is seen from here
    held = hold(run)
    remove_stale_runs(folder, processes, ended=int(DEAD))
    assert (run / "replica-1.block").exists()
    os.close(held)  # as the kernel does when a node dies
    remove_stale_runs(folder, processes)
    assert not run.exists()


def test_a_process_that_cannot_be_read_is_skipped(folder: Path, processes: Path) -> None:
    (processes / "3333").mkdir()  # ended between the list and the look
    remove_stale_runs(folder, processes)
    assert "steppe-gpus-1111" not in names(folder)


def test_a_file_that_is_removed_meanwhile_is_skipped(
    folder: Path, processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [*folder.iterdir(), folder / "sem.mp-gone"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    assert folder / "steppe-gpus-1111" in remove_stale_runs(folder, processes)


def test_files_of_a_live_process_stay_on_the_real_process_list(tmp_path: Path) -> None:
    mine = tmp_path / f"steppe-gpus-{os.getpid()}"
    mine.write_text("state")
    assert remove_stale_runs(tmp_path) == ()
    assert mine.exists()
