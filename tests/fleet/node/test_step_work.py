from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet.node.test_replica_meter import WEIGHTS, Bench, bench_in

from steppe.control.measurements import ClockWork
from steppe.engine.control_block import EngineLimits, RequestWork, StepRecord, Telemetry
from steppe.fleet.node.step_work import step_work

SECOND = 1_000_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a replica whose limits hold and whose idle draw, 20 W, is known."""
    made = bench_in(tmp_path)
    made.replica.clock_mhz = 900
    made.replica.set_engine_limits(EngineLimits(8))
    made.report(101.0)
    yield made
    made.engine.close()
    made.replica.block.close()


def work_until(bench: Bench, end_s: float) -> ClockWork | None:
    """Run two steps at 60 W in the second before `end_s`, and return what was reported."""
    start_s = end_s - 1.0
    bench.meter.busy_from_s, bench.meter.busy_until_s = start_s, end_s - 0.5
    for begun_s in (start_s, start_s + 0.25):
        bench.step(begun_s, begun_s + 0.25, RequestWork(7, 0, 1, 1))
    return bench.report(end_s).work


def test_the_work_of_steps_is_summed() -> None:
    steps = (
        StepRecord(0, SECOND // 2, (RequestWork(1, 256, 0, 0),)),
        StepRecord(SECOND, 2 * SECOND, (RequestWork(1, 44, 0, 1), RequestWork(2, 0, 1, 1)), 700),
        StepRecord(2 * SECOND, 3 * SECOND, (RequestWork(1, 0, 1, 1), RequestWork(2, 0, 1, 1)), 999),
    )
    assert step_work(900, steps, 50.0) == ClockWork(
        clock_mhz=900,
        steps=3,
        prefill_steps=2,
        sequences=3,
        prompt_tokens=300,
        context_tokens=1699,
        busy_s=2.5,
        energy_j=50.0,
    )


def test_a_window_reports_the_work_of_its_steps_and_their_energy(bench: Bench) -> None:
    work = work_until(bench, 102.0)
    assert work is not None
    assert (work.clock_mhz, work.steps, work.sequences, work.busy_s) == (900, 2, 2, 0.5)
    assert work.energy_j == pytest.approx(60.0 * 0.5)


def test_a_window_without_a_step_reports_no_work(bench: Bench) -> None:
    assert bench.report(102.0).work is None


def test_a_window_in_which_only_the_batch_limit_changed_reports_its_work(bench: Bench) -> None:
    bench.replica.set_engine_limits(EngineLimits(4))
    assert work_until(bench, 102.0) is not None


def test_a_new_clock_limit_has_to_hold_for_a_whole_window(bench: Bench) -> None:
    bench.replica.clocks["GPU-1"].request(1200, 101.0)
    bench.replica.clock_mhz = 1200
    found = []
    for end_s, confirmed_mhz in ((102.0, {}), (103.0, {"GPU-1": 1200}), (104.0, {"GPU-1": 1200})):
        bench.replica.check_clocks(confirmed_mhz, frozenset(), end_s)
        found.append(work_until(bench, end_s))
    assert found[:2] == [None, None]
    assert found[2] is not None
    assert found[2].clock_mhz == 1200
    bench.replica.check_clocks(None, frozenset(), 105.0)
    assert work_until(bench, 105.0) is None


def test_a_window_without_a_reading_reports_no_work(bench: Bench) -> None:
    bench.step(101.0, 101.5, RequestWork(7, 0, 1, 1))
    bench.meter.idle_w = bench.meter.busy_w = 0.0
    assert bench.report(102.0).work is None


@pytest.mark.parametrize("phase", ["starting", "asleep"])
def test_a_replica_that_does_not_serve_reports_no_work(bench: Bench, phase: str) -> None:
    bench.replica.phase = phase
    assert work_until(bench, 102.0) is None


def test_idle_time_counts_only_if_its_draw_is_known(tmp_path: Path) -> None:
    bench = bench_in(tmp_path)
    bench.step(100.0, 100.9, RequestWork(7, 0, 1, 1))
    bench.report(101.0)
    bench.step(101.0, 101.9, RequestWork(7, 0, 1, 1))
    assert bench.report(102.0).work is None  # its idle tenth of a second is too short to meter
    bench.step(102.0, 103.0, RequestWork(7, 0, 1, 1))
    work = bench.report(103.0).work
    assert work is not None
    assert work.energy_j == pytest.approx(20.0)
    bench.engine.close()
    bench.replica.block.close()


def test_a_replica_reports_the_requests_that_its_engine_has_not_admitted(bench: Bench) -> None:
    bench.engine.write_telemetry(Telemetry(running=2, waiting=3))
    bench.meter.covered_until_s = 102.0
    assert bench.replica.report(WEIGHTS).waiting == 3
