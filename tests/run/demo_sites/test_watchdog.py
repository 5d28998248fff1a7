from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from steppe.fleet.orphan_processes import process_of
from steppe.run.demo_sites.watchdog import Watchdog, end_when_lost

SLEEPER = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
KILLED = """
import os, signal, sys
from steppe.run.demo_sites.watchdog import Watchdog
with Watchdog() as watchdog:
    watchdog.watch(int(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends on a signal only."""
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def said(process: subprocess.Popen[bytes], *, done: bool) -> io.BytesIO:
    own = process_of(process.pid)
    return io.BytesIO(f"{own.number} {own.started_ticks}\n".encode() + b"done\n" * done)


def test_what_a_killed_demo_has_left_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    assert end_when_lost(said(sleeper, done=False)) == [sleeper.pid]
    assert sleeper.wait(60) == -signal.SIGTERM


def test_after_a_normal_end_nothing_is_touched(sleeper: subprocess.Popen[bytes]) -> None:
    assert end_when_lost(said(sleeper, done=True)) == []
    assert sleeper.poll() is None


def test_a_later_process_with_the_same_id_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    earlier = io.BytesIO(f"{sleeper.pid} 1\n".encode())
    assert end_when_lost(earlier) == []
    assert sleeper.poll() is None


def test_a_block_that_ends_leaves_no_process(sleeper: subprocess.Popen[bytes]) -> None:
    with Watchdog() as watchdog:
        watchdog.watch(sleeper.pid)
    assert sleeper.poll() is None


def test_a_demo_that_is_killed_ends_its_sites(sleeper: subprocess.Popen[bytes]) -> None:
    demo = subprocess.run([sys.executable, "-c", KILLED, str(sleeper.pid)], check=False)
    assert demo.returncode == -signal.SIGKILL
    assert sleeper.wait(60) == -signal.SIGTERM
