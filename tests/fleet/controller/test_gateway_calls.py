from __future__ import annotations

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.fleet.controller.gateway_calls import GatewayCalls
from steppe.gateway.server import GatewayStatus, ModelStatus


def status(waiting: int, arrived: int, **outstanding: int) -> GatewayStatus:
    counts = ModelStatus(waiting=waiting, arrived=arrived)
    return GatewayStatus.of({"m": counts}, {f"replica-{n[1:]}": c for n, c in outstanding.items()})


@pytest.fixture
def actors(fake_ray: None) -> dict[str, FakeActor]:
    return {
        "one": FakeActor({"status": status(1, 10, r1=4)}),
        "two": FakeActor({"status": status(2, 30, r1=1, r2=3)}),
    }


def test_several_gateways_are_seen_as_one(actors: dict[str, FakeActor]) -> None:
    gateways = GatewayCalls(actors)
    assert (gateways.status, gateways.outstanding) == (None, {})
    gateways.await_status(1.0)
    assert gateways.status is not None
    assert (gateways.status.waiting, gateways.status.arrived) == (3, 40)
    assert gateways.outstanding == {"replica-1": 5, "replica-2": 3}
    gateways.set_routes((), {"m": None})
    gateways.hand_over("replica-1")
    for actor in actors.values():
        assert actor.names() == ["status", "set_routes", "hand_over"]


def test_a_gateway_that_does_not_answer_keeps_its_requests(actors: dict[str, FakeActor]) -> None:
    gateways = GatewayCalls(actors)
    gateways.await_status(1.0)
    actors["one"].answers["status"] = ray.exceptions.RayActorError()
    actors["two"].answers["status"] = status(0, 30)
    gateways.await_status(1.0)
    assert gateways.outstanding == {"replica-1": 4}
