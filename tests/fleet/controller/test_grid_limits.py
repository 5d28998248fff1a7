"""The limits of the grid in the controller: they hold whatever happens to it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.fleet.controller.stage import Stage

from steppe.config.change import changed_config
from steppe.config.section import LARGEST
from steppe.errors import UsageError
from steppe.grid.events.event import GridEvent, Share, Watts
from steppe.grid.limits.limit import Limit, Step
from steppe.grid.service.seam import Cancel, FleetAwayError, Heard, Lift, PutEvent, PutLimit
from steppe.report.records import TickRecord

POWER = {"supply": [{"kind": "constant", "watts": 100.0}]}
MakeStage = Callable[[], Stage]


@pytest.fixture
def make_stage(set_stage: Callable[..., Stage], tmp_path: Path) -> MakeStage:
    """Return a function that starts a controller with the kept file of the one before it."""

    def make() -> Stage:
        stage = set_stage(POWER, grid={"folder": str(tmp_path / "grid")})
        stage.join()
        return stage

    return make


def begun(stage: Stage) -> Stage:
    """Begin without the thread of the loop, which would tick when a limit steps."""
    stage.begin()
    stage.controller.end()
    return stage


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return begun(make_stage())


def restarted(stage: Stage, make_stage: MakeStage) -> Stage:
    """Return the controller that Ray starts after the process of another one has died."""
    stage.controller._grid.release()
    return make_stage()


def limit(watts: float, *, name: str = "limit", issued_s: float = 0.0) -> PutLimit:
    """Return a limit of an operator from now on, without an end."""
    now_s = time.time()
    steps = (Step(now_s, watts),)
    return PutLimit(Limit(name, "http", now_s + issued_s, steps, None, LARGEST))


def event(target: Watts | Share, *, in_s: float = 0.0, hold_s: float = 60.0) -> GridEvent:
    """Return an event of an operator without ramps."""
    starts_s = time.time() + in_s
    return GridEvent(
        id="e1",
        program="p",
        priority=0,
        issued_s=time.time(),
        starts_s=starts_s,
        ramp_down_s=0.0,
        hold_until_s=starts_s + hold_s,
        ramp_up_s=0.0,
        target=target,
        kind="limit",
        source="http",
    )


def budget_of(stage: Stage) -> tuple[float, str]:
    """Return the budget of the site now, W, and what sets it."""
    now = stage.controller._budget.at(stage.controller._now_s())
    return now.site_budget_w, now.source


def ticks_of(stage: Stage, count: int, **changes: Any) -> list[TickRecord]:
    """Tick, and return the records."""
    last = stage.controller._records.began_s
    at_s = max(last, stage.controller._now_s())
    for number in range(count):
        stage.tick(at_s + 1.0 + number, **changes)
    return stage.controller.poll().ticks


def test_a_limit_holds_from_the_next_tick_on_and_the_record_names_it(stage: Stage) -> None:
    assert stage.controller.grid_take([limit(40.0)]) == [""]
    assert budget_of(stage) == (40.0, "http/limit")
    _, record = ticks_of(stage, 3)
    assert (record.budget_w, record.budget_source) == (40.0, "http/limit")
    assert record.grid is not None
    assert (record.grid.limit, record.grid.limit_w, record.grid.event) == ("http/limit", 40.0, "")


def test_without_a_limit_the_record_says_nothing_of_the_grid(stage: Stage) -> None:
    assert [record.grid for record in ticks_of(stage, 3)] == [None, None]


def test_the_next_controller_has_the_limit_before_its_first_tick(
    stage: Stage, make_stage: MakeStage
) -> None:
    stage.controller.grid_take([limit(40.0)])
    after = restarted(stage, make_stage)
    assert budget_of(after) == (40.0, "http/limit")
    assert [record.budget_w for record in ticks_of(begun(after), 2)] == [40.0]


def test_the_next_controller_goes_on_with_an_event_and_its_baseline(
    stage: Stage, make_stage: MakeStage
) -> None:
    ticks_of(stage, 3, draw_w=80.0)
    stage.controller.grid_take([PutEvent(event(Share(0.5)))])
    (before,) = stage.controller.grid_view(0).events
    after = restarted(stage, make_stage)
    watts, source = budget_of(after)
    assert (watts, source) == (before.baseline_w / 2, "http/e1")


def test_two_controllers_never_use_one_folder(
    stage: Stage, make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.fleet.controller.grid_limits.LOCK_WAIT_S", 0.0)
    with pytest.raises(UsageError, match="in use by another run"):
        make_stage()
    assert stage.controller.grid_take([limit(40.0)]) == [""]


def test_a_changed_power_section_keeps_the_limit(stage: Stage) -> None:
    stage.controller.grid_take([limit(40.0)])
    power = {"supply": [{"kind": "constant", "watts": 5000.0}]}
    config = changed_config(stage.controller._config, "power", power)
    assert stage.controller.reconfigure(config) == ""
    assert budget_of(stage) == (40.0, "http/limit")


def test_what_is_refused_leaves_the_limit_and_the_changes_after_it(stage: Stage) -> None:
    stage.controller.grid_take([limit(40.0), limit(60.0, name="other")])
    now_s = time.time()
    lines = stage.controller.grid_take(
        [
            limit(90.0, issued_s=-10.0),
            limit(float("nan")),
            Lift("http", "limit", now_s - 100.0),
            Lift("http", "limit", float("inf")),
            Lift("nowhere", "limit", now_s),
            Cancel("http", "limit", now_s),
            PutEvent(replace(event(Watts(10.0)), hold_until_s=float("nan"))),
            Heard("http"),
            limit(30.0, name="other"),
        ]
    )
    assert [bool(line) for line in lines] == [True] * 7 + [False] * 2
    assert all("asked" in line and "\n" not in line for line in lines if line)
    assert budget_of(stage) == (30.0, "http/other")


def test_a_limit_below_the_floor_of_the_fleet_breaks_nothing(stage: Stage) -> None:
    stage.controller.grid_take([limit(0.0)])
    *_, record = ticks_of(stage, 5)
    assert (record.budget_w, record.budget_source) == (0.0, "http/limit")
    assert [each.of for each in record.shortages][:1] == ["floor"]
    (metrics,) = stage.sent("set_metrics")
    assert b"steppe_budget_feasible 0.0" in metrics
    stage.controller.grid_take([Lift("http", "limit", time.time() + 1)])
    assert budget_of(stage) == (100.0, "constant")


def test_calls_of_the_grid_wait_for_no_tick(stage: Stage) -> None:
    with stage.controller._lock:  # a tick holds it
        assert stage.controller.grid_take([limit(40.0)]) == [""]
        assert stage.controller.grid_view(0).in_force is not None


def test_a_disk_that_hangs_delays_neither_a_limit_nor_a_tick(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reached, goes_on = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        is_reached.set()
        assert goes_on.wait(60.0)

    answers: list[list[str]] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", hang)
        call = threading.Thread(
            target=lambda: answers.append(stage.controller.grid_take([limit(40.0)]))
        )
        call.start()
        assert is_reached.wait(60.0)
        assert budget_of(stage) == (40.0, "http/limit")
        assert [record.budget_w for record in ticks_of(stage, 2)] == [40.0]
        assert stage.controller.grid_view(0).in_force is not None
        goes_on.set()
        call.join()
    assert answers == [[""]]


def test_a_full_disk_is_said_and_the_limit_holds_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        (line,) = stage.controller.grid_take([limit(40.0)])
    assert "No space left on device" in line
    assert budget_of(stage) == (40.0, "http/limit")


def test_a_restarted_controller_keeps_the_limit_when_the_driver_changes_its_supply(
    stage: Stage, make_stage: MakeStage
) -> None:
    stage.controller.grid_take([limit(40.0)])
    after = restarted(stage, make_stage)
    power = {"supply": [{"kind": "constant", "watts": 5000.0}]}
    after.controller.reconfigure(changed_config(after.controller._config, "power", power))
    assert budget_of(begun(after)) == (40.0, "http/limit")


def test_a_controller_that_has_not_begun_takes_nothing(
    make_stage: MakeStage, set_stage: Callable[..., Stage]
) -> None:
    controller = make_stage().controller
    with pytest.raises(FleetAwayError, match="has not begun"):
        controller.grid_take([limit(40.0)])
    with pytest.raises(FleetAwayError, match="has not begun"):
        controller.grid_view(0)
    with pytest.raises(UsageError, match="without the section grid"):
        set_stage(POWER).controller.grid_view(0)


def test_an_event_is_seen_with_its_baseline_and_in_the_status(stage: Stage) -> None:
    ticks_of(stage, 3, draw_w=80.0, energy_j=80.0)
    stage.controller.grid_take([PutEvent(event(Share(0.5)))])
    *_, record = ticks_of(stage, 3, draw_w=30.0, energy_j=30.0)
    view = stage.controller.grid_view(0)
    (now,) = view.events
    assert (now.baseline_w, now.target_w, now.delivered_w) == (80.0, 40.0, 50.0)
    assert view.in_force is not None
    assert view.in_force.name == "http/e1"
    assert record.grid is not None
    assert (record.grid.event, record.grid.target_w) == ("http/e1", 40.0)
    assert (record.grid.delivered_w, record.grid.complies) == (50.0, True)
    (state,) = stage.sent("set_fleet_state")
    grid = orjson.loads(state)["grid"]
    assert (grid["limit"], grid["limit_w"]) == ("http/e1", 40.0)
    assert [(each["id"], each["delivered_w"]) for each in grid["events"]] == [("e1", 50.0)]


def test_draws_are_read_from_a_number_on(stage: Stage, make_stage: MakeStage) -> None:
    ticks_of(stage, 3)
    first = stage.controller.grid_view(0).samples
    assert len(first) == 3
    ticks_of(stage, 2)
    more = stage.controller.grid_view(first[-1].number).samples
    assert len(more) == 2
    after = begun(restarted(stage, make_stage))
    ticks_of(after, 1)
    (newest,) = after.controller.grid_view(more[-1].number).samples
    assert newest.number > more[-1].number
