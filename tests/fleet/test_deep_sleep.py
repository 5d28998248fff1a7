"""Replicas that are not needed end their processes, draw less, and come back when they are needed.

Node, meters, emulated GPUs, live fleet and policy are the real ones, in virtual time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.virtual_fleet import GPUS, PACE, Actor, Engine, World, virtual_world
from tests.fleet.test_budget_under_faults import SteppedBudget, frontier

from steppe.config import ControlSection
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.sleep_ladder import SleepDepth, SleepRung, ladder_of
from steppe.control.state import ReplicaState
from steppe.emulator.library import Emulator
from steppe.engine.control_block import ControlBlock
from steppe.fleet.messages import GpuAssignment, ReplicaStatus

BARE_W = 70.0
"""Draw of an emulated H100 without a context, W."""
LOW_W = 3 * BARE_W + 20.0
"""A budget below what three paused replicas draw, and above what they draw without a context."""
RUNGS = (
    SleepRung(SleepDepth.STOPPED, BARE_W, 2.0, 0.5),
    SleepRung(SleepDepth.OFF, 0.0, 5.0, 0.5),
)
BUDGET = SteppedBudget({0: 1700.0, 10: LOW_W, 40: 1700.0})


@dataclass
class StoppableEngine:
    """The replica of an engine: it can end its process, and start another one."""

    engine: Engine
    emulator: Emulator
    runs: bool = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def leave(self) -> None:
        self.runs, self.engine.frozen = False, True
        self.emulator.clear_context(self.engine.index, os.getpid())

    def gpu_indices(self) -> list[int]:
        return [self.engine.index]

    def status(self) -> ReplicaStatus:
        return self.engine.status() if self.runs else ReplicaStatus("", False)

    def start(
        self, assignment: GpuAssignment, folder: str = "", settings: object = None
    ) -> ReplicaStatus:
        self.engine.block = ControlBlock(Path(assignment.control_block))
        self.engine.frozen, self.runs = False, True
        self.emulator.set_context(self.engine.index, os.getpid(), 0)
        return self.status()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    points = frontier(PACE)
    with virtual_world(tmp_path, monkeypatch, BUDGET, points) as made:
        for engine, handle in zip(made.engines, made.fleet.handles.values(), strict=True):
            actor = Actor(StoppableEngine(engine, made.emulator))
            object.__setattr__(handle.placement, "actor", actor)
        ladder = ladder_of(RUNGS, points)
        pool = PoolFacts(
            points, GPUS, 1, ControlSection(), 10.0, 300.0, BUDGET.forecast, ladder=ladder
        )
        object.__setattr__(made.loop, "policy", make_policy(pool))
        yield made


def depths(world: World) -> list[SleepDepth]:
    return [handle.depth for handle in world.fleet.handles.values()]


@pytest.mark.slow
def test_a_fleet_without_power_gives_up_its_contexts_and_serves_again(world: World) -> None:
    seen: dict[str, Any] = {}

    def look() -> None:
        seen["depths"] = depths(world)
        seen["contexts"] = [world.emulator.snapshot(index).contexts for index in range(GPUS)]
        seen["nodes"] = world.fleet.nodes_off

    def node_comes_on() -> None:
        for handle in world.fleet.handles.values():
            handle.node_is_on(55.0)

    world.serve(80, {39: look, 55: node_comes_on})
    assert seen["contexts"] == [0, 0, 0]
    assert seen["depths"] == [SleepDepth.OFF] * 3
    assert seen["nodes"] == {"node-1"}
    paused_w, bare_w = max(world.draws_w[12:14]), world.draws_w[38]
    assert bare_w == pytest.approx(GPUS * BARE_W, rel=0.05)
    assert bare_w < LOW_W < paused_w, "a pause alone cannot follow the budget"
    assert world.fleet.nodes_off == frozenset()
    states = {handle.state for handle in world.fleet.handles.values()}
    assert states == {ReplicaState.AWAKE}
    assert world.draws_w[-2] > 900.0
    wakes = world.fleet.pools.sleep_times[""].wake_quantiles_s()
    assert wakes[SleepDepth.OFF, "0.5"] >= 1.0
    assert sum(report.energy_j for report in world.reports) == pytest.approx(
        sum(world.draws_w), rel=0.02
    )
