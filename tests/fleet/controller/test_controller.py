from __future__ import annotations

import threading
from collections.abc import Callable, Container
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from tests.fixtures.own_policy import EqualShares
from tests.fleet.controller.stage import Stage

from steppe.config.change import changed_config
from steppe.control.batch_policy import PlanBatch
from steppe.control.loop import ControlLoop
from steppe.control.plan import Plan
from steppe.control.policy.policy import CheckedPolicy
from steppe.control.tick_times import TickTimes
from steppe.fleet.controller.controller import MOST_KEPT
from steppe.fleet.messages import (
    ControllerStatus,
    ControllerUpdate,
    NodeReport,
    Placement,
    ReplicaStatus,
)
from steppe.gateway.server import GatewayStatus
from steppe.power.battery import Charge
from steppe.power.budget import Budget
from steppe.report.records import TickRecord

NIGHT_S, DAY_S = 20, 40
"""No replica can serve before the one, and all can after the other."""


BATTERY = {
    "capacity_wh": 1000.0,
    "max_charge_w": 1000.0,
    "max_discharge_w": 1000.0,
    "discharge_efficiency": 1.0,
    "initial_share": 0.8,
}


@pytest.fixture
def empty_stage(set_stage: Callable[..., Stage], tmp_path: Path) -> Stage:
    watts = [5 if t < NIGHT_S else 45 if t < DAY_S else 100 for t in range(120)]
    (tmp_path / "supply.csv").write_text(
        "t,w\n" + "".join(f"{t},{w}\n" for t, w in enumerate(watts))
    )
    supply = {"kind": "trace", "path": str(tmp_path / "supply.csv"), "watts_per_unit": 1}
    supply |= {"time_column": "t", "power_column": "w"}
    return set_stage({"supply": [supply]})


@pytest.fixture
def stage(empty_stage: Stage) -> Stage:
    empty_stage.join()
    empty_stage.begin()
    return empty_stage


def test_a_record_has_the_shortages_with_their_watts_and_ends(stage: Stage) -> None:
    stage.tick(1.0)
    stage.gateway.answers["status"] = GatewayStatus(1, {}, 5, 0, 0, 0, 0)  # that is 1000 tokens
    stage.tick(6.0)
    (record,) = stage.controller.poll().ticks
    found = {shortage.of: shortage for shortage in record.shortages}
    assert found["floor"].short_w == 5.0
    assert found["floor"].ends_in_s == pytest.approx(NIGHT_S - 6, abs=5.0)
    assert found["demand"].short_w == 55.0
    assert found["demand"].ends_in_s == pytest.approx(DAY_S - 6, abs=5.0)
    (metrics,) = stage.sent("set_metrics")
    assert b'steppe_shortage_watts{of="demand"} 55.0' in metrics
    assert b"steppe_budget_feasible 0.0" in metrics


