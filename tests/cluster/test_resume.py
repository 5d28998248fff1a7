"""A run whose process is killed, and the next one that goes on with its record."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from tests.fixtures.serving import (
    START_S,
    Load,
    Serving,
    assert_books_balance,
    wait_until,
)

from steppe.report.broken_off import KILLED
from steppe.report.record_folder import BOOKS_FILE, SUMMARY_FILE, read_requests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def kill_under_load(fleet: Serving) -> set[str]:
    """Kill the process of a run that streams; return the requests that it had recorded."""
    fleet.wait_for_words("serving on")
    with Load(fleet, 2) as brief, Load(fleet, 2, output_tokens=100_000) as endless:
        brief.wait_for(4)
        wait_until((fleet.record / BOOKS_FILE).is_file, "a checkpoint of the books")
        wait_until(lambda: len(fleet.requests()) >= 4, "requests in the record")
        wait_until(lambda: sum(a.tokens > 0 for a in endless.answers) == 2, "two long streams")
        fleet.wait_for_tick(lambda tick: tick.running >= 2, "a tick with the long streams")
        os.kill(fleet.pid, signal.SIGKILL)
        fleet.process.wait()
    return set(fleet.requests())


def test_a_killed_run_is_started_again_at_once_and_its_record_goes_on(
    serve: Callable[..., Serving], one_gpu: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    killed = serve(**one_gpu, **synthetic)
    before = kill_under_load(killed)
    ticks = killed.ticks()
    second = killed.again("--resume")
    try:
        second.wait_for_words("serving on")
        with Load(second, 2) as load:
            load.wait_for(8)
        ids = {answer.id for answer in load.completed}
        second.wait_for_requests(ids)
        wait_until(lambda: not killed.alive() and not killed.files(), "nothing is left of it")
        refuse_a_third(second)
        assert not (second.record / SUMMARY_FILE).exists(), "the run goes on"
        assert second.end() == 0
        wait_until(lambda: not second.alive() and not second.files(), "nothing is left")
    finally:
        second.clean()

    assert second.ticks()[: len(ticks)] == ticks
    gap, *later = second.ticks()[len(ticks) :]
    assert (gap.draw_w, gap.budget_w, gap.energy_j) == (0.0, 0.0, 0.0)
    assert all(a.t_s < b.t_s for a, b in pairwise(second.ticks()))
    assert later[0].energy_j > 0
    recorded = [request.id for request in read_requests(second.record)]
    assert len(recorded) == len(set(recorded)), "no request is there twice"
    assert set(recorded) == before | {answer.id for answer in load.answers}
    arrivals_s = {request.id: request.arrival_s for request in second.requests().values()}
    # The gateway takes requests a little before the first tick.
    assert min(arrivals_s[id_] for id_ in ids) > ticks[-1].t_s

    summary = assert_books_balance(second)
    assert summary["duration_s"] == pytest.approx(later[-1].t_s, abs=5.0)
    ticks_j = sum(tick.energy_j for tick in second.ticks())
    edges_j = 2.0 * max(tick.draw_w for tick in second.ticks())  # 2 s: before and after the ticks
    assert ticks_j - 1.0 <= summary["energy_j"] <= ticks_j + edges_j, "no joule is there twice"
    assert summary["requests"]["completed"] >= len(before) + len(ids)
    assert summary["broke_off"].startswith(f"{KILLED} with ")
    assert summary["unclaimed_energy_j"] > 0, "what the long streams had used"
    assert KILLED in second.log.read_text().replace("\n", " ")
    assert json.loads((second.record / SUMMARY_FILE).read_text()) == summary


def refuse_a_third(second: Serving) -> None:
    """Check that a record is not gone on with while its run goes on."""
    third = second.again("--resume")
    try:
        assert third.process.wait(START_S) == 2
        (line,) = third.log.read_text().splitlines()
        assert line.endswith("asked to go on with a run, found it still recording")
    finally:
        third.clean()
