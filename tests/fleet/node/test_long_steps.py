from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.energy.attribution import TokenWeights
from steppe.energy.counter import CounterHistory
from steppe.engine.control_block import ControlBlock, RequestWork, StepRecord, Telemetry
from steppe.errors import DeviceError
from steppe.fleet.messages import CHANGE_S, ReplicaReport
from steppe.fleet.node.replica_meter import ReplicaMeter

DRAW_W = 300.0
MEMORY_S = 100.0


class Stuck:
    """A replica whose engine has been in one step since second 0, and a meter that forgets."""

    def __init__(self, path: Path) -> None:
        self.engine = ControlBlock.create(path)
        self.engine.write_telemetry(Telemetry(running=1))
        self.meter = CounterHistory(700.0, capacity=round(MEMORY_S / 2))
        self.now_s = 0
        self.meter.add(0.0, 0.0)
        self.replica = ReplicaMeter("replica-1", ControlBlock(path), {"GPU-1": self.meter}, 0.0)
        self.replica.phase = "awake"
        self.reports: list[ReplicaReport] = []

    def draw_for(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.meter.add(self.now_s, DRAW_W * self.now_s)

    def report(self, *, is_last: bool = False) -> ReplicaReport:
        self.reports.append(self.replica.report(TokenWeights(), is_last=is_last))
        return self.reports[-1]

    def wait(self, seconds: int) -> None:
        """Report every 5 s, as long as the step takes."""
        for _ in range(seconds // 5):
            self.draw_for(5)
            report = self.report()
            assert (report.requests_uj, report.idle_uj, report.transition_uj) == ({}, 0, 0)

    def end_step(self) -> None:
        """End it at the last reading of the meter."""
        end_ns = int(self.meter.covered_until_s * 1_000_000_000)
        work = RequestWork(key=7, prompt_tokens=0, decode_tokens=1, output_tokens=1)
        self.engine.append_step(StepRecord(0, end_ns, (work,)))


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    made = Stuck(tmp_path / "replica-1.block")
    yield made
    made.engine.close()
    made.replica.block.close()


def test_a_step_longer_than_the_meters_history_is_charged_in_full(stuck: Stuck) -> None:
    stuck.wait(1200)
    with pytest.raises(DeviceError):
        stuck.meter.window(0.0, 1.0)
    stuck.end_step()
    paid = stuck.report()
    drawn_j = sum(report.energy_j for report in stuck.reports)
    assert drawn_j == pytest.approx(1200 * DRAW_W)
    assert (sum(paid.requests_uj.values()), paid.idle_uj) == (round(drawn_j * 1e6), 0)


def test_a_run_that_ends_during_a_long_step_loses_no_joule(stuck: Stuck) -> None:
    stuck.wait(1200)
    assert stuck.report(is_last=True).idle_uj == pytest.approx(1200 * DRAW_W * 1e6)


def test_the_step_before_sleep_is_charged_when_it_ends(stuck: Stuck) -> None:
    stuck.wait(5)
    stuck.replica.enter("asleep", 6.0)
    stuck.wait(20)
    assert stuck.reports[-1].stepping
    stuck.end_step()
    paid = stuck.report()
    assert paid.requests_uj == {7: pytest.approx(25 * DRAW_W * 1e6)}
    stuck.draw_for(5)
    asleep = stuck.report()
    assert asleep.idle_uj == pytest.approx(5 * DRAW_W * 1e6)
    assert (paid.stepping, asleep.stepping) == (False, False)


def test_the_wait_for_the_step_before_sleep_is_limited(stuck: Stuck) -> None:
    stuck.wait(5)
    stuck.replica.enter("asleep", 5.0)
    stuck.wait(int(CHANGE_S))
    for slept_s in (CHANGE_S + 10, 10):
        stuck.draw_for(10)
        report = stuck.report()
        assert (report.requests_uj, report.stepping) == ({}, False)
        assert report.idle_uj >= slept_s * DRAW_W * 1e6
    assert sum(r.idle_uj for r in stuck.reports) == pytest.approx(stuck.now_s * DRAW_W * 1e6)


def test_a_step_that_outlives_its_node_actor_is_charged_when_it_ends(stuck: Stuck) -> None:
    stuck.wait(60)
    record = stuck.replica.record((0,), {})
    gpus = {"GPU-1": stuck.meter}
    stuck.replica = ReplicaMeter("replica-1", stuck.replica.block, gpus, record.reported_s)
    stuck.replica.resume(record, {0})
    stuck.wait(60)
    stuck.end_step()
    assert stuck.report().requests_uj == {7: pytest.approx(120 * DRAW_W * 1e6)}
