from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.ray_actors import FakeActor

from steppe.control.plan import Plan
from steppe.control.power_limits import AFTERWARDS_S
from steppe.control.state import ReplicaState
from steppe.fleet.controller.board_limits import BoardLimits
from steppe.fleet.controller.replica_handle import ReplicaHandle
from steppe.fleet.messages import Placement, ReplicaPowerLimits
from steppe.roofline.point import OperatingPoint

H100_W = (200.0, 700.0)
HIGH, LOW = (
    OperatingPoint(1980, 64, 1000.0, 600.0, 0.05),
    OperatingPoint(900, 16, 300.0, 300.0, 0.05),
)
PLAN = Plan((HIGH, LOW), 1200.0)


class Scene:
    """Two nodes with replicas of one or two H100s."""

    def __init__(self, budget_w: float) -> None:
        self.nodes: dict[str, Any] = {"a": FakeActor(), "b": FakeActor()}
        self.handles: dict[str, ReplicaHandle] = {}
        self.limits = BoardLimits(lambda _: budget_w, 1.0, 3.0)
        self.lent_w: dict[str, float] = {}

    def add(
        self, name: str, node: str, state: ReplicaState, draw_w: float = 0.0, gpus: int = 1
    ) -> ReplicaHandle:
        place = Placement(
            name, FakeActor(), node, self.nodes[node], list(range(gpus)), (),
            power_ranges_w=(H100_W,) * gpus,
        )  # fmt: skip
        self.handles[name] = ReplicaHandle(place, state, draw_w=draw_w)
        return self.handles[name]

    def serve(self, name: str, node: str, point: OperatingPoint, gpus: int = 1) -> None:
        handle = self.add(name, node, ReplicaState.AWAKE, gpus=gpus)
        handle.clock_mhz, handle.batch_limit = point.clock_mhz, point.batch_limit

    def send(self, now_s: float = 0.0) -> None:
        self.limits.send(PLAN, self.handles, self.lent_w, self.nodes, now_s)

    def sent(self, node: str) -> ReplicaPowerLimits:
        (message, _) = self.nodes[node].args("follow_power_limits")[-1]
        assert isinstance(message, ReplicaPowerLimits)
        return message

    def now_w(self, node: str) -> dict[str, list[float]]:
        """Return the first step of the limits of each GPU, W, by replica."""
        limits_w = self.sent(node).limits_w
        return {name: [steps[0] for steps in gpus] for name, gpus in limits_w.items()}


def test_each_node_gets_the_limits_of_its_replicas() -> None:
    scene = Scene(1000.0)
    scene.serve("r1", "a", HIGH)
    scene.serve("r2", "b", LOW)
    scene.send()
    assert scene.now_w("a") == {"r1": [pytest.approx(660.0, abs=5.0)]}
    assert scene.now_w("b") == {"r2": [pytest.approx(335.0, abs=10.0)]}
    assert sum(scene.limits.by_replica_w.values()) <= 1000.0
    assert scene.sent("a").keep_s == 3.0 + AFTERWARDS_S


def test_the_limits_of_a_replica_are_shared_by_its_gpus() -> None:
    scene = Scene(1000.0)
    scene.serve("r1", "a", HIGH, gpus=2)
    scene.send()
    first_w, second_w = scene.now_w("a")["r1"]
    assert first_w == second_w == pytest.approx(330.0)


def test_a_sleeping_replica_is_at_its_lowest_limit_and_counts_with_its_draw() -> None:
    scene = Scene(790.0)
    scene.add("r1", "a", ReplicaState.ASLEEP, draw_w=120.0)
    scene.serve("r2", "a", HIGH)
    scene.send()
    assert scene.now_w("a") == {"r1": [200.0], "r2": [pytest.approx(660.0)]}


def test_a_replica_on_loan_gets_the_watts_that_are_reserved_for_it() -> None:
    scene = Scene(1000.0)
    scene.add("r1", "a", ReplicaState.ASLEEP, draw_w=120.0)
    scene.serve("r2", "a", LOW)
    scene.lent_w["r1"] = 500.0
    scene.send()
    assert scene.now_w("a")["r1"][0] >= 550.0


def test_gpus_without_a_limit_count_with_their_draw() -> None:
    scene = Scene(1000.0)
    free = scene.add("r1", "a", ReplicaState.ASLEEP, draw_w=500.0, gpus=0)
    scene.serve("r2", "b", HIGH)
    scene.send()
    assert free.name not in scene.limits.by_replica_w
    assert not scene.nodes["a"].args("follow_power_limits")
    assert scene.now_w("b") == {"r2": [pytest.approx(500.0)]}


def test_a_node_that_is_off_is_left_out_and_its_replicas_count_with_what_they_draw() -> None:
    scene = Scene(790.0)
    scene.add("r1", "b", ReplicaState.ASLEEP, draw_w=0.0)
    scene.serve("r2", "a", HIGH)
    del scene.nodes["b"]
    scene.send()
    assert scene.now_w("a") == {"r2": [pytest.approx(660.0)]}


@pytest.mark.parametrize("state", [ReplicaState.GONE, ReplicaState.QUARANTINED])
def test_gpus_without_an_engine_are_at_their_lowest_limits(state: ReplicaState) -> None:
    scene = Scene(790.0)
    scene.add("r1", "a", state, draw_w=70.0)
    scene.serve("r2", "a", HIGH)
    scene.send()
    assert scene.now_w("a") == {"r1": [200.0], "r2": [pytest.approx(660.0)]}
