from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.config import SiteSection
from steppe.energy.attribution import TokenWeights
from steppe.energy.gpu_meters import window_over
from steppe.energy.node_rest import RestHistory
from steppe.energy.window import EnergyWindow, Quality
from steppe.engine.control_block import (
    ControlBlock,
    EngineLimits,
    RequestWork,
    StepRecord,
    Telemetry,
)
from steppe.fleet.messages import ReplicaReport
from steppe.fleet.node.boundary import Boundary
from steppe.fleet.node.replica_meter import ReplicaMeter, block_path

WEIGHTS = TokenWeights()
SECOND = 1_000_000_000


@dataclass
class FakeMeter:
    """A GPU that draws `idle_w`, and `busy_w` between two instants."""

    covered_until_s: float = 100.0
    idle_w: float = 20.0
    busy_w: float = 60.0
    busy_from_s: float = 1000.0
    busy_until_s: float = 1000.0
    error_j: float = 0.5
    quality: Quality = Quality.EMULATED

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        busy_s = min(end_s, self.busy_until_s) - max(start_s, self.busy_from_s)
        energy_j = self.idle_w * (end_s - start_s)
        energy_j += (self.busy_w - self.idle_w) * max(0.0, busy_s)
        return EnergyWindow(start_s, end_s, energy_j, self.error_j, self.quality)


class RestlessMeter:
    """A meter that has been read again each time that it is queried."""

    def __init__(self) -> None:
        self._read_s = itertools.count(101.0, 0.5)
        self.window = FakeMeter().window

    @property
    def covered_until_s(self) -> float:
        return next(self._read_s)


@dataclass
class Bench:
    """A replica with one meter, and its engine's side of the block."""

    replica: ReplicaMeter
    meter: FakeMeter
    engine: ControlBlock

    def step(self, start_s: float, end_s: float, *work: RequestWork) -> None:
        record = StepRecord(round(start_s * SECOND), round(end_s * SECOND), work)
        self.engine.append_step(record)

    def report(self, until_s: float, running: int = 0, *, is_last: bool = False) -> ReplicaReport:
        self.engine.write_telemetry(Telemetry(running=running))
        self.meter.covered_until_s = until_s
        return self.replica.report(WEIGHTS, is_last=is_last)


def bench_in(folder: Path, phase: str = "awake", covered_until_s: float = 100.0) -> Bench:
    block = ControlBlock.create(block_path(folder, "replica-1"))
    meter = FakeMeter(covered_until_s)
    replica = ReplicaMeter("replica-1", block, {"GPU-1": meter}, clock=lambda: 100.0)
    replica.phase = phase
    return Bench(replica, meter, ControlBlock(block.path))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = bench_in(tmp_path)
    yield made
    made.engine.close()
    made.replica.block.close()


def decode(key: int) -> RequestWork:
    return RequestWork(key, 0, 1, 1)


def test_a_window_without_work_is_idle_energy(bench: Bench) -> None:
    report = bench.report(101.0)
    assert (report.energy_j, report.draw_w) == (20.0, 20.0)
    assert (report.idle_uj, report.requests_uj, report.transition_uj) == (20_000_000, {}, 0)


def test_a_replica_without_a_reading_yet_is_metered_from_its_assignment(
    tmp_path: Path,
) -> None:
    bench = bench_in(tmp_path, covered_until_s=-math.inf)
    first = bench.report(-math.inf, running=1)
    bench.step(100.2, 100.7, decode(7))
    second = bench.report(101.0)
    assert (first.energy_j, first.draw_w) == (0.0, None)
    assert (second.energy_j, second.draw_w) == (20.0, 20.0)
    assert set(second.requests_uj) == {7}


def test_the_next_window_begins_where_the_last_one_ended(bench: Bench) -> None:
    assert [bench.report(end_s).energy_j for end_s in (101.0, 101.5, 104.0)] == [20, 10, 50]


def test_the_energy_of_steps_goes_to_their_requests(bench: Bench) -> None:
    bench.report(101.0)
    bench.meter.busy_from_s, bench.meter.busy_until_s = 101.0, 102.0
    bench.step(101.0, 101.5, decode(7))
    bench.step(101.5, 102.0, decode(7), decode(8))
    report = bench.report(102.0)
    assert report.requests_uj == {7: 45_000_000, 8: 15_000_000}
    assert report.idle_uj == 0
    assert report.tokens == {7: (0, 2), 8: (0, 1)}


