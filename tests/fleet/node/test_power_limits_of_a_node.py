"""Board power limits that a node passes on to the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.virtual_fleet import FakeAgent, meters_of, run_node_in_process

from steppe.config import NvmlSection
from steppe.emulator.library import Emulator
from steppe.fleet.messages import (
    NodeSettings,
    ReplicaPowerLimits,
    ReplicaStatus,
    ServedModel,
)
from steppe.fleet.node import clock_limits
from steppe.fleet.node.node import Node

FRESH = ReplicaStatus("", False)
Followed = list[dict[str, Sequence[float]]]


@pytest.fixture
def emulator(make_emulator: Callable[[str], Emulator]) -> Emulator:
    return make_emulator("h100x2")


@pytest.fixture
def followed() -> Followed:
    return []


@pytest.fixture
def node(
    emulator: Emulator, followed: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Node:
    """Return a node with one replica on GPU 1; only the test reads its meters."""

    class Client:
        leases_taken = 1

        def follow_power_limits(
            self, _: object, limits_w: Mapping[str, Sequence[float]], __: float
        ) -> None:
            followed.append(dict(limits_w))

        def confirmed_mhz(self) -> dict[str, int]:
            return {}

    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(clock_limits, "start_agent", lambda *_, **__: FakeAgent())
    monkeypatch.setattr(clock_limits, "AgentClient", lambda *_: Client())
    device = NvmlSection(kind="nvml", agent_socket=Path("/nowhere/agent.sock"))
    made = Node(NodeSettings("run", device, 5.0, {"": ServedModel(None)}))
    emulator.tick(0.2)
    meters_of(made).read()
    made.assign("replica-1", [1], (), FRESH)
    return made


def limits(watts: float, **more: Any) -> ReplicaPowerLimits:
    of_replica = {"replica-1": ((watts, 200.0),), **more}
    return ReplicaPowerLimits((0.0, 3.0), of_replica, 8.0)


def uuid_of(node: Node, index: int) -> str:
    return next(uuid for uuid, gpu in node._gpus.items() if gpu.index == index)


def test_the_limits_of_a_replica_go_to_its_gpus(node: Node, followed: Followed) -> None:
    node.follow_power_limits(limits(500.0, gone=((300.0, 200.0),)), 1.0)
    assert followed == [{uuid_of(node, 1): (500.0, 200.0)}]


def test_a_call_that_comes_too_late_changes_nothing(node: Node, followed: Followed) -> None:
    node.follow_power_limits(limits(500.0), 2.0)
    node.follow_power_limits(limits(700.0), 1.0)
    assert [next(iter(each.values()))[0] for each in followed] == [500.0]


def test_a_node_reports_the_range_of_the_limits_that_it_can_set(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {gpu.power_range_w for gpu in node.info().gpus} == {(200.0, 700.0)}
    monkeypatch.setattr(clock_limits.ClockLimits, "can_set_power", False)
    assert {gpu.power_range_w for gpu in node.info().gpus} == {None}
    assert {gpu.power_limit_w for gpu in node.info().gpus} == {700.0}
