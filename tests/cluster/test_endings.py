"""How a run ends: told to stop, interrupted while it starts, and killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serving import (
    ENGINE,
    START_S,
    EnergyWitness,
    Load,
    Serving,
    assert_books_balance,
    locked_gpus,
    wait_until,
)

from steppe.fleet.stale_runs import remove_stale_runs, state_folder
from steppe.report.record_folder import BOOKS_FILE

CLEANUP = "-m steppe.run.cleanup"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_a_run_that_gets_sigterm_finishes_its_record_and_leaves_nothing_behind(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    fleet = serve(**one_gpu, **synthetic)
    fleet.wait_for_words("serving on")
    witness = EnergyWitness(fleet.pid)
    wait_until(lambda: fleet.ticks() and witness.locked() == [0], "a locked clock")
    with Load(fleet, 2, output_tokens=2000) as long, Load(fleet, 2) as brief:
        wait_until(lambda: sum(a.tokens > 9 for a in long.answers) == 2, "two answers")
        brief.wait_for(2)
        os.kill(fleet.pid, signal.SIGTERM)  # as a service manager does: only the command itself
        assert fleet.process.wait(START_S) == 0
    wait_until(lambda: not fleet.alive(), "no process is left")
    assert (fleet.files(), witness.locked()) == ([], [])
    finishes = {id_: request.finish for id_, request in fleet.requests().items()}
    assert {finishes[a.id] for a in brief.completed} == {"length"}  # the last ones after SIGTERM
    cut_short = {a.id for a in [*long.answers, *brief.answers] if a.tokens and a.usage is None}
    cancelled = {id_ for id_, finish in finishes.items() if finish == "cancelled"}
    assert cut_short <= cancelled  # one may be cancelled before its first token
    summary = assert_books_balance(fleet, rel=1e-6)
    assert summary["requests"]["cancelled"] == len(cancelled) >= 2
    assert summary["output_tokens"] > 18
    assert (fleet.record / "figure.png").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_while_it_starts_leaves_nothing_behind(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], number: int
) -> None:
    fleet = serve(**one_gpu)
    fleet.wait_for_words("loading 1 replica")
    assert fleet.end(number) != 0
    wait_until(lambda: not fleet.alive(), "no process is left")
    assert fleet.files() == []


def test_an_engine_that_cannot_start_ends_the_run_with_one_line_that_names_its_log(
    serve: Callable[..., Serving],
    make_config: Callable[..., dict[str, Any]],
    one_gpu: dict[str, Any],
    tmp_path: Path,
) -> None:
    model = make_config()["model"]
    broken = shutil.copytree(model["name"], tmp_path / "broken")
    for weights in broken.glob("*.safetensors"):
        weights.write_bytes(b"these are no weights")
    fleet = serve(model=model | {"name": str(broken)}, **one_gpu)
    assert fleet.process.wait(START_S) == 2
    lines = fleet.log.read_text().splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    (line,) = (line for line in lines if line.startswith("steppe: "))
    assert line.startswith("steppe: replica-1: ")
    assert Path(line.rpartition("; see ")[2]).is_dir()
    assert "  last lines of the log of replica-1:" in lines
    wait_until(lambda: not fleet.alive(), "no process is left")
    assert fleet.files() == []


def test_a_run_whose_process_is_killed_is_cleaned_up_and_its_record_closed(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    fleet = serve(**one_gpu, **synthetic)
    fleet.wait_for_words("serving on")
    with Load(fleet, 2) as load:
        load.wait_for(2)
        wait_until((fleet.record / BOOKS_FILE).is_file, "a checkpoint of the books")
        wait_until(lambda: any(r.output_tokens for r in fleet.requests().values()), "a request")
        os.kill(fleet.pid, signal.SIGKILL)
        fleet.process.wait()
    wait_until(lambda: not fleet.alive() and not fleet.files(), "nothing is left")
    summary = assert_books_balance(fleet, rel=1e-6)
    assert summary["broke_off"]
    assert (fleet.record / "figure.png").is_file()


@pytest.mark.alone  # any other start would remove what the killed run left
def test_what_a_killed_run_leaves_ends_by_itself_or_is_removed_by_the_next_start(
    serve: Callable[..., Serving], one_gpu: dict[str, Any]
) -> None:
    fleet = serve(**one_gpu)
    fleet.wait_for_words("running")
    wait_until(lambda: fleet.ticks() and locked_gpus(fleet.pid) == [0], "a locked clock")
    wait_until(lambda: fleet.pids(ENGINE), f"an engine in {fleet.alive()}")
    (cleanup,) = (pid for pid, command in fleet.alive().items() if CLEANUP in command)
    os.kill(cleanup, signal.SIGKILL)  # it would leave nothing for the next start
    os.kill(fleet.pid, signal.SIGKILL)
    fleet.process.wait()
    wait_until(lambda: locked_gpus(fleet.pid) == [], "the agent undoes the limits")
    wait_until(fleet.is_gone, "no process is left")
    assert fleet.files()
    successor = serve(frontier={"file": "nowhere.yaml"}, **one_gpu)
    assert successor.process.wait(START_S) == 2
    assert (fleet.files(), remove_stale_runs(state_folder())) == ([], ())
