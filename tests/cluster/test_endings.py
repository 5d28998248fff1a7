"""How a run ends, with a real engine: told to stop, and killed without a word."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from steppe.fleet.stale_runs import remove_stale_runs, state_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

ONE_GPU = {
    "fleet": {"replicas": 1},
    "device": {
        "kind": "emulated",
        "profile": "l4",
        "count": 1,
        "pace": {"weights_s": 0.05, "decode_s": 0.004, "prefill_s": 0.0005},
    },
}


def test_a_run_that_is_told_to_stop_finishes_its_record_and_leaves_nothing_behind(
    serve: Callable[..., Any],
    make_witness: Callable[[int], Any],
    make_load: Callable[..., Any],
    wait_until: Any,
) -> None:
    fleet = serve(engine={"kind": "synthetic", "max_batch_limit": 8}, **ONE_GPU)
    fleet.wait_for_words("serving on")
    witness = make_witness(fleet.pid)
    wait_until(lambda: fleet.has_ticks() and witness.locked() == [0], 30, "a locked clock")
    with make_load(fleet, 2, output_tokens=2000) as long, make_load(fleet, 2) as brief:
        wait_until(lambda: sum(a.tokens > 9 for a in long.answers) == 2, 30, "two answers")
        brief.wait_for(2)
        os.kill(fleet.pid, signal.SIGTERM)  # as a service manager does: only the command itself
        assert fleet.process.wait(60) == 0
    wait_until(lambda: not fleet.alive(), 15, "no process is left")
    assert (fleet.files(), witness.locked()) == ([], [])
    summary = json.loads((fleet.record / "summary.json").read_text())
    finishes = {id_: request.finish for id_, request in fleet.requests().items()}
    assert {finishes[a.id] for a in brief.completed} == {"length"}  # the last ones after the stop
    cut_short = [a for a in [*long.answers, *brief.answers] if a.tokens and a.usage is None]
    assert {finishes[a.id] for a in cut_short} == {"cancelled"}
    assert summary["requests"]["cancelled"] == len(cut_short) >= 2
    assert summary["output_tokens"] == sum(r.output_tokens for r in fleet.requests().values()) > 18
    parts_j = sum(r.energy_j for r in fleet.requests().values())
    parts_j += summary["idle_energy_j"] + summary["transition_energy_j"]
    assert parts_j == pytest.approx(summary["energy_j"])
    assert (fleet.record / "figure.png").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_while_it_starts_leaves_nothing_behind(
    serve: Callable[..., Any], wait_until: Any, number: int
) -> None:
    fleet = serve(**ONE_GPU)
    fleet.wait_for_words("starting 1 replica")
    assert fleet.end(number) != 0
    wait_until(lambda: not fleet.alive(), 15, "no process is left")
    assert fleet.files() == []


@pytest.mark.alone  # whatever starts meanwhile sweeps up what it left
def test_a_run_that_is_killed_is_gone_soon_and_the_next_start_sweeps_up(
    serve: Callable[..., Any],
    locked: Callable[[int], list[int]],
    wait_until: Any,
) -> None:
    fleet = serve(**ONE_GPU)
    fleet.wait_for_words("running")
    wait_until(lambda: fleet.has_ticks() and locked(fleet.pid) == [0], 30, "a locked clock")
    wait_until(lambda: fleet.pids("VLLM::EngineCore"), 10, f"an engine in {fleet.alive()}")
    os.kill(fleet.pid, signal.SIGKILL)
    killed_s = time.monotonic()
    fleet.process.wait()
    wait_until(lambda: locked(fleet.pid) == [], 15, "the agent undoes the limits")
    wait_until(fleet.is_gone, 15, "no process is left")
    assert time.monotonic() - killed_s < 15
    assert fleet.files()
    heir = serve(frontier={"file": "nowhere.yaml"}, **ONE_GPU)
    assert heir.process.wait(60) == 2
    assert (fleet.files(), remove_stale_runs(state_folder())) == ([], ())