def test_what_is_beside_the_gpus_goes_to_work_and_idle_time_by_its_duration(
    tmp_path: Path,
) -> None:
    site = SiteSection(boundary="node", node_rest_w=100.0)
    block = ControlBlock.create(block_path(tmp_path, "replica-1"))
    replica = ReplicaMeter(
        "replica-1",
        block,
        {"GPU-1": FakeMeter(quality=Quality.COUNTER)},
        clock=lambda: 100.0,
        boundary=Boundary(site, RestHistory(100.0)),
    )
    replica.phase, replica.share = "awake", 0.5
    bench = Bench(replica, replica.gpus["GPU-1"], ControlBlock(block.path))  # type: ignore[arg-type]
    idle = bench.report(101.0)
    assert (idle.energy_j, idle.beside_j, idle.draw_w) == (20.0, 50.0, 20.0)
    assert (idle.idle_uj, idle.quality) == (70_000_000, Quality.ESTIMATED)
    bench.meter.busy_from_s, bench.meter.busy_until_s = 101.0, 101.5
    bench.step(101.0, 101.5, decode(7))
    report = bench.report(102.0)
    assert (report.energy_j, report.beside_j, report.draw_w) == (40.0, 50.0, 40.0)
    assert report.requests_uj == {7: 30_000_000 + 25_000_000}
    assert report.idle_uj == 10_000_000 + 25_000_000
    bench.engine.close()
    block.close()


def test_a_request_of_several_sequences_is_charged_for_each(bench: Bench) -> None:
    bench.meter.busy_from_s, bench.meter.busy_until_s = 100.0, 101.0
    bench.step(100.0, 101.0, *(decode(7) for _ in range(3)), decode(8))
    report = bench.report(101.0)
    assert report.requests_uj == {7: 45_000_000, 8: 15_000_000}
    assert report.tokens == {7: (0, 3), 8: (0, 1)}


def test_time_between_steps_is_charged_with_the_idle_draw(bench: Bench) -> None:
    bench.report(101.0)
    bench.meter.busy_from_s, bench.meter.busy_until_s = 101.0, 101.5
    bench.step(101.0, 101.5, decode(7))
    report = bench.report(102.0)
    assert report.requests_uj == {7: 30_000_000}
    assert report.idle_uj == 10_000_000


def test_a_step_in_progress_is_charged_when_it_ends(bench: Bench) -> None:
    bench.report(101.0)
    bench.meter.busy_from_s, bench.meter.busy_until_s = 101.0, 103.0
    bench.step(101.0, 101.6, decode(7))
    first = bench.report(102.0, running=1)
    bench.step(101.6, 103.0, decode(8))
    second = bench.report(103.0)
    assert first.energy_j == second.energy_j == 60.0
    assert (first.requests_uj, second.requests_uj) == ({7: 36_000_000}, {8: 84_000_000})
    assert first.idle_uj == second.idle_uj == 0
    assert (first.stepping, second.stepping) == (True, False)


def test_a_step_that_ends_after_the_last_reading_of_the_meter_waits_for_the_next(
    bench: Bench,
) -> None:
    bench.report(101.0)
    bench.meter.busy_from_s, bench.meter.busy_until_s = 101.0, 105.0
    bench.step(101.0, 104.0, decode(7))
    silent = [bench.report(101.0, running=1) for _ in range(3)]
    bench.step(104.0, 105.0, decode(8))
    early, late = bench.report(104.5), bench.report(106.0)
    assert {(r.energy_j, r.idle_uj, r.stepping, len(r.tokens)) for r in silent} == {(0, 0, True, 0)}
    assert (early.requests_uj, early.tokens, early.idle_uj) == ({7: 180_000_000}, {7: (0, 1)}, 0)
    assert (late.requests_uj, late.tokens) == ({8: 60_000_000}, {8: (0, 1)})
    assert (early.stepping, late.stepping, late.idle_uj) == (True, False, 20_000_000)


def test_the_last_report_leaves_no_step_out(bench: Bench) -> None:
    bench.step(100.5, 101.1, decode(7))
    report = bench.report(101.0, is_last=True)
    assert report.tokens == {7: (0, 1)}
    assert sum(report.requests_uj.values()) + report.idle_uj == 20_000_000


@pytest.mark.parametrize(
    ("phase", "idle_uj", "transition_uj"),
    [("starting", 0, 20_000_000), ("asleep", 20_000_000, 0), ("awake", 20_000_000, 0)],
)
def test_energy_that_no_step_explains_counts_by_the_phase(
    tmp_path: Path, phase: str, idle_uj: int, transition_uj: int
) -> None:
    bench = bench_in(tmp_path, phase)
    report = bench.report(101.0)
    assert (report.idle_uj, report.transition_uj) == (idle_uj, transition_uj)


def test_a_frozen_replica_with_requests_is_idle(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, "asleep")
    report = bench.report(101.0, running=4)
    assert (report.idle_uj, report.running) == (20_000_000, 4)


