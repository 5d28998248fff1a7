from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steppe.fleet.orphan_processes import (
    Process,
    end_orphan_processes,
    has_title,
    process_of,
    processes_of,
)

SESSION = "session_2001-09-05_09-00-00_000000_1"
WAITS = "import sys; print(flush=True); sys.stdin.read()"
HAS_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""

Child = subprocess.Popen[bytes]
Start = Callable[..., Child]


@pytest.fixture
def session(tmp_path: Path) -> str:
    """Return the name of a session whose folder is there; no other test has the same."""
    name = f"{SESSION}-{tmp_path.name}-{os.getpid()}"
    (tmp_path / name / "logs").mkdir(parents=True)
    return name


@pytest.fixture
def output(tmp_path: Path, session: str) -> Path:
    return tmp_path / session / "logs" / "worker.out"


@pytest.fixture
def start(output: Path) -> Iterator[Start]:
    """Return a function that starts a child, and returns once it has printed a line to its file."""
    children: list[Child] = []

    def begin(code: str = WAITS, to: Path = output, own_session: bool = False) -> Child:
        with to.open("wb") as file:
            child = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=file,
                start_new_session=own_session,
            )
        children.append(child)
        while not to.stat().st_size:
            assert child.poll() is None
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def numbers(session: str) -> set[int]:
    return {process.number for process in processes_of(session)}


def test_a_process_that_prints_to_the_folder_of_a_session_belongs_to_it(
    start: Start, session: str
) -> None:
    child = start()
    assert numbers(session) == {child.pid}


def test_a_descendant_belongs_to_it_wherever_it_prints_to(
    start: Start, session: str, output: Path
) -> None:
    parent = start(HAS_A_CHILD)
    assert numbers(session) == {parent.pid, int(output.read_text())}


def test_a_process_of_another_session_does_not_belong_to_it(
    start: Start, session: str, tmp_path: Path
) -> None:
    other = tmp_path / f"{session}0"
    other.mkdir()
    start(to=other / "worker.out")
    assert processes_of(session) == frozenset()


def test_a_process_that_only_reads_in_the_folder_does_not_belong_to_it(
    start: Start, session: str, output: Path, tmp_path: Path
) -> None:
    output.touch()
    start(f"log = open({str(output)!r}); {WAITS}", to=tmp_path / "elsewhere")
    assert processes_of(session) == frozenset()


def test_an_agent_in_a_kernel_session_of_its_own_is_left_to_undo_its_limits(
    start: Start, session: str
) -> None:
    agent = start(own_session=True)
    assert end_orphan_processes(session, processes_of(session), wait_s=0.0) == 0
    assert agent.poll() is None


def test_a_zombie_does_not_belong_to_it(start: Start, session: str) -> None:
    child = start()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}").exists()
    assert processes_of(session) == frozenset()


def test_a_process_that_stays_is_killed_with_its_descendants_and_counted(
    start: Start, session: str
) -> None:
    stays = start(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {HAS_A_CHILD}")
    family = processes_of(session)
    assert end_orphan_processes(session, frozenset(), wait_s=0.0) == 2
    assert stays.wait(0) == -9
    assert not any(process.is_alive for process in family)


def test_a_known_process_is_killed_although_it_can_no_longer_be_identified(
    start: Start, session: str, output: Path
) -> None:
    parent = start(HAS_A_CHILD)
    family = processes_of(session)
    parent.kill()
    parent.wait()
    (orphan,) = (process for process in family if process.is_alive)
    assert orphan.number == int(output.read_text())
    assert processes_of(session) == frozenset()
    assert end_orphan_processes(session, family, wait_s=0.0) == 1
    assert not orphan.is_alive


def test_a_process_that_ends_by_itself_is_not_killed(start: Start, session: str) -> None:
    leaves = start()
    known = processes_of(session)
    assert leaves.stdin is not None
    leaves.stdin.close()
    assert end_orphan_processes(session, known, wait_s=50.0) == 0
    assert leaves.wait(0) == 0


@pytest.mark.timeout(20)
def test_a_cluster_that_is_gone_takes_no_time(session: str) -> None:
    assert end_orphan_processes(session, frozenset(), wait_s=1000.0) == 0


def test_a_later_process_with_the_same_number_is_not_killed(
    start: Start, session: str, tmp_path: Path
) -> None:
    child = start(to=tmp_path / "elsewhere")
    earlier = Process(child.pid, started_ticks=0)
    assert not earlier.is_alive
    assert end_orphan_processes(session, frozenset({earlier}), wait_s=0.0) == 0
    assert child.poll() is None


def test_a_process_is_known_by_the_begin_of_its_command_line() -> None:
    own = process_of(os.getpid())
    title = Path("/proc/self/cmdline").read_bytes().decode()[:6]
    assert has_title(own, title)
    assert not has_title(own, "ray::GatewayActor")
    assert not has_title(Process(4_000_000, 1), title)
