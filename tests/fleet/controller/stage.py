"""A controller over one fake replica; the test ticks instead of its thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from tests.fixtures.fleet_messages import node_report, replica_report
from tests.fixtures.ray_actors import FakeActor

from steppe.fleet.controller.controller import Controller
from steppe.fleet.messages import ControllerStatus, Placement, ReplicaStatus
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewayStatus
from steppe.roofline.point import OperatingPoint

POINTS = (OperatingPoint(600, 4, 40.0, 30.0), OperatingPoint(1200, 8, 100.0, 60.0))
FRONTIER = Frontier.of(POINTS, asleep_w=10.0, idle_w=15.0, source="modelled")


class Stage:
    """A controller over one fake replica; the test ticks instead of its thread."""

    def __init__(self, make: Callable[[FakeActor], Controller]) -> None:
        self.gateway = FakeActor({"status": GatewayStatus(1, {}, 0, 0, 0, 0, 0)})
        self.node = FakeActor()
        self.replica = FakeActor({"status": ReplicaStatus("http://there", False)})
        self.controller, self.number = make(self.gateway), 0

    def join(self) -> None:
        self.controller.add_replicas(
            [Placement("replica-1", self.replica, "node-1", self.node, [0], (), model="none")]
        )

    def begin(self, began_ago_s: float = 0.0, last: ControllerStatus | None = None) -> None:
        self.report()
        began_s = time.monotonic() - began_ago_s
        self.controller.begin({"": FRONTIER}, {"": "none"}, "emulated", began_s, last)

    def report(self, **changes: Any) -> None:
        self.number += 1
        replica = replica_report(clock_mhz=600, draw_w=10.0, energy_j=10.0)
        report = node_report(self.number, dataclasses.replace(replica, **changes))
        self.node.answers["report"] = [report]

    def tick(self, now_s: float, **changes: Any) -> None:
        self.report(**changes)
        self.controller._tick(now_s)

    def sent(self, method: str) -> tuple[Any, ...]:
        """Return the arguments of the last call of a method of the gateway."""
        return self.gateway.args(method)[-1]