def test_readings_during_a_report_do_not_change_it(bench: Bench) -> None:
    bench.replica.gpus = {"GPU-1": RestlessMeter()}
    for report in (bench.replica.report(WEIGHTS), bench.replica.report(WEIGHTS)):
        assert report.idle_uj == report.energy_j * 1e6 > 0


def test_without_a_new_reading_the_draw_is_unknown(bench: Bench) -> None:
    assert bench.report(101.0).draw_w == 20.0
    report = bench.report(101.0)
    assert (report.energy_j, report.draw_w) == (0.0, None)


def lose_steps(bench: Bench) -> None:
    bench.step(100.0, 100.5, decode(7))
    with bench.engine.path.open("r+b") as file:
        file.seek(32 * 8)
        file.write(bytes(8))


def test_steps_that_were_lost_make_the_window_an_estimate(bench: Bench) -> None:
    lose_steps(bench)
    report = bench.report(101.0)
    assert (report.quality, report.requests_uj) == (Quality.ESTIMATED, {})
    assert report.idle_uj == 20_000_000


def test_the_draw_in_lost_steps_is_not_idle_draw(bench: Bench) -> None:
    bench.meter.busy_from_s, bench.meter.busy_until_s = 100.0, 101.5
    lose_steps(bench)
    assert bench.report(101.0).idle_uj == 60_000_000
    bench.step(101.0, 101.5, decode(7))
    assert bench.report(102.0).requests_uj == {7: 30_000_000}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 2.0), st.integers(0, 3), st.booleans()), min_size=1, max_size=8
    )
)
def test_over_a_run_the_parts_sum_to_the_metered_energy(
    tmp_path_factory: pytest.TempPathFactory, windows: list[tuple[float, int, bool]]
) -> None:
    bench = bench_in(tmp_path_factory.mktemp("replica"))
    bench.meter.busy_from_s, bench.meter.busy_until_s = 100.0, 1000.0
    now_s, reports = 100.0, []
    for length_s, steps, still_busy in windows:
        step_s = 0.8 * length_s / max(1, steps)
        for i in range(steps):
            bench.step(now_s + i * step_s, now_s + (i + 1) * step_s, decode(i))
        now_s += length_s
        reports.append(bench.report(now_s, running=int(still_busy)))
    last = bench.report(now_s + 0.1, running=int(windows[-1][2]), is_last=True)
    reports.append(last)  # whether a step is under way or not, nothing is left over
    parts = sum(sum(r.requests_uj.values()) + r.idle_uj + r.transition_uj for r in reports)
    whole = sum(r.energy_j for r in reports) * 1e6
    assert parts == pytest.approx(whole, abs=len(reports))
    assert whole == pytest.approx(60.0e6 * (now_s + 0.1 - 100.0), rel=1e-9)


def test_the_windows_of_several_gpus_add_up_and_the_worst_quality_holds() -> None:
    meters = [FakeMeter(quality=Quality.COUNTER), FakeMeter(idle_w=5.0, quality=Quality.ESTIMATED)]
    window = window_over(meters, 100.0, 102.0)
    assert (window.energy_j, window.error_j) == (50.0, 1.0)
    assert window.quality == Quality.ESTIMATED


class HoledMeter(FakeMeter):
    """A meter that knows nothing of one instant."""

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        found = super().window(start_s, end_s)
        has_hole = start_s < 101.5 < end_s
        return replace(found, quality=Quality.ESTIMATED if has_hole else Quality.COUNTER)


def test_a_step_over_a_gap_of_readings_is_charged_as_an_estimate(bench: Bench) -> None:
    bench.meter = HoledMeter()
    bench.replica.gpus = {"GPU-1": bench.meter}
    before, within = bench.report(101.0), bench.report(102.0, running=1)
    bench.step(101.0, 102.5, decode(7))
    paid, after = bench.report(103.0), bench.report(104.0)
    assert [r.quality for r in (before, within)] == ["counter", "estimated"]
    assert (paid.quality, list(paid.requests_uj), after.quality) == ("estimated", [7], "counter")


def test_a_replica_is_controllable_while_its_gpus_are_reachable_and_keep_their_limits(
    bench: Bench,
) -> None:
    bench.replica.clock_mhz = 900
    bench.replica.clocks["GPU-1"].request(900, 0.0)
    for now_s, confirmed_mhz, lost, controllable in (
        (10.0, 900, frozenset(), True),
        (11.0, 900, frozenset({"GPU-1"}), False),
        (12.0, 900, frozenset({"GPU-2"}), True),
        (13.0, 1500, frozenset(), False),
    ):
        bench.replica.check_clocks({"GPU-1": confirmed_mhz}, lost, now_s)
        assert bench.report(100.0 + now_s).controllable == controllable
    assert bench.report(120.0).clock_mhz == 1500  # what holds, so that the limit is set again