def test_a_tick_sets_the_battery_as_planned(
    set_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    battery = {"capacity_wh": 100, "max_charge_w": 60, "max_discharge_w": 60, "initial_share": 0.5}
    stage = set_stage({"supply": [{"kind": "constant", "watts": 100}], "battery": battery})
    stage.join()
    stage.begin()
    monkeypatch.setattr(ControlLoop, "tick", lambda *_: Plan((), 0.0, battery_w=-40.0))
    stage.controller._fleet.observe(1.0)
    stage.tick(1.0)
    assert stage.controller._budget.at(1.0).battery_w == -40.0


def test_ticks_are_returned_until_the_driver_has_received_them(stage: Stage) -> None:
    for second in (1.0, 2.0, 3.0):
        stage.tick(second)
    lost = stage.controller.poll()
    assert [tick.t_s for tick in lost.ticks] == [2.0, 3.0]
    stage.tick(4.0)
    assert [tick.t_s for tick in stage.controller.poll().ticks] == [2.0, 3.0, 4.0]
    assert [tick.t_s for tick in stage.controller.poll(3.0).ticks] == [4.0]
    assert stage.controller.poll(4.0).ticks == []


def test_a_tick_that_reads_two_windows_records_both(stage: Stage) -> None:
    stage.tick(1.0)
    stage.report(draw_w=400.0, energy_j=400.0, output_tokens=50)
    (late,) = stage.node.answers["report"]
    stage.report(draw_w=150.0, energy_j=75.0, output_tokens=25)
    stage.node.answers["report"].insert(0, late)
    stage.controller._tick(2.5)
    (record,) = stage.controller.poll().ticks
    assert (record.energy_j, record.output_tokens, record.output_tps) == (475.0, 75, 50.0)
    assert record.draw_w == pytest.approx(475.0 / 1.5)
    (replica,) = record.replicas
    assert (replica.draw_w, replica.output_tps) == (record.draw_w, record.output_tps)


def test_a_tick_records_how_long_the_one_before_it_took(stage: Stage) -> None:
    stage.tick(1.0)
    stage.tick(2.0)
    stage.tick(3.0)
    _, latest = stage.controller.poll().ticks
    assert latest.took_s is not None
    assert 0 < latest.took_s < 60.0
    (exposition,) = stage.sent("set_metrics")
    assert f"steppe_tick_seconds {latest.took_s}" in exposition.decode()


def test_the_gateway_gets_the_time_until_a_replica_can_serve_again(stage: Stage) -> None:
    stage.tick(1.0)
    routes, retry_after_s = stage.sent("set_routes")
    assert routes == ()
    assert retry_after_s == {"none": pytest.approx(NIGHT_S - 1, abs=5.0)}
    stage.tick(DAY_S + 1.0)
    routes, retry_after_s = stage.sent("set_routes")
    assert [(route.replica, route.model) for route in routes] == [("replica-1", "none")]
    assert retry_after_s == {"none": None}


def test_a_changed_configuration_holds_from_the_next_tick_on(
    set_stage: Callable[..., Stage],
) -> None:
    stage = set_stage({"supply": [{"kind": "constant", "watts": 100}]})
    stage.join()
    stage.begin()
    stage.tick(1.0)
    config = stage.controller._config
    assert stage.sent("set_routes")[0] != ()
    dark = changed_config(config, "power", {"supply": [{"kind": "constant", "watts": 5}]})
    assert stage.controller.reconfigure(dark) == ""
    stage.tick(2.0)
    assert stage.sent("set_routes")[0] == ()
    assert stage.controller._budget.at(2.0).supply_w == 5.0
    missing = {"supply": [{"kind": "trace", "path": "/no/such.csv"}]}
    error = stage.controller.reconfigure(changed_config(config, "power", missing))
    assert error.startswith("/no/such.csv")
    assert stage.controller._budget.at(3.0).supply_w == 5.0


def test_a_restarted_controller_continues_with_the_charge_of_the_battery(
    set_stage: Callable[..., Stage],
) -> None:
    power = {"supply": [{"kind": "constant", "watts": 0.0}], "battery": BATTERY}
    tick = TickRecord(
        t_s=4 * 3600.0 - 36.0,
        budget_w=100.0,
        draw_w=100.0,
        supply_w=0.0,
        demand_tps=0.0,
        output_tps=0.0,
        energy_j=100.0,
        output_tokens=0,
        waiting=0,
        running=0,
        battery=Charge(share=0.25, power_w=100.0),
        replicas=(),
    )
    stage = set_stage(power)
    stage.join()
    stage.begin(
        4 * 3600.0,
        ControllerStatus(tick, Budget(0.0, 100.0, 100.0, 100.0, "battery", stale=False), {}),
    )
    stage.tick(4 * 3600.0)
    assert stage.controller._fleet.snapshot is not None
    charge = stage.controller._fleet.snapshot.budget.charge
    assert charge is not None
    assert charge.share == pytest.approx(0.25 - 1.0 / 1000.0, abs=1e-5)


def test_the_time_without_a_controller_makes_one_tick(
    set_stage: Callable[..., Stage],
) -> None:
    before, after = (
        set_stage({"supply": [{"kind": "constant", "watts": 100.0}]}) for _ in range(2)
    )
    before.join()
    before.begin()
    for second in (1.0, 2.0):
        before.tick(second)
    left = before.controller.poll().status
    assert left is not None
    after.node = before.node
    before.report(energy_j=70.0, draw_w=35.0, output_tokens=20)
    (kept,) = before.node.answers["report"]
    after.number = before.number
    after.join()
    after.begin(began_ago_s=5.0, last=left)
    after.report(energy_j=30.0, draw_w=30.0, output_tokens=10)
    after.node.answers["report"].insert(0, kept)
    after.controller._tick(5.0)
    (record,) = after.controller.poll().ticks
    assert (record.energy_j, record.output_tokens, record.output_tps) == (100.0, 30, 10.0)
    assert (record.t_s, record.budget_w) == (5.0, left.budget.gpu_budget_w)
    assert after.node.args("report")[-1] == (kept.number - 1,)


def test_a_shortage_is_one_line_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    for tick in range(1, 10):
        stage.tick(float(tick))
    lines = [line for line in caplog.messages if "short of" in line]
    assert len(lines) == 2
    assert lines[0].startswith("0:01: budget 5.00 W short of the sleeping fleet, enough in 0:2")


def test_the_draw_of_an_uncontrollable_replica_is_deducted_from_the_budget_of_the_others(
    stage: Stage,
) -> None:
    place = Placement("replica-2", stage.replica, "node-1", stage.node, [1], ())
    stage.controller.add_replicas([place])
    stage.tick(NIGHT_S + 1.0, draw_w=20.0, controllable=False)
    stage.tick(NIGHT_S + 6.0, draw_w=20.0, controllable=False)
    routes, retry_after_s = stage.sent("set_routes")
    assert routes == ()
    assert retry_after_s == {"none": pytest.approx(DAY_S - NIGHT_S - 6, abs=5.0)}
    found = {shortage.of: shortage for shortage in stage.controller.poll().ticks[-1].shortages}
    assert found["demand"].short_w == 5.0


def test_a_replica_that_was_lost_when_the_controller_began_is_planned_when_it_is_back(
    empty_stage: Stage,
) -> None:
    empty_stage.begin()
    empty_stage.tick(1.0)
    empty_stage.join()
    for second in range(DAY_S, DAY_S + 10):
        empty_stage.tick(float(second))
    routes, _ = empty_stage.sent("set_routes")
    assert [route.replica for route in routes] == ["replica-1"]


def test_ticks_continue_while_a_new_replica_does_not_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = ray.get
    handed_over: list[ControllerUpdate] = []

    def get_slowly(call: Any, **how: Any) -> Any:
        if call.answer is silent.answers["status"]:
            ticking = threading.Thread(target=lambda: handed_over.append(stage.controller.poll()))
            ticking.start()
            ticking.join(5.0)
            raise ray.exceptions.GetTimeoutError
        return get(call, **how)

    silent = type(stage.replica)({"status": ReplicaStatus("", False)})
    monkeypatch.setattr(ray, "get", get_slowly)
    stage.controller.add_replicas([Placement("replica-2", silent, "node-1", stage.node, [1], ())])
    assert len(handed_over) == 1
    assert set(stage.controller._fleet.handles) == {"replica-1", "replica-2"}


class FewLooks:
    """Lets a loop look so often, and then stops it."""

    def __init__(self, budget_reads: int) -> None:
        self.left = budget_reads

    def wait(self, timeout: float) -> bool:
        self.left -= 1
        return self.left < 0

    def set(self) -> None:
        self.left = 0


def test_a_budget_that_raises_fails_a_tick_but_not_the_loop(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    controller: Any = stage.controller
    controller.end()
    looks = controller.poll().budget_reads

    def budget_w(_: float) -> float:
        if controller.poll().budget_reads == looks + 2:
            raise ValueError("it is gone")
        return 100.0

    times = TickTimes(budget_w, 60.0, 0.0)
    controller._loop = SimpleNamespace(times=times)
    controller._stop = FewLooks(5)  # a failed one takes two
    controller._run_loop()
    assert "it is gone" in caplog.text
    assert controller.poll().budget_reads == looks + 4


class VirtualStop:
    """Waits in virtual time, and is set when that is over."""

    def __init__(self, end_s: float) -> None:
        self.now_s, self.end_s = 0.0, end_s

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout: float) -> bool:
        self.now_s += timeout
        return self.now_s >= self.end_s

    def set(self) -> None: ...


class FailingLoop:
    """The loop of a stage; its node closes a window at each tick, and one tick fails at its end."""

    def __init__(self, stage: Stage, fails_at: Container[int]) -> None:
        self.times = TickTimes(lambda _: 100.0, 1.0, 0.0)
        self._stage, self._loop, self._fails_at = stage, stage.controller._loop, fails_at
        self._kept: list[NodeReport] = []
        self.ticks = 0

    def tick(self, now_s: float) -> Any:
        self._stage.report(energy_j=10.0 + self.ticks, output_tokens=1 + self.ticks)
        self._kept += self._stage.node.answers["report"]
        self._stage.node.answers["report"] = list(self._kept)
        assert self._loop is not None
        plan = self._loop.tick(now_s)
        self.ticks += 1
        if self.ticks in self._fails_at:
            raise ValueError("it cannot be carried out")
        return plan


def test_the_record_after_a_failed_tick_includes_its_window(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller: Any = stage.controller
    controller.end()
    virtual, loop = VirtualStop(6.5), FailingLoop(stage, fails_at=[3])
    controller._loop, controller._stop, controller._began_s = loop, virtual, 0.0
    controller._clock = virtual.monotonic
    controller._last_s = 0.0
    controller._run_loop()
    records = controller.poll().ticks
    assert [record.t_s for record in records] == pytest.approx([2.0, 4.1, 5.0, 6.0], abs=0.2)
    assert [record.energy_j for record in records] == [11.0, 12.0 + 13.0, 14.0, 15.0]
    assert [record.output_tokens for record in records] == [2, 3 + 4, 5, 6]
    assert records[1].draw_w == pytest.approx(10.0)
    assert controller._fleet._loads.output_tokens.total() == sum(range(1, 7))


def test_a_replica_that_goes_to_sleep_ends_its_step_at_the_clock_of_the_lowest_point(
    stage: Stage,
) -> None:
    stage.tick(1.0, clock_mhz=1200, running=3)
    sent = [args[0] for name, args in stage.node.asked if name == "apply"]
    assert [(limits.phase, limits.clock_mhz) for limits in sent[-1]] == [("asleep", 600)]


def test_the_windows_of_many_failed_ticks_are_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller: Any = stage.controller
    controller.end()
    failing = range(2, MOST_KEPT + 5)
    virtual, loop = VirtualStop(60.0), FailingLoop(stage, fails_at=failing)
    controller._loop, controller._stop, controller._began_s = loop, virtual, 0.0
    controller._clock = virtual.monotonic
    controller._last_s = 0.0
    controller._run_loop()
    after, later = controller.poll().ticks[:2]
    assert after.energy_j == sum(9.0 + tick for tick in range(MOST_KEPT + 2, MOST_KEPT + 6))
    assert after.output_tps == pytest.approx(after.output_tokens / 4.0, rel=0.1)
    assert later.energy_j == 9.0 + MOST_KEPT + 6


def test_a_record_is_not_made_twice_if_its_metrics_fail(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller: Any = stage.controller
    stage.tick(1.0)

    def fail(*_: Any) -> None:
        raise ValueError("no metrics")

    with monkeypatch.context() as patch:
        patch.setattr(controller._exposition, "update", fail)
        with pytest.raises(ValueError, match="no metrics"):
            stage.tick(2.0, energy_j=30.0)
    stage.tick(3.0, energy_j=40.0, output_tokens=8)
    records = controller.poll().ticks
    assert [(record.t_s, record.energy_j) for record in records] == [(2.0, 30.0), (3.0, 40.0)]
    assert records[1].output_tps == 8.0


def test_a_policy_of_ones_own_runs_live(set_stage: Callable[..., Stage]) -> None:
    supply = [{"kind": "constant", "watts": 100}]
    stage = set_stage({"supply": supply}, policy="tests.fixtures.own_policy:EqualShares")
    stage.join()
    stage.begin()
    stage.tick(1.0)
    loop = stage.controller._loop
    assert loop is not None
    assert isinstance(loop.policy, PlanBatch)
    assert isinstance(loop.policy.policy, CheckedPolicy)
    assert isinstance(loop.policy.policy.policy, EqualShares)
    stage.tick(2.0)
    (record,) = stage.controller.poll().ticks
    assert {replica.state for replica in record.replicas} == {"awake"}
