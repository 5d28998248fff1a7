"""A node actor that starts again while a GPU of its replicas has fallen off the bus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.virtual_fleet import FakeAgent, meters_of, run_node_in_process

from steppe.config import NvmlSection
from steppe.emulator.library import Emulator
from steppe.energy.window import Quality
from steppe.fleet.messages import (
    NodeSettings,
    ReplicaReport,
    ReplicaStatus,
    ServedModel,
    SetLimits,
)
from steppe.fleet.node import clock_limits
from steppe.fleet.node.node import Node

FRESH = ReplicaStatus("", False)


@pytest.fixture
def emulator(make_emulator: Callable[[str], Emulator]) -> Emulator:
    return make_emulator("h100x3")


@pytest.fixture
def make_node(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Node]:
    """Return a function that makes the node again; only the test reads its meters."""
    run_node_in_process(monkeypatch, tmp_path)
    monkeypatch.setattr(clock_limits, "start_agent", lambda *_, **__: FakeAgent())
    monkeypatch.setattr(clock_limits, "AgentClient", lambda *_: FakeClient())

    def make() -> Node:
        device = NvmlSection(kind="nvml", agent_socket=Path("/nowhere/agent.sock"))
        made = Node(NodeSettings("run", device, 5.0, {"": ServedModel(None)}))
        read(made, emulator)
        return made

    return make


class FakeClient:
    """Sets every limit."""

    leases_taken = 1

    def __init__(self) -> None:
        self.set: dict[str, int] = {}

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        self.set[uuid] = clock_mhz
        return clock_mhz

    def confirmed_mhz(self) -> dict[str, int]:
        return self.set

    def release(self) -> None: ...


def read(node: Node, emulator: Emulator) -> None:
    for _ in range(10):
        emulator.tick(0.05)
        meters_of(node).read()


def reports(node: Node) -> dict[str, ReplicaReport]:
    return {report.replica: report for report in node.report(0)[-1].replicas}


@pytest.mark.parametrize("gpus_of_one", [[0], [0, 2]])
def test_a_restarted_node_keeps_the_replicas_of_lost_gpus_out_of_plans_and_meters_the_others(
    make_node: Callable[[], Node], emulator: Emulator, gpus_of_one: list[int]
) -> None:
    first = make_node()
    first.assign("replica-1", gpus_of_one, (), FRESH)
    first.assign("replica-2", [1], (), FRESH)
    first.apply([SetLimits(f"replica-{i}", 900, 8, "awake") for i in (1, 2)], 1.0)
    read(first, emulator)
    assert [report.controllable for report in reports(first).values()] == [True, True]
    emulator.set_alive(0, False)
    for life in range(2):
        node = make_node()
        node.apply([SetLimits(f"replica-{i}", 1200 + life, 8, "awake") for i in (1, 2)], 2.0 + life)
        read(node, emulator)
        found = reports(node)
        assert [report.controllable for report in found.values()] == [False, True]
        one = found["replica-1"]
        assert (one.draw_w, one.quality) == (None, Quality.ESTIMATED)
        assert found["replica-2"].draw_w is not None
        assert found["replica-2"].clock_mhz >= 1185
    node.close()
