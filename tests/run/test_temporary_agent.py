"""An agent for the time of a command, as real processes on emulated GPUs in real time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.emulator.build import build_library
from steppe.emulator.environment import emulated_environment
from steppe.emulator.library import Emulator

COMMAND = """
import time
from steppe.run.temporary_agent import temporary_agent
with temporary_agent() as client:
    client.set_clock_limit(client.status().gpus[0].uuid, 900)
    print("set", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_ended_by_a_signal_leaves_no_limit_and_no_folder(
    tmp_path: Path, hears_hangups: None, number: int
) -> None:
    folder, state = tmp_path / "t", tmp_path / "gpus"  # the path of a socket is short
    folder.mkdir()
    own = {"TMPDIR": str(folder), "STEPPE_EMULATED_PRIVILEGE": "1"}
    environment = os.environ | emulated_environment("h100", 1, state) | own
    emulator = Emulator.attach(build_library(), state, "h100x1")
    command = [sys.executable, "-c", COMMAND]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "set\n"
        run.send_signal(number)
        run.wait(30.0)
    assert list(folder.iterdir()) == []
    assert emulator.snapshot(0).clock_lock_mhz is None
