from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.energy.attribution import TokenWeights
from steppe.energy.counter import CounterHistory
from steppe.energy.window import Quality
from steppe.engine.control_block import ControlBlock
from steppe.fleet.messages import ReplicaReport
from steppe.fleet.node.replica_meter import ReplicaMeter

DRAW_W, MAX_W = 300.0, 800.0
PERIOD_S = 0.1
LATE_S = 0.004
"""The second GPU is read so much after the first, s."""


class Pair:
    """Two GPUs that draw the same, read one after the other."""

    def __init__(self, folder: Path) -> None:
        self.block = ControlBlock.create(folder / "block")
        self.meters = {f"GPU-{index}": CounterHistory(MAX_W) for index in (1, 2)}
        self.ticks = -1
        self.tick()
        self.replica = ReplicaMeter("replica-1", self.block, self.meters)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.ticks += 1
            at_s = 100.0 + PERIOD_S * self.ticks
            for late_s, meter in zip((0.0, LATE_S), self.meters.values(), strict=True):
                meter.add(at_s + late_s, 5.0 + DRAW_W * PERIOD_S * self.ticks)

    def lose_second(self, ticks: int) -> None:
        """Let the second fall off the bus, and the first tick so often."""
        self.replica.check_clocks(None, {"GPU-2"}, 100.0)
        for tick in range(1, ticks + 1):
            at_s = 100.0 + PERIOD_S * (self.ticks + tick)
            counter_j = 5.0 + DRAW_W * PERIOD_S * (self.ticks + tick)
            self.meters["GPU-1"].add(at_s, counter_j)

    def report(self) -> ReplicaReport:
        return self.replica.report(TokenWeights())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.block.close()


def test_metering_begins_when_the_last_gpu_has_a_reading(pair: Pair) -> None:
    assert (pair.report().energy_j, pair.replica.reported_s) == (0.0, 100.0 + LATE_S)
    assert pair.replica.reading().energy_j == 0.0
    pair.tick(10)
    assert pair.report().energy_j == pytest.approx(2 * DRAW_W * 10 * PERIOD_S, rel=0.1)


def test_a_window_ends_at_the_oldest_last_reading(pair: Pair) -> None:
    pair.tick(10)
    pair.meters["GPU-1"].add(102.0, 5.0 + 2 * DRAW_W)
    assert pair.report().energy_j == pytest.approx(2 * DRAW_W * 10 * PERIOD_S, rel=0.1)
    assert pair.replica.reported_s == pair.meters["GPU-2"].covered_until_s


def test_the_energy_of_the_other_gpus_is_kept_when_one_is_lost(
    pair: Pair,
) -> None:
    pair.tick(10)
    pair.report()
    pair.lose_second(600)
    report = pair.report()
    healthy_j, lost_j = DRAW_W * 60.0, MAX_W * 60.0
    assert report.energy_j == pytest.approx(healthy_j, rel=0.05)
    assert report.error_j == pytest.approx(lost_j, rel=0.05)
    assert (report.quality, report.draw_w, report.wrong_inside) == (Quality.ESTIMATED, None, True)
    assert report.idle_uj + report.transition_uj == pytest.approx(report.energy_j * 1e6, abs=1)


def test_a_replica_whose_gpus_are_all_lost_has_no_draw(pair: Pair) -> None:
    pair.tick(10)
    pair.report()
    pair.replica.check_clocks(None, {"GPU-1", "GPU-2"}, 100.0)
    assert (pair.report().energy_j, pair.report().draw_w) == (0.0, None)
