"""Two drivers of a run: one is active, the other takes over when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from steppe.fleet import stale_runs
from steppe.fleet.stale_runs import remove_stale_runs
from steppe.run.shared_run import HUNG_S, SharedRun

RUN = "4000000-ab12"
"""No process has the id in this name."""

ACTIVE = """
import sys, time
from pathlib import Path
from steppe.fleet import stale_runs
stale_runs.state_folder = lambda: Path(sys.argv[1])
from steppe.run.shared_run import SharedRun
shared = SharedRun(sys.argv[2])
shared.become_active()
shared.write(b"what it knows")
print("active", flush=True)
time.sleep(600)
"""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for files in memory."""
    monkeypatch.setattr(stale_runs, "state_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def active(memory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is the active driver."""
    command = [sys.executable, "-c", ACTIVE, str(memory), RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "active\n"
        yield process
        process.kill()


def test_the_first_driver_is_active_at_once_and_knows_of_none_before(memory: Path) -> None:
    shared = SharedRun(RUN)
    assert (shared.has_begun, shared.has_ended) == (False, False)
    assert shared.become_active() is None
    assert shared.process == 4_000_000


@pytest.mark.slow
def test_the_standby_gets_what_the_active_one_wrote_when_that_is_killed(
    active: subprocess.Popen[str],
) -> None:
    standby = SharedRun.find(RUN)
    assert standby is not None
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            active.kill()
        time.sleep(0.01)

    standby._sleep = wait
    assert standby.become_active() == b"what it knows"
    assert len(waits) >= 3


@pytest.mark.slow
def test_an_active_driver_that_is_stopped_is_killed_before_the_standby_takes_over(
    active: subprocess.Popen[str],
) -> None:
    os.kill(active.pid, signal.SIGSTOP)
    clock = SimpleNamespace(now_s=0.0)
    found: list[bool] = []

    def wait(seconds: float) -> None:
        clock.now_s += HUNG_S / 3
        found.append(active.poll() is None)
        time.sleep(0.01)

    standby = SharedRun(RUN, lambda: clock.now_s, wait)
    assert standby.become_active() == b"what it knows"
    assert found[:3] == [True, True, True]
    assert active.wait(30.0) == -signal.SIGKILL


@pytest.mark.slow
def test_the_files_of_a_run_stay_while_one_of_its_drivers_lives(
    active: subprocess.Popen[str], memory: Path
) -> None:
    gpus = memory / "steppe-gpus-4000000"
    gpus.touch()
    assert remove_stale_runs(memory) == ()
    active.kill()
    active.wait()
    assert sorted(path.name for path in remove_stale_runs(memory)) == [
        "steppe-gpus-4000000",
        f"steppe-run-{RUN}-drivers",
    ]


def test_a_run_that_has_ended_is_not_gone_on_with(memory: Path) -> None:
    shared, standby = SharedRun(RUN), SharedRun.find(RUN)
    assert standby is not None
    shared.become_active()
    shared.write(b"what it knows")
    assert (standby.has_begun, standby.has_ended) == (True, False)
    shared.end()
    assert standby.has_ended
    shared.remove()
    assert standby.has_ended
    assert SharedRun.find(RUN) is None


def test_a_state_that_cannot_be_written_is_a_warning(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = SharedRun(RUN)
    shared.remove()
    shared.write(b"what it knows")
    assert "another driver would go on from an earlier time" in caplog.text


def test_a_new_run_has_the_id_of_this_process_in_its_name(memory: Path) -> None:
    assert SharedRun.new().process == os.getpid()
