"""A fleet with faulty hardware in virtual time: its true draw stays within the budget, and all
joules are charged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.virtual_fleet import GPUS, PACE, World, virtual_world
from tests.fleet.test_budget_under_faults import SteppedBudget, frontier

from steppe.energy.cross_check import FIRST_S
from steppe.fleet.node.gpu_watch import SLOW_PERIOD_S
from steppe.report.records import GpuEvent

BUDGET_W = 1100.0
END_S = 32
FOUND_S = round(FIRST_S) + 6
"""The first check of a counter has acted by then, s."""
TOLERANCE = 1.02


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    budget = SteppedBudget({0: BUDGET_W})
    with virtual_world(tmp_path, monkeypatch, budget, frontier(PACE)) as made:
        yield made


def events_of(world: World) -> set[tuple[str, bool]]:
    found: list[GpuEvent] = list(world.events)
    return {(event.kind, event.is_over) for event in found}


def assert_every_joule_is_charged(world: World) -> None:
    for index, (replica, meter) in enumerate(world.node._replicas.items()):
        reports = [report for report in world.reports if report.replica == replica]
        metered_j = sum(report.energy_j for report in reports)
        whole_j = sum(report.whole_j for report in reports)
        parts_uj = sum(sum(r.requests_uj.values()) + r.idle_uj + r.transition_uj for r in reports)
        assert parts_uj == pytest.approx(metered_j * 1e6, abs=len(reports))
        true_j = world.true_j(index, meter.reported_s) - world.true_j(index, world.begun_s)
        assert abs(whole_j - true_j) <= sum(report.error_j for report in reports)


def set_on_all(name: str, value: float) -> Callable[[World], None]:
    def fault(world: World) -> None:
        for index in range(GPUS):
            world.emulator.set_fault(index, name, value)

    return fault


def test_counters_that_read_40_percent_low_do_not_break_the_budget(world: World) -> None:
    set_on_all("counter_scale", 0.6)(world)
    world.serve(END_S, {})
    assert (
        max(world.draws_w) <= TOLERANCE * BUDGET_W
    )  # before the check, board power limits hold it
    late_w = world.draws_w[FOUND_S:]
    assert sum(late_w) / len(late_w) > 0.85 * BUDGET_W
    assert events_of(world) == {("counter", False)}
    assert all(r.conditions == ("counter disagrees",) for r in world.reports[-GPUS:])


def test_a_neighbour_counts_in_the_budget_and_not_in_the_joules_of_requests(world: World) -> None:
    world.emulator.set_fault(0, "neighbour", 0.3)
    world.serve(END_S, {})
    assert max(world.draws_w[4:]) <= TOLERANCE * BUDGET_W
    assert_every_joule_is_charged(world)
    shared = [report for report in world.reports if report.neighbour_j > 0]
    assert {report.replica for report in shared} == {"replica-0"}
    assert len(shared) > END_S - SLOW_PERIOD_S - 3
    assert ("shared", False) in events_of(world)


def test_a_power_brake_is_noted_and_the_others_use_what_is_left(world: World) -> None:
    world.serve(END_S, {10: lambda: world.emulator.set_fault(0, "reasons", 128)})
    assert max(world.draws_w[4:]) <= TOLERANCE * BUDGET_W
    assert_every_joule_is_charged(world)
    assert events_of(world) == {("slowdown", False)}
    conditions = {report.replica: report.conditions for report in world.reports[-GPUS:]}
    assert conditions["replica-0"] == ("power brake",)


def test_a_gpu_without_permission_is_fenced_and_the_others_serve(world: World) -> None:
    fenced: list[list[str]] = []
    world.serve(
        END_S,
        {
            4: lambda: world.emulator.set_fault(0, "no_permission", 1),
            END_S - 1: lambda: fenced.append(world.fenced()),
        },
    )
    assert max(world.draws_w[8:]) <= TOLERANCE * BUDGET_W
    assert fenced in ([[]], [["replica-0"]])  # its limit may still be the right one
    assert_every_joule_is_charged(world)