def test_the_idle_draw_excludes_what_the_last_step_left(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, "asleep")
    bench.meter.busy_from_s, bench.meter.busy_until_s = 100.0, 102.0  # what the last step left
    assert [bench.report(until_s).max_idle_w for until_s in (101.0, 104.0)] == [None, None]
    assert bench.report(105.0).max_idle_w == 20.0
    bench.step(105.0, 105.5, decode(7))
    bench.meter.busy_from_s, bench.meter.busy_until_s = 105.0, 107.0
    assert [bench.report(until_s).max_idle_w for until_s in (106.0, 107.0, 110.0)] == [20.0] * 3


def test_the_draw_during_a_start_is_not_idle_draw(
    tmp_path: Path,
) -> None:
    bench = bench_in(tmp_path, "starting")
    bench.meter.busy_from_s, bench.meter.busy_until_s = 100.0, 109.5
    for until_s in range(101, 110):
        bench.report(float(until_s))
    bench.replica.enter("awake", 109.6)
    assert bench.report(110.0).max_idle_w is None
    bench.step(110.4, 110.5, decode(7))
    bench.meter.busy_from_s, bench.meter.busy_until_s = 110.4, 110.5
    assert bench.report(111.0).requests_uj == {7: pytest.approx(6_000_000, abs=1)}


def test_a_batch_limit_reaches_the_engine_once(bench: Bench) -> None:
    bench.replica.set_engine_limits(EngineLimits(8))
    news = bench.engine.read_limits(-1)
    assert news is not None
    assert (news[1].batch_limit, news[1].hold) == (8, True)
    bench.replica.set_engine_limits(EngineLimits(8))
    assert bench.engine.read_limits(news[0]) is None


def test_readings_count_from_the_first_and_never_twice(bench: Bench) -> None:
    first = bench.replica.reading()
    bench.engine.write_telemetry(Telemetry(steps=3, prompt_tokens=9, output_tokens=4))
    bench.meter.covered_until_s = 103.0
    second = bench.replica.reading()
    assert second.energy_j - first.energy_j == pytest.approx(60.0)
    assert second.time_s - first.time_s == pytest.approx(3.0)
    assert (second.steps, second.prompt_tokens, second.output_tokens) == (3, 9, 4)


def test_a_report_counts_the_tokens_since_the_last_one(bench: Bench) -> None:
    for total, new in ((5, 5), (12, 7), (3, 0)):  # a restarted engine counts from 0
        bench.engine.write_telemetry(Telemetry(output_tokens=total))
        bench.meter.covered_until_s += 1.0
        assert bench.replica.report(WEIGHTS).output_tokens == new


def test_a_resumed_meter_loses_no_joule_and_no_step(
    tmp_path: Path,
) -> None:
    old = bench_in(tmp_path)
    old.meter.busy_from_s, old.meter.busy_until_s = 101.0, 104.0
    old.step(101.0, 101.8, decode(1))
    old.step(101.8, 103.0, decode(1))  # its node dies before the meters have seen it
    first = old.report(102.0, running=1)
    record = old.replica.record((0,), {"GPU-1": 0.0})
    block = ControlBlock(old.replica.block.path)
    old.meter.covered_until_s = 104.0
    successor = ReplicaMeter("replica-1", block, {"GPU-1": old.meter}, record.reported_s)
    successor.resume(record, {0})
    old.engine.write_telemetry(Telemetry(running=0))
    second = successor.report(WEIGHTS)
    assert first.energy_j + second.energy_j == 20.0 + 3 * 60.0
    parts_uj = sum(
        sum(r.requests_uj.values()) + r.idle_uj + r.transition_uj for r in (first, second)
    )
    assert parts_uj == 200_000_000
    assert [r.tokens[1] for r in (first, second)] == [(0, 1), (0, 1)]
    assert successor.phase == "awake"
    for open_block in (old.engine, old.replica.block, block):
        open_block.close()


def test_closing_a_meter_counts_all_energy_up_to_now(tmp_path: Path) -> None:
    made = bench_in(tmp_path)
    made.step(100.0, 100.5, decode(1))
    made.engine.write_telemetry(Telemetry(running=1))
    made.meter.covered_until_s = 103.0
    last = made.replica.close(WEIGHTS)
    assert last.energy_j == 60.0
    assert sum(last.requests_uj.values()) + last.transition_uj == 60_000_000
    assert (last.idle_uj, made.replica.reported_s) == (0, 103.0)
    made.engine.close()
