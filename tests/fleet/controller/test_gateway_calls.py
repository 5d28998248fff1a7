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


def test_what_a_gateway_has_counted_stays_counted_when_it_restarts(
    actors: dict[str, FakeActor],
) -> None:
    gateways = GatewayCalls(actors)
    gateways.await_status(1.0)
    actors["one"].answers["status"] = status(0, 2, r1=1)
    gateways.await_status(1.0)
    assert gateways.status is not None
    assert (gateways.status.arrived, gateways.status.finished) == (42, 10)
    assert gateways.outstanding == {"replica-1": 2, "replica-2": 3}


def test_a_gateway_that_leaves_has_nothing_open_any_more(
    actors: dict[str, FakeActor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = {"three": FakeActor({"status": status(0, 0)})}

    def get_actor(name: str) -> FakeActor:
        if name not in found:
            raise ValueError(f"no actor {name}")
        return found[name]

    monkeypatch.setattr(ray, "get_actor", get_actor)
    gateways = GatewayCalls(actors)
    gateways.await_status(1.0)
    gateways.use(("one", "three", "lost"))
    gateways.await_status(1.0)
    assert gateways.status is not None
    assert (gateways.status.arrived, gateways.status.waiting) == (40, 1)
    assert gateways.outstanding == {"replica-1": 4}
    assert "no actor lost" in caplog.text
