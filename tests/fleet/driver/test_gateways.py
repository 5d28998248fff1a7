from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

import steppe.fleet.driver.gateways as gateways_module
from steppe.config import parse_config
from steppe.errors import UsageError
from steppe.fleet.cluster import Machine
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.gateways import Gateways, part_of
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.gateway.server import (
    GatewayModel,
    GatewayNews,
    GatewaySettings,
    HttpLimits,
    RequestEnergy,
    hold_port,
)


@dataclass
class Cluster:
    """Ray as far as gateways use it: its nodes, and the actors that were created."""

    machines: list[Machine]
    made: dict[str, FakeActor] = field(default_factory=dict)
    settings: dict[str, GatewaySettings] = field(default_factory=dict)
    refusal: Exception | None = None

    def create(self, cls: type, options: dict[str, Any], args: tuple[Any, ...]) -> FakeActor:
        if self.refusal is not None:
            raise self.refusal
        answers = {"open": "http://10.0.0.1:8000", "tell": GatewayNews()}
        actor = self.made[options["name"]] = FakeActor(answers)
        if args:
            self.settings[options["name"]] = args[0]
        return actor


@pytest.fixture
def cluster(fake_ray: None, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster([Machine("n1", "10.0.0.1", 1), Machine("n2", "10.0.0.2", 1)])

    def remote(cls: type) -> Any:
        def options(**options: Any) -> Any:
            return SimpleNamespace(remote=lambda *args: made.create(cls, options, args))

        return SimpleNamespace(options=options)

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(gateways_module, "local_node_id", lambda: "n1")
    monkeypatch.setattr(gateways_module, "on_node", lambda node: node)
    monkeypatch.setattr(gateways_module, "gateway_machines", lambda _: made.machines)
    return made


@pytest.fixture
def opened() -> Iterator[list[Gateways]]:
    """What a test has opened; it is closed when the test ends."""
    found: list[Gateways] = []
    yield found
    for each in found:
        each.close()


def gateways(**section: Any) -> Gateways:
    values: dict[str, Any] = {
        "model": {"name": "tiny"},
        "device": {"kind": "emulated", "profile": "h100", "count": 1},
        "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        "gateway": {"allow_without_keys": True, **section},
    }
    return Gateways(parse_config(values, "test", Path("/runs")), ActorLifetime("run"))


def changer(of: Gateways) -> ConfigChanger:
    return ConfigChanger(of._config, lambda _: None)


def test_a_run_has_one_gateway_and_no_coordinator(cluster: Cluster) -> None:
    made = gateways(port=0)
    assert made.open(()) == "http://10.0.0.1:8000"
    assert made.names == ("steppe-gateway-run",)
    assert list(cluster.made) == list(made.names)
    assert (cluster.settings[made.names[0]].name, made.follow()) == ("", False)


def test_processes_share_a_port_that_stays_taken(cluster: Cluster, opened: list[Gateways]) -> None:
    made = gateways(port=0, processes=3)
    opened.append(made)
    made.open(())
    assert made.names == tuple(f"steppe-gateway-run-{number}" for number in range(3))
    assert {s.name for s in cluster.settings.values()} == {"0", "1", "2"}
    (port,) = {s.port for s in cluster.settings.values()}
    assert all(s.shares_port and s.gateways == 3 for s in cluster.settings.values())
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    assert len(made.watched) == 4, "the coordinator is watched, too"


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("127.0.0.1", ["10.0.0.1", "10.0.0.2"]), ("0.0.0.0", ["0.0.0.0", "0.0.0.0"])],
)
def test_each_node_has_gateways_on_its_address(
    cluster: Cluster, host: str, addresses: list[str]
) -> None:
    made = gateways(nodes="every", host=host, processes=2)
    made.open(())
    shown = [(s.name, s.host) for s in cluster.settings.values()]
    assert shown == [
        (f"{node}-{number}", address)
        for node, address in zip(("10.0.0.1", "10.0.0.2"), addresses, strict=True)
        for number in (0, 1)
    ]


