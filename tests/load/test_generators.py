"""Loads that several processes share."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.openai_server import FakeOpenAI

from steppe.errors import LoadError
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget
from steppe.load.generators import (
    SEQUENCE_TPS,
    TOKENS_PER_PROCESS,
    LoadGenerators,
    process_count,
)
from steppe.load.plan import ended, expected_tps
from steppe.load.replay import ClosedLoop, OpenLoop, ReplayOptions, ReplayProgress, replay
from steppe.load.results import RequestResult
from steppe.load.shared_load import most_at_once
from steppe.load.stream import Cancelled, Failed

PARTS = 2


@pytest.fixture(scope="module")
def generators() -> Iterator[LoadGenerators]:
    started = LoadGenerators(PARTS)
    yield started
    started.close()


def target_of(server: FakeOpenAI) -> ServerTarget:
    return ServerTarget(server.url, "small")


def until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s, "the condition never held"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("tps", "cores", "count"),
    [
        (100, 64, 1),
        (TOKENS_PER_PROCESS, 64, 1),
        (3 * TOKENS_PER_PROCESS + 1, 64, 4),
        (1e6, 16, 8),
        (1e6, 2, 1),
        (1e6, 1, 1),
    ],
)
def test_processes_follow_the_expected_tokens_and_leave_half_of_the_cores(
    tps: float, cores: int, count: int
) -> None:
    assert process_count(tps, cores) == count


def test_processes_send_every_arrival_once_and_report_it_once(
    generators: LoadGenerators, server: FakeOpenAI
) -> None:
    arrivals = tuple(Arrival(0.005 * n, 5 + n, 4) for n in range(21))
    results: list[RequestResult] = []
    chunks: list[int] = []
    begun: list[float] = []
    options = ReplayOptions(
        on_end=results.append, on_chunk=chunks.append, on_begin=lambda: begun.append(0.0)
    )
    result = generators.begin(target_of(server), arrivals, options).wait(20)
    assert result is not None
    assert result.all_completed
    assert [request.index for request in result.requests] == list(range(21))
    assert sorted(request.index for request in results) == list(range(21))
    assert sum(chunks) == 21 * 4
    assert len(begun) == 1
    assert all(request.sent_s >= request.due_s for request in result.requests)
    words = {body["messages"][0]["content"] for body in server.bodies}
    assert len(words) == 21


def test_the_prompts_are_those_of_one_process(
    generators: LoadGenerators, server: FakeOpenAI
) -> None:
    arrivals = tuple(Arrival(0.0, 30, 1, cached_tokens=8) for _ in range(6))
    shared = generators.begin(target_of(server), arrivals, ReplayOptions(seed=3))
    assert shared.wait(20) is not None
    by_processes = sorted(body["messages"][0]["content"] for body in server.bodies)
    server.bodies.clear()
    asyncio.run(replay(target_of(server), arrivals, ReplayOptions(seed=3)))
    assert sorted(body["messages"][0]["content"] for body in server.bodies) == by_processes


def test_a_closed_loop_is_shared_and_stops_on_command(
    generators: LoadGenerators, server: FakeOpenAI
) -> None:
    seen: list[ReplayProgress] = []
    pacing = ClosedLoop(5, float("inf"))
    load = generators.begin(
        target_of(server), [Arrival(0.0, 5, 3)], ReplayOptions(pacing=pacing), seen.append
    )
    until(lambda: bool(seen) and seen[-1].completed > 20)
    assert load.wait(0.0) is None
    assert server.most_running <= 5
    load.stop()
    result = load.wait(20)
    assert result is not None
    assert {type(r.outcome) for r in result.requests[:20]} != {Failed}
    assert len({request.index for request in result.requests}) == len(result.requests)
    assert result.not_sent == 0
    assert max(progress.running for progress in seen) == 5


def test_two_loads_run_side_by_side(generators: LoadGenerators, server: FakeOpenAI) -> None:
    server.may_answer.clear()
    first = generators.begin(target_of(server), [Arrival(0.0, 5, 3)] * 4, ReplayOptions())
    second = generators.begin(target_of(server), [Arrival(0.0, 5, 2)] * 3, ReplayOptions())
    until(lambda: server.running == 7)
    server.may_answer.set()
    results = first.wait(20), second.wait(20)
    assert [len(result.requests) for result in results if result is not None] == [4, 3]


def test_a_load_ends_with_an_error_when_a_process_dies() -> None:
    generators = LoadGenerators(1)
    try:
        (pid,) = generators.pids
        stuck = ServerTarget("http://127.0.0.1:9", "small")
        pacing = ClosedLoop(1, float("inf"))
        load = generators.begin(stuck, [Arrival(0.0, 5, 3)], ReplayOptions(pacing=pacing))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LoadError, match="a load generator ended before its load"):
            load.wait(20)
        with pytest.raises(LoadError):
            generators.begin(stuck, [Arrival(0.0, 5, 3)], ReplayOptions())
    finally:
        generators.close()


def test_no_process_outlives_the_generators() -> None:
    generators = LoadGenerators(1)
    (pid,) = generators.pids
    generators.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


STARTS_ONE = """
import time
from steppe.load.generators import LoadGenerators
if __name__ == "__main__":
    print(*LoadGenerators(1).pids, flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.slow
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "starts_one.py"
    script.write_text(STARTS_ONE)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    until(lambda: not is_running(pid))


def test_the_most_outstanding_requests_follow_from_their_times() -> None:
    def request(sent_s: float, end_s: float) -> RequestResult:
        outcome = Cancelled(end_s, None)
        return RequestResult(0, Arrival(0.0, 1, 1), sent_s, sent_s, 0, outcome)

    assert most_at_once([request(0, 3), request(1, 2), request(2, 4), request(5, 6)]) == 3
    assert most_at_once([]) == 0


async def test_a_load_that_is_stopped_returns_what_it_has(
    generators: LoadGenerators, server: FakeOpenAI
) -> None:
    server.may_answer.clear()
    stop = asyncio.Event()
    load = await asyncio.to_thread(
        generators.begin, target_of(server), [Arrival(0.0, 5, 3)] * 4, ReplayOptions()
    )
    await asyncio.to_thread(until, lambda: server.running == 4)
    stop.set()
    result = await ended(load, stop)
    assert {type(request.outcome) for request in result.requests} == {Cancelled}


def test_a_closed_loop_asks_for_what_its_sequences_may_get_and_an_open_one_for_its_tokens() -> None:
    arrivals = [Arrival(float(n), 10, 50) for n in range(11)]
    assert expected_tps(ClosedLoop(8), arrivals) == 8 * SEQUENCE_TPS
    assert expected_tps(ClosedLoop(50), arrivals) == 11 * SEQUENCE_TPS
    assert expected_tps(ClosedLoop(50, 10.0), arrivals) == 50 * SEQUENCE_TPS
    assert expected_tps(OpenLoop(), arrivals) == 55.0
