"""A counter is compared with the power between its own updates."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from steppe.errors import TransientDeviceError
from steppe.run.doctor.counter import UNWATCHED, Reading, facts_of, watch_counters


def series(
    period_s: float, power_w: float, scale: float = 1.0, swing: float = 0.0
) -> list[Reading]:
    """Return readings of 2 s: a counter that moves once a period, and a power that may swing."""
    readings = []
    for step in range(200):
        at_s = step * 0.01
        ticks = int(at_s / period_s + 1e-9)
        power = power_w * (1 + swing * (-1) ** step)
        readings.append(Reading(at_s, scale * power_w * ticks * period_s, power))
    return readings


@pytest.mark.parametrize("period_s", [0.02, 0.1])
@pytest.mark.parametrize("scale", [1.0, 0.6, 1.4])
def test_period_and_error_are_found(period_s: float, scale: float) -> None:
    found = facts_of(series(period_s, 70.0, scale))
    assert found.period_s == pytest.approx(period_s, rel=0.02)
    assert found.error_share == pytest.approx(scale - 1, abs=0.02)


def test_a_draw_that_changes_cannot_be_compared_in_a_short_window() -> None:
    assert facts_of(series(0.1, 300.0, swing=0.5)).error_share is None


def test_a_counter_that_stands_is_not_a_counter_that_agrees() -> None:
    assert facts_of([Reading(0.01 * n, 5.0, 70.0) for n in range(200)]) == UNWATCHED


@dataclass
class FakeGpu:
    """A GPU at 70 W whose counter moves at every reading."""

    uuid: str
    fails: bool = False
    now_s: list[float] = field(default_factory=lambda: [0.0])

    def energy_j(self) -> float:
        if self.fails:
            raise TransientDeviceError("busy")
        return 70.0 * self.now_s[0]

    def power_w(self) -> float:
        return 70.0


def test_gpus_are_watched_together_and_one_that_fails_is_left_out() -> None:
    now_s = [0.0]

    def pause(seconds: float) -> None:
        now_s[0] += seconds

    fleet = [FakeGpu("a", now_s=now_s), FakeGpu("b", fails=True), FakeGpu("c", now_s=now_s)]
    found = watch_counters(fleet, 0.5, clock=lambda: now_s[0], pause=pause)
    assert set(found) == {"a", "c"}
    assert found["a"].error_share == pytest.approx(0.0)
