"""Board power limits hold the true draw near the budget when plans are wrong or stay out.

The engines always have work and never pause by themselves, so that only the limits hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.fixtures.virtual_fleet import (
    DEADMAN_S,
    GPUS,
    PACE,
    PEER,
    POWER_RANGE_W,
    World,
    virtual_world,
)
from tests.fleet.test_budget_under_faults import frontier

from steppe.control.power_limits import AFTERWARDS_S
from steppe.frontier.pareto import Frontier
from steppe.power.budget import Budget

TOLERANCE = 1.05
WHOLE_W = GPUS * POWER_RANGE_W[1]
LEAST_W = GPUS * POWER_RANGE_W[0]


@dataclass(frozen=True)
class FallingBudget:
    """A budget that is known to fall from some time on, W and W/s."""

    begins_s: float = 4.0
    start_w: float = 1600.0
    fall: float = 40.0

    def settle(self, now_s: float, draw_w: float) -> None: ...

    def set_node_rest(self, rest_w: float, source: str) -> None: ...

    def at(self, now_s: float) -> Budget:
        watts = max(0.0, self.start_w - self.fall * max(0.0, now_s - self.begins_s))
        return Budget(watts, 0.0, watts, watts, "constant", stale=False)

    def gpu_budget_at(self, at_s: float) -> float:
        return self.at(at_s).gpu_budget_w

    def forecast(self, now_s: float, *_: float) -> tuple[tuple[float, float], ...]:
        return ((now_s, self.at(now_s).gpu_budget_w),)


BUDGET = FallingBudget()


def wrong(points: Frontier, share: float) -> Frontier:
    """Return the same frontier with a share of the draw that is true."""
    found = [replace(point, draw_w=share * point.draw_w) for point in points.candidates]
    return Frontier.of(found, points.asleep_w, points.idle_w, points.source)


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    points = wrong(frontier(PACE), getattr(request, "param", 1.0))
    with virtual_world(tmp_path, monkeypatch, BUDGET, points) as made:
        yield made


def draws_w(world: World, seconds: float) -> list[float]:
    """Let time pass without ticks, and return the true draw of each fifth of a second, W."""
    found = []
    for _ in range(round(seconds / 0.2)):
        before_j = sum(world.truth[-1][1])
        world.wait(0.2)
        found.append((sum(world.truth[-1][1]) - before_j) / 0.2)
    return found


def set_limits_w(world: World) -> list[float]:
    return [world.emulator.snapshot(index).power_limit_w for index in range(GPUS)]


@pytest.mark.parametrize("world", [0.6], indirect=True)
def test_points_with_six_tenths_of_the_true_draw_exceed_the_budget_by_a_twentieth_at_most(
    world: World,
) -> None:
    world.serve(10, {})
    for second, draw_w in enumerate(world.draws_w):
        if second >= 3:
            assert draw_w <= TOLERANCE * max(LEAST_W, BUDGET.gpu_budget_at(second))


@pytest.mark.parametrize("killed_after_s", [3, 8, 13])
def test_without_a_controller_limits_go_down_with_the_budget_and_then_to_the_lowest(
    world: World, killed_after_s: int
) -> None:
    ticks(world, killed_after_s)
    for fifth, draw_w in enumerate(draws_w(world, DEADMAN_S + 4.0)):
        after_s = (fifth + 1) / 5
        budget_w = BUDGET.gpu_budget_at(killed_after_s - 1.0 + after_s)
        assert draw_w <= TOLERANCE * max(budget_w, LEAST_W)
    assert set_limits_w(world) == [POWER_RANGE_W[0]] * GPUS


def test_with_the_node_actor_dead_too_the_limits_hold_until_engines_have_paused(
    world: World,
) -> None:
    ticks(world, 8)
    world.lease_server.disconnect(PEER, world.time.now_s)
    for fifth, draw_w in enumerate(draws_w(world, DEADMAN_S + AFTERWARDS_S - 0.5)):
        budget_w = BUDGET.gpu_budget_at(7.0 + (fifth + 1) / 5)
        assert draw_w <= TOLERANCE * max(budget_w, LEAST_W)
    assert all(world.emulator.snapshot(index).clock_lock_mhz is None for index in range(GPUS))
    world.wait(2.0)
    assert set_limits_w(world) == [POWER_RANGE_W[1]] * GPUS


@pytest.mark.parametrize(
    "budget_w",
    [
        pytest.param(900.0, marks=pytest.mark.slow),
        1300.0,
        pytest.param(1700.0, marks=pytest.mark.slow),
    ],
)
def test_limits_cost_a_fleet_with_right_points_no_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget_w: float
) -> None:
    budget, tokens = FallingBudget(start_w=budget_w, fall=0.0), []
    for name in ("with", "without"):
        with virtual_world(tmp_path / name, monkeypatch, budget, frontier(PACE)) as world:
            if name == "without":
                monkeypatch.setattr(world.fleet, "limit_power", lambda *_: None)
            ticks(world, 10)
            tokens.append(sum(engine.tokens for engine in world.engines))
    assert tokens[0] >= 0.99 * tokens[1]


def ticks(world: World, seconds: int) -> None:
    """Let a controller tick once a second, and wait a second after each."""
    for second in range(seconds):
        plan = world.loop.tick(float(second))
        world.fleet.limit_power(world.board_limits, plan)
        world._read_reports()
        if second < seconds - 1:
            world.wait(1.0)