def test_a_new_node_gets_a_gateway_that_is_told_all_usage(cluster: Cluster) -> None:
    made = gateways(nodes="every")
    made.open(())
    made.begin(0.0, changer(made))
    assert not made.follow()
    cluster.machines.append(Machine("n3", "10.0.0.3", 1))
    assert made.follow()
    assert made.names[-1] == "steppe-gateway-run-10.0.0.3"
    made.tell((), (), (), {})
    assert "tell" in cluster.made["steppe-gateway-run-10.0.0.3"].names()


def test_the_gateway_of_a_lost_node_is_forgotten(cluster: Cluster) -> None:
    made = gateways(nodes="every")
    made.open(())
    made.begin(0.0, changer(made))
    del cluster.machines[1]
    assert made.follow()
    assert made.names == ("steppe-gateway-run-10.0.0.1",)
    assert cluster.made["steppe-gateway-run-10.0.0.2"].names()[-1] == "kill"


def test_a_gateway_that_cannot_listen_on_a_new_node_is_tried_again_after_a_pause(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, starts = [100.0], []
    monkeypatch.setattr(gateways_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    made = gateways(nodes="every")
    made.open(())
    cluster.machines.append(Machine("n3", "10.0.0.3", 1))
    first = made._start

    def failing(place: Any) -> Any:
        starts.append(now_s[0])
        return _failing(first(place))

    made._start = failing  # type: ignore[method-assign]
    for now_s[0] in (100.0, 100.5, 101.0, 102.0, 102.5, 103.0):
        assert not made.follow()
    assert starts == [100.0, 101.0, 103.0]
    made._start = first  # type: ignore[method-assign]
    now_s[0] = 107.0
    assert made.follow()


@pytest.mark.parametrize("error", [ValueError("the name is taken"), ray.exceptions.RayError()])
def test_an_actor_that_cannot_be_made_is_a_warning_and_is_tried_again(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(gateways_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    made = gateways(nodes="every")
    made.open(())
    cluster.machines.append(Machine("n3", "10.0.0.3", 1))
    cluster.refusal = error
    assert not made.follow()
    assert not made.follow()
    assert caplog.text.count("asked for an actor") == 1
    cluster.refusal, now_s[0] = None, 101.0
    assert made.follow()


def _failing(started: tuple[Any, Any]) -> tuple[Any, Any]:
    started[1].answer = ray.exceptions.RayActorError()
    return started


def test_energy_goes_to_the_gateway_that_had_the_request(
    cluster: Cluster, opened: list[Gateways]
) -> None:
    made = gateways(port=0, processes=2)
    opened.append(made)
    made.open(())
    made.begin(0.0, changer(made))
    made.tell((), (RequestEnergy("a", 1.0, "counter", "gpu", False, gateway="1"),), (), {})
    told = {name: actor.args("tell")[0][0].energies for name, actor in _doors(cluster)}
    assert [len(energies) for energies in told.values()] == [0, 1]


def _doors(cluster: Cluster) -> Iterator[tuple[str, FakeActor]]:
    return ((n, actor) for n, actor in cluster.made.items() if n in cluster.settings)


def test_another_driver_goes_on_with_the_same_gateways(
    cluster: Cluster, opened: list[Gateways]
) -> None:
    made = gateways(port=0, processes=2)
    opened.append(made)
    made.open(())
    made.begin(0.0, changer(made))
    state = made.state()
    assert made._held is not None
    made._held.close()
    other = gateways(port=0, processes=2)
    opened.append(other)
    other.go_on(state, changer(other))
    assert (other.names, other.every()) == (made.names, made.every())
    assert len(cluster.made) == 3
    other.tell((), (), (), {})
    assert other._held is not None
    assert other._held.getsockname()[1] == state.settings.port


def test_what_a_machine_may_hold_is_divided_among_its_processes() -> None:
    limits = HttpLimits(connections=1000, connections_per_client=100, bodies_bytes=400 << 20)
    whole = GatewaySettings("h", 1, 100, 1.0, (GatewayModel("m", 1.0),), http=limits)
    part = part_of(whole, "0", processes=4, nodes=2)
    assert (part.http.connections, part.http.connections_per_client) == (250, 25)
    assert (part.http.bodies_bytes, part.max_waiting, part.gateways) == (100 << 20, 13, 8)


def test_a_port_that_another_program_uses_is_not_shared() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^gateway.port: 127.0.0.1:{port} is in use already"):
            hold_port("127.0.0.1", port)
