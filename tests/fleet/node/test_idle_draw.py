from __future__ import annotations

from dataclasses import dataclass

import pytest

from steppe.energy.window import EnergyWindow, Quality
from steppe.engine.control_block import StepRecord
from steppe.fleet.node.idle_draw import SETTLED_S, IdleDraw

SECOND = 1_000_000_000
IDLE_W, BUSY_W = 100.0, 600.0


@dataclass
class Gpu:
    """A GPU that draws more from a little before a step to a little after it, as meters see it."""

    steps: list[StepRecord]
    blur_s: float = 0.09

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        busy_s = sum(
            max(0.0, min(end_s, s.end_s + self.blur_s) - max(start_s, s.start_s - self.blur_s))
            for s in self.steps
        )
        energy_j = IDLE_W * (end_s - start_s) + (BUSY_W - IDLE_W) * busy_s
        return EnergyWindow(start_s, end_s, energy_j, 0.0, Quality.COUNTER)


def step(start_s: float, end_s: float) -> StepRecord:
    return StepRecord(round(start_s * SECOND), round(end_s * SECOND), ())


def test_under_steady_light_traffic_the_draw_is_learned_between_the_steps() -> None:
    steps = [step(at_s + 0.4, at_s + 0.5) for at_s in range(10)]
    gpu, idle = Gpu(steps), IdleDraw(0.0)
    for at_s, done in enumerate(steps):
        idle.learn([done], at_s, at_s + 1.0, gpu.window)
    assert idle.idle_w == pytest.approx(IDLE_W)
    assert idle.max_idle_w is None


def test_gaps_that_are_too_short_for_a_meter_are_not_used() -> None:
    steps = [step(at_s / 10, at_s / 10 + 0.05) for at_s in range(10)]
    idle = IdleDraw(0.0)
    idle.learn(steps, 0.0, 0.95, Gpu(steps).window)
    assert idle.idle_w == 0.0


def test_a_draw_that_changes_is_followed() -> None:
    gpu, idle = Gpu([step(0.0, 50.0)]), IdleDraw(0.0)
    for at_s in range(100):
        idle.learn([], at_s, at_s + 1.0, gpu.window)
        if at_s == 40:
            assert idle.idle_w == pytest.approx(BUSY_W)
    assert idle.idle_w == pytest.approx(IDLE_W, rel=0.01)


def test_what_is_skipped_counts_as_work() -> None:
    gpu, idle = Gpu([step(0.0, 20.0)]), IdleDraw(0.0)
    idle.skip(20.0)
    idle.learn([], 19.0, 21.0, gpu.window)
    assert idle.idle_w == pytest.approx(IDLE_W)
    assert idle.max_idle_w is None
    for begun_s in (20.0 + SETTLED_S, 21.0 + SETTLED_S):
        idle.learn([], begun_s, begun_s + 1.0, gpu.window)
    assert idle.max_idle_w == pytest.approx(IDLE_W)


def test_a_window_without_energy_is_not_used() -> None:
    idle = IdleDraw(0.0)
    idle.learn(
        [], 5.0, 6.0, lambda start_s, end_s: EnergyWindow(start_s, end_s, 0, 0, Quality.ESTIMATED)
    )
    assert (idle.idle_w, idle.max_idle_w) == (0.0, None)
