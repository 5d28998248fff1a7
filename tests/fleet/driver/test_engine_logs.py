from __future__ import annotations

import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.fleet.driver.engine_logs import EngineLogs
from steppe.fleet.engine_log import LogPart
from steppe.fleet.messages import Placement


def test_each_node_is_asked_once_for_what_is_new_in_the_logs_of_its_engines(
    fake_ray: None,
) -> None:
    logs, nodes = EngineLogs(), {"a": FakeActor(), "b": FakeActor()}
    placements = {
        name: Placement(name, FakeActor(), node, nodes[node], [0], ())
        for name, node in (("replica-1", "a"), ("replica-2", "a"), ("replica-3", "b"))
    }
    nodes["a"].answers["engine_logs"] = {
        "replica-1": LogPart(b"one", 3),
        "replica-2": LogPart(b"", 0),
    }
    nodes["b"].answers["engine_logs"] = ray.exceptions.ActorDiedError()
    assert logs.collect(placements) == {"replica-1": b"one"}
    logs.collect(placements)
    assert nodes["a"].args("engine_logs") == [
        ({"replica-1": 0, "replica-2": 0},),
        ({"replica-1": 3, "replica-2": 0},),
    ]
    assert nodes["b"].args("engine_logs") == [({"replica-3": 0},)] * 2
    assert logs.collect({}) == {}
