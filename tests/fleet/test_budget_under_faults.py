"""When GPUs fail during a run, the draw still follows the budget, and no joule is invented.

The tests compare the true draw of the emulated GPUs with the budget, which falls while the fault
lasts, and again after it. After a fall, and after the fault begins, the draw has `DELAY_S` to
follow: the grace time of a clock limit, a tick to find that it does not hold, and one more until
the replica sleeps. The fleet must be whole again at the end, within `DISTRUST_S` of the fault.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
import pytest
from tests.fixtures.virtual_fleet import PACE, World, virtual_world

from steppe.config import PaceSection
from steppe.fleet.node.clock_limit_monitor import GRACE_S
from steppe.frontier.pareto import Frontier
from steppe.power.budget import Budget
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.point import OperatingPoint
from steppe.sim.engine.pace_model import PaceModel, emulated_profile

DELAY_S = GRACE_S + 2.0
TOLERANCE = 1.02
FAULT_FROM_S, FAULT_UNTIL_S, END_S = 16, 40, 60
SET_CLOCKS = "nvmlDeviceSetGpuLockedClocks"


@dataclass(frozen=True)
class SteppedBudget:
    """Watts by the second from which they hold."""

    steps_w: Mapping[int, float]

    @property
    def falls_s(self) -> list[int]:
        pairs = itertools.pairwise(sorted(self.steps_w))
        return [after for before, after in pairs if self.steps_w[after] < self.steps_w[before]]

    def settle(self, now_s: float, draw_w: float) -> None: ...

    def set_node_rest(self, rest_w: float, source: str) -> None: ...

    def at(self, now_s: float) -> Budget:
        watts = self.steps_w[max(at_s for at_s in self.steps_w if at_s <= now_s)]
        return Budget(watts, 0.0, watts, watts, "constant", stale=False)

    def gpu_budget_at(self, at_s: float) -> float:
        return self.at(at_s).gpu_budget_w

    def forecast(self, now_s: float, *_: float) -> tuple[tuple[float, float], ...]:
        return ((now_s, self.at(now_s).gpu_budget_w),)


def frontier(pace: PaceSection) -> Frontier:
    """Return what the emulated H100 gives, in closed form."""
    profile = emulated_profile("h100")
    model = PaceModel(profile, pace)
    points = []
    for clock_mhz, batch in itertools.product(range(600, profile.full_mhz + 1, 60), (1, 4, 16)):
        work = StepWork(0, batch, 0)
        step_s = model.step_s(work, clock_mhz)
        draw_w = model.step_draw_w(work, clock_mhz)
        points.append(OperatingPoint(clock_mhz, batch, batch / step_s, draw_w, step_s))
    return Frontier.of(points, model.asleep_w, model.idle_w(profile.lowest_mhz), "modelled")


BUDGET = SteppedBudget({0: 300.0, 6: 1700.0, 20: 900.0, 32: 1500.0, 46: 800.0})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with virtual_world(tmp_path, monkeypatch, BUDGET, frontier(PACE)) as made:
        yield made


def over_budget(world: World) -> list[tuple[int, int, float]]:
    """Return the seconds beyond the delay that drew too much, with draw and budget, W."""
    upsets_s = (FAULT_FROM_S, *BUDGET.falls_s)
    budgets_w = [BUDGET.at(second).gpu_budget_w for second in range(END_S)]
    return [
        (second, round(draw_w), budget_w)
        for second, (draw_w, budget_w) in enumerate(zip(world.draws_w, budgets_w, strict=True))
        if draw_w > TOLERANCE * budget_w
        and not any(at_s <= second < at_s + DELAY_S for at_s in upsets_s)
    ]


Fault = Callable[[World, bool], None]


def refuse(code: int, index: int | None) -> Fault:
    def fault(world: World, on: bool) -> None:
        if on:
            world.emulator.inject(SET_CLOCKS, error=code, index=index)
        else:
            world.emulator.clear_faults()

    return fault


def ignore_while_idle(world: World, on: bool) -> None:
    """Let the driver ignore limits of a GPU whose clock falls by itself whenever it idles."""
    world.emulator.clear_context(0, os.getpid())
    ignore(world, on)


def ignore(world: World, on: bool) -> None:
    """Let the driver accept a clock limit of the first GPU and do nothing."""
    set_clocks = getattr(pynvml, SET_CLOCKS)

    def set_some(handle: Any, lowest_mhz: int, highest_mhz: int) -> None:
        if pynvml.nvmlDeviceGetIndex(handle) != 0:
            set_clocks(handle, lowest_mhz, highest_mhz)

    if on:
        world.patches.setattr(pynvml, SET_CLOCKS, set_some)
    else:
        world.patches.undo()


FAULTS: dict[str, Fault] = {
    "none": lambda world, on: None,
    "frozen counter": lambda world, on: world.emulator.freeze(0, on),
    "counter backwards": lambda world, on: world.emulator.reset_counter(0),
    "power spikes": lambda world, on: world.emulator.spike(0, 9_000.0, 200 * on),
    "lost GPU": lambda world, on: world.emulator.set_alive(0, not on),
    "no permission": refuse(pynvml.NVML_ERROR_NO_PERMISSION, 0),
    "no permission at all": refuse(pynvml.NVML_ERROR_NO_PERMISSION, None),
    "ignored": ignore,
    "ignored but while idle": ignore_while_idle,
    "time-outs": refuse(pynvml.NVML_ERROR_TIMEOUT, 0),
}


FENCED = {
    "lost GPU": ["replica-0"],
    "ignored": ["replica-0"],
    "ignored but while idle": ["replica-0"],
    "time-outs": ["replica-0"],
}
"""The replicas that are fenced while the fault lasts. Those without permission are not: plans count
what they draw at the highest clock."""


FAST = ("lost GPU", "ignored")
"""A fault of reading and one of setting; the others take part in the slow tests."""


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS],
)
def test_under_a_fault_the_draw_follows_the_budget_and_no_joule_is_invented(
    world: World, name: str
) -> None:
    begin, end = (functools.partial(FAULTS[name], world, on) for on in (True, False))
    fenced: list[list[str]] = []
    world.serve(
        END_S,
        {
            FAULT_FROM_S: begin,
            FAULT_UNTIL_S - 1: lambda: fenced.append(world.fenced()),
            FAULT_UNTIL_S: end,
        },
    )
    assert over_budget(world) == []
    assert (fenced, world.fenced()) == ([FENCED.get(name, [])], [])
    for index, (replica, meter) in enumerate(world.node._replicas.items()):
        reports = [report for report in world.reports if report.replica == replica]
        metered_j = sum(report.energy_j for report in reports)
        true_j = world.true_j(index, meter.reported_s) - world.true_j(index, world.begun_s)
        assert abs(metered_j - true_j) <= sum(report.error_j for report in reports)
        parts_uj = sum(sum(r.requests_uj.values()) + r.idle_uj + r.transition_uj for r in reports)
        assert parts_uj == pytest.approx(metered_j * 1e6, abs=len(reports))
