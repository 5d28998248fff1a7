from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steppe.engine.control_block import ControlBlock, Telemetry
from steppe.fleet.node.engine_watch import EngineWatch, end_engine, is_stopped

MAPPER = """
import sys
from pathlib import Path
from steppe.engine.control_block import ControlBlock
block = ControlBlock(Path(sys.argv[1]))
print("mapped", flush=True)
sys.stdin.read()
"""
WORK = Telemetry(steps=7, running=2, now_ns=1)


@pytest.fixture
def block(tmp_path: Path) -> Iterator[ControlBlock]:
    made = ControlBlock.create(tmp_path / "replica-1.block")
    yield made
    made.close()


@pytest.fixture
def engine(block: ControlBlock) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has mapped the block."""
    command = [sys.executable, "-c", MAPPER, str(block.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"mapped\n"
        block.note_engine(process.pid)
        block.note_host(os.getpid())
        yield process
        process.kill()


def wait_until_stopped(process: int, stopped: bool) -> None:
    give_up_s = time.monotonic() + 20
    while is_stopped(process) != stopped:
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def test_work_without_a_step_is_a_stall_until_there_is_a_step(block: ControlBlock) -> None:
    watch = EngineWatch()
    silent_s = []
    for now_s, steps in enumerate((7, 7, 7, 8, 8)):
        watch.look(block, replace(WORK, steps=steps), float(now_s), may_step=True)
        silent_s.append(watch.silent_s)
    assert silent_s == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_pause_of_the_whole_machine_is_no_stall_of_the_engine(block: ControlBlock) -> None:
    watch = EngineWatch()
    for now_s in (0.0, 1.0, 2.0, 502.0, 503.0):
        watch.look(block, WORK, now_s, may_step=True)
    assert watch.silent_s == 1.0


@pytest.mark.parametrize("pause", ["asleep", "without work", "limits lapsed"])
def test_a_pause_that_was_asked_for_is_no_stall(block: ControlBlock, pause: str) -> None:
    watch = EngineWatch()
    counters = Telemetry(steps=7) if pause == "without work" else WORK
    if pause == "limits lapsed":
        block.renew(time.monotonic() - 1)
    for now_s in range(5):
        watch.look(block, counters, float(now_s), may_step=pause != "asleep")
    assert watch.silent_s == 0.0


def test_a_stopped_engine_is_noticed_at_once_and_forgiven_when_it_goes_on(
    block: ControlBlock, engine: subprocess.Popen[bytes]
) -> None:
    watch = EngineWatch()
    os.kill(engine.pid, signal.SIGSTOP)
    wait_until_stopped(engine.pid, True)
    for now_s in (0.0, 3.0):
        watch.look(block, Telemetry(), now_s, may_step=True)
    assert (watch.is_stopped, watch.silent_s) == (True, 3.0)
    os.kill(engine.pid, signal.SIGCONT)
    wait_until_stopped(engine.pid, False)
    watch.look(block, Telemetry(), 4.0, may_step=True)
    assert (watch.is_stopped, watch.silent_s) == (False, 0.0)


def test_a_stopped_engine_whose_replica_starts_again_is_killed(
    block: ControlBlock, engine: subprocess.Popen[bytes]
) -> None:
    os.kill(engine.pid, signal.SIGSTOP)
    end_engine(block)
    assert engine.wait(20) == -signal.SIGKILL


def test_an_engine_inside_its_replica_and_an_id_that_was_used_again_are_left_alone(
    block: ControlBlock, engine: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    other = ControlBlock.create(tmp_path / "other.block")
    other.note_engine(engine.pid)
    other.note_host(os.getpid())
    end_engine(other)
    block.note_host(engine.pid)
    end_engine(block)
    assert engine.poll() is None
    other.close()
