from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.engine import control_block
from steppe.engine.control_block import (
    WORD_BYTES,
    ControlBlock,
    EngineLimits,
    RequestWork,
    StepRecord,
    Telemetry,
    request_key,
)

SMALL_RING = 256
GUARD = 70
HEAD_WORD = 16

counts = st.integers(0, 2**31 - 1)
works = st.builds(RequestWork, st.integers(0, 2**63 - 1), counts, counts, counts)
times = st.integers(0, 2**62)
steps = st.builds(StepRecord, times, times, st.lists(works, max_size=8).map(tuple), counts)

ENGINE = """
import sys
from pathlib import Path
from steppe.engine.control_block import ControlBlock, RequestWork, StepRecord, Telemetry
block = ControlBlock(Path(sys.argv[1]))
_, limits = block.read_limits(-1)
block.append_step(StepRecord(1, 2, (RequestWork(7, limits.batch_limit, 5, 6),)))
block.write_telemetry(Telemetry(steps=1, running=limits.tokens_per_step))
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ControlBlock]:
    block = ControlBlock.create(tmp_path / "block")
    yield block
    block.close()


@pytest.fixture
def engine(node: ControlBlock) -> Iterator[ControlBlock]:
    """Return a second mapping of the same file."""
    block = ControlBlock(node.path)
    yield block
    block.close()


def shrink(patch: pytest.MonkeyPatch, ring_words: int = SMALL_RING) -> None:
    """Make blocks from now on small, so that a few steps fill them."""
    patch.setattr(control_block, "RING_WORDS", ring_words)
    patch.setattr(control_block, "GUARD_WORDS", GUARD)
    patch.setattr(control_block, "FILE_BYTES", (control_block.RING_AT + ring_words) * WORD_BYTES)


def step_of(number: int, requests: int = 2) -> StepRecord:
    work = tuple(RequestWork(number * 10 + i, i, 1, 1) for i in range(requests))
    return StepRecord(number, number + 1, work)


def test_limits_reach_the_engine_once(node: ControlBlock, engine: ControlBlock) -> None:
    node.write_limits(EngineLimits(4, 128, hold=False))
    news = engine.read_limits(-1)
    assert news is not None
    version, limits = news
    assert limits == EngineLimits(4, 128, hold=False)
    assert engine.read_limits(version) is None
    node.write_limits(EngineLimits(8))
    again = engine.read_limits(version)
    assert again is not None
    assert again[1] == EngineLimits(8)


def test_a_new_file_sets_no_limits(engine: ControlBlock) -> None:
    news = engine.read_limits(-1)
    assert news is not None
    assert news[1] == EngineLimits(0, 0, hold=False)


def test_limits_that_are_being_written_are_not_read(
    node: ControlBlock, engine: ControlBlock
) -> None:
    write_word(node.path, 0, 1)
    assert engine.read_limits(-1) is None


def test_a_writer_that_died_halfway_does_not_silence_the_next_one(
    node: ControlBlock, engine: ControlBlock
) -> None:
    write_word(node.path, 0, 1)
    node.write_limits(EngineLimits(4))
    news = engine.read_limits(-1)
    assert news is not None
    assert news[1].batch_limit == 4


def test_limits_without_a_deadline_hold_for_ever(engine: ControlBlock) -> None:
    assert (engine.deadline_s, engine.has_lapsed) == (None, False)


def test_limits_lapse_at_their_deadline_until_they_are_renewed(
    node: ControlBlock, engine: ControlBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(now_s * 1e9))
    node.renew(103.0)
    assert (engine.deadline_s, engine.has_lapsed) == (103.0, False)
    now_s = 103.1
    assert engine.has_lapsed
    node.write_limits(EngineLimits(4))
    assert engine.has_lapsed
    node.renew(106.0)
    assert not engine.has_lapsed


def test_telemetry_reaches_the_node(node: ControlBlock, engine: ControlBlock) -> None:
    telemetry = Telemetry(*range(1, 9))
    engine.write_telemetry(telemetry)
    assert node.read_telemetry() == telemetry
    engine.write_telemetry(replace(telemetry, running=0))
    assert node.read_telemetry().running == 0


@settings(deadline=None)
@given(st.lists(steps, max_size=5))
def test_steps_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, written: list[StepRecord]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, 512)
        node = ControlBlock.create(tmp_path_factory.mktemp("block") / "block")
        engine = ControlBlock(node.path)
        for step in written:
            engine.append_step(step)
        batch = node.read_steps()
        assert (batch.steps, batch.lost) == (tuple(written), False)
        assert node.read_steps().steps == ()
        engine.close()
        node.close()


def test_steps_that_end_later_are_left_for_the_next_time(
    node: ControlBlock, engine: ControlBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    for number in range(3):
        engine.append_step(StepRecord(number, 10 * number, step_of(number).work))
    first, same, rest = (node.read_steps(until_s) for until_s in (1e-8, 1.9e-8, 1.0))
    assert [step.end_ns for step in first.steps] == [0, 10]
    assert (first.has_later, same.has_later, rest.has_later) == (True, True, False)
    assert (same.steps, [step.end_ns for step in rest.steps]) == ((), [20])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=12))
def test_a_reader_gets_every_step_or_the_loss_is_flagged(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        node = ControlBlock.create(tmp_path_factory.mktemp("block") / "block")
        engine = ControlBlock(node.path)
        number = 0
        for sizes in rounds:
            written = []
            for size in sizes:
                number += 1
                written.append(step_of(number, size))
                engine.append_step(written[-1])
            batch = node.read_steps()
            if not batch.lost:
                assert batch.steps == tuple(written)
            words = sum(5 + 3 * size for size in sizes)
            assert batch.lost == (words > SMALL_RING - GUARD)
        engine.close()
        node.close()


def test_a_late_reader_continues_with_later_steps(
    node: ControlBlock, engine: ControlBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    for number in range(100):
        engine.append_step(step_of(number))
    assert node.read_steps().lost
    engine.append_step(step_of(100))
    batch = node.read_steps()
    assert (batch.steps, batch.lost) == ((step_of(100),), False)


def test_a_step_that_is_just_being_written_over_the_oldest_one_is_never_read_as_it(
    node: ControlBlock, engine: ControlBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch, 23 * 11)
    for number in range(23):  # 11 words each: the ring is exactly full
        engine.append_step(step_of(number))
    engine.append_step(step_of(99))
    write_word(node.path, HEAD_WORD, 23 * 11)  # its words are there, the new head is not yet
    assert node.read_steps().lost


def test_a_torn_record_counts_as_lost(node: ControlBlock, engine: ControlBlock) -> None:
    for number in range(3):
        engine.append_step(step_of(number))
    write_word(node.path, control_block.RING_AT + 11, 0)
    batch = node.read_steps()
    assert (batch.steps, batch.lost) == ((step_of(0),), True)


@pytest.mark.parametrize("count", [-1, 10**12])
def test_an_absurd_number_of_requests_counts_as_lost(
    node: ControlBlock, engine: ControlBlock, count: int
) -> None:
    engine.append_step(step_of(0))
    write_word(node.path, control_block.RING_AT + 3, count)
    assert node.read_steps().lost


def test_a_new_reader_begins_with_what_comes_next(node: ControlBlock, engine: ControlBlock) -> None:
    engine.append_step(step_of(0))
    late = ControlBlock(node.path)
    engine.append_step(step_of(1))
    assert late.read_steps().steps == (step_of(1),)
    late.close()


def test_another_process_sees_the_same_words(node: ControlBlock) -> None:
    node.write_limits(EngineLimits(4, 128))
    command = [sys.executable, "-c", ENGINE, str(node.path)]
    subprocess.run(command, check=True, timeout=30)
    assert node.read_steps().steps == (StepRecord(1, 2, (RequestWork(7, 4, 5, 6),)),)
    assert node.read_telemetry() == Telemetry(steps=1, running=128)


def test_seconds_of_the_largest_steps_fit_the_ring() -> None:
    largest_batch, steps_per_s, late_s = 1024, 50, 3
    words = (5 + 3 * largest_batch) * steps_per_s * late_s
    assert words <= control_block.RING_WORDS - control_block.GUARD_WORDS


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        ControlBlock(tmp_path / "nowhere")


def test_the_key_of_a_request_is_the_same_everywhere_and_fits_a_word() -> None:
    assert request_key("a") == request_key("a") != request_key("b")
    assert request_key("0f9d0c5e") == 3777624001358873480
    assert all(0 <= request_key(str(i)) < 2**63 for i in range(1000))


def write_word(path: Path, at: int, value: int) -> None:
    """Write one word behind the back of the block."""
    with path.open("r+b") as file:
        file.seek(at * WORD_BYTES)
        file.write(value.to_bytes(WORD_BYTES, "little", signed=True))
