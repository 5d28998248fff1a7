"""What is left of a run whose process was killed is cleaned up by another process."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.made_run import MadeRun, make_run

from steppe.report.broken_off import KILLED, close_broken_record
from steppe.report.record_folder import BOOKS_FILE, FIGURE_FILE, SUMMARY_FILE, Recorder
from steppe.run import cleanup

RUN = 4_000_000
"""No process has this id."""

KILLED_RUN = """
import os, signal, sys
from steppe.run.cleanup import Cleanup
with Cleanup() as cleanup:
    cleanup.say(record=sys.argv[1])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def made_run() -> MadeRun:
    return make_run()


def said(**facts: str) -> io.BytesIO:
    return io.BytesIO(b"".join(json.dumps({k: v}).encode() + b"\n" for k, v in facts.items()))


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files in memory with those of one run that is dead."""
    folder = tmp_path / "shm"
    (folder / f"steppe-run-{RUN}-ab12-node").mkdir(parents=True)
    (folder / f"steppe-gpus-{RUN}").touch()
    monkeypatch.setattr(cleanup, "state_folder", lambda: folder)
    monkeypatch.setattr(cleanup, "gpus_file", lambda run: folder / f"steppe-gpus-{run}")
    return folder


def broken_off(folder: Path, made_run: MadeRun) -> Path:
    """Return a record folder without a summary, with totals written down before its end."""
    recorder = Recorder(folder)
    for tick in made_run.ticks:
        recorder.tick(tick)
    for request in made_run.requests:
        recorder.request(request)
    so_far = replace(made_run.totals, idle_energy_j=1.0, transition_energy_j=2.0, energy_j=5.0)
    recorder.checkpoint(so_far, made_run.slo)
    recorder.close()
    return folder


def test_a_run_that_ended_by_itself_is_left_alone(memory: Path, tmp_path: Path) -> None:
    assert not cleanup.watch(RUN, said(session="s", record=str(tmp_path), done=""))
    assert len(list(memory.iterdir())) == 2


def test_after_a_killed_run_no_file_in_memory_is_left(memory: Path) -> None:
    assert cleanup.watch(RUN, said(session="session_of_no_process"))
    assert list(memory.iterdir()) == []


def test_the_record_of_a_killed_run_gets_a_summary_whose_parts_sum_to_the_whole(
    tmp_path: Path, made_run: MadeRun
) -> None:
    folder = broken_off(tmp_path / "record", made_run)
    summary = close_broken_record(folder)
    assert summary is not None
    last = made_run.ticks[-1]
    open_ = last.running + last.waiting
    assert summary["broke_off"] == f"{KILLED} with {open_} requests under way"
    assert summary["energy_j"] == pytest.approx(sum(tick.energy_j for tick in made_run.ticks))
    parts_j = summary["idle_energy_j"] + summary["transition_energy_j"]
    parts_j += summary["unclaimed_energy_j"]
    parts_j += sum(request.energy_j or 0.0 for request in made_run.requests)
    assert parts_j == pytest.approx(summary["energy_j"])
    assert summary["output_tokens"] == sum(r.output_tokens for r in made_run.requests)
    names = {path.name for path in folder.iterdir()}
    assert {SUMMARY_FILE, FIGURE_FILE} <= names
    assert BOOKS_FILE not in names
    assert close_broken_record(folder) is None


def test_a_run_that_ends_by_itself_leaves_no_checkpoint(tmp_path: Path, made_run: MadeRun) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.checkpoint(made_run.totals, made_run.slo)
        recorder.tick(made_run.ticks[0])
        summary = recorder.finish(made_run.totals, made_run.slo)
    assert summary["broke_off"] == ""
    assert not (tmp_path / BOOKS_FILE).exists()


def test_the_process_that_cleans_up_leaves_a_record_alone_that_the_next_run_goes_on_with(
    tmp_path: Path, made_run: MadeRun
) -> None:
    folder = broken_off(tmp_path, made_run)
    assert close_broken_record(folder) is not None  # as the next run does before it starts
    with Recorder(folder, resume=True) as successor:
        successor.checkpoint(made_run.totals, made_run.slo)
        cleanup.watch(RUN, said(record=str(folder)))
        assert not (folder / SUMMARY_FILE).exists()
        assert (folder / BOOKS_FILE).is_file()


def test_two_processes_that_close_a_record_at_the_same_time_close_it_once(
    tmp_path: Path, made_run: MadeRun
) -> None:
    folder = broken_off(tmp_path, made_run)
    with ThreadPoolExecutor(4) as threads:
        closed = list(threads.map(close_broken_record, [folder] * 4))
    assert sum(summary is not None for summary in closed) == 1
    assert not (folder / BOOKS_FILE).exists()


@pytest.mark.slow
def test_another_process_closes_the_record_of_a_process_that_was_killed(
    tmp_path: Path, made_run: MadeRun
) -> None:
    folder = broken_off(tmp_path / "record", made_run)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, str(folder)], stderr=subprocess.PIPE
    ) as run:
        assert run.stderr is not None
        run.stderr.read()  # until the other process, which has this pipe, has ended
        assert run.wait(60) == -signal.SIGKILL
    assert KILLED in json.loads((folder / SUMMARY_FILE).read_text())["broke_off"]
