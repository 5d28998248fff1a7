from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.config import parse_config
from steppe.errors import UsageError
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.run_services import RunServices
from steppe.fleet.driver.service_host import ServiceHost
from steppe.fleet.service_actor import ServiceActor

pytestmark = pytest.mark.usefixtures("fake_ray")


class Ledger:
    """A service that remembers how often it was started."""

    def __init__(self, url: str) -> None:
        self.url, self.starts, self.is_stopped = url, 0, False

    async def start(self) -> str:
        self.starts += 1
        return self.url

    async def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def host() -> ServiceHost:
    host = ServiceHost("ledger", ActorLifetime("1-a"), Ledger, "http://here")
    host.actor = FakeActor({"open": "http://here"})
    return host


def look(host: ServiceHost, times: int = 2) -> str:
    for _ in range(times):
        host.look()
    return host.url


def test_a_service_is_at_the_address_of_its_present_process(host: ServiceHost) -> None:
    assert look(host) == "http://here"
    host.actor.answers["open"] = "http://there"
    assert look(host) == "http://there"


def test_a_service_that_starts_has_no_address(
    host: ServiceHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.actor.answers["open"] = ray.exceptions.RayActorError()
    with caplog.at_level(logging.WARNING):
        assert look(host, 4) == ""
    assert len(caplog.records) == 1
    host.actor.answers["open"] = "http://here"
    assert look(host) == "http://here"


def test_a_call_that_has_not_returned_is_not_repeated(host: ServiceHost) -> None:
    host.actor.ready = False
    assert look(host, 4) == ""
    assert host.actor.names() == ["open"]


def test_a_service_is_closed_and_its_process_ended(host: ServiceHost) -> None:
    actor = host.actor
    host.stop(1.0)
    host.stop(1.0)
    host.look()
    assert actor.names() == ["close", "kill"]
    assert (host.actor, host.url) == (None, "")


@dataclass
class Earlier(ServiceHost):
    """Finds the actor that an earlier driver has made."""

    found: FakeActor

    def __post_init__(self) -> None:
        super().__init__("ledger", ActorLifetime("1-a"), Ledger, "http://here")

    def _create(self) -> FakeActor:
        return self.found


def test_another_driver_goes_on_without_a_service_that_does_not_answer() -> None:
    host = Earlier(FakeActor({"open": ray.exceptions.RayActorError()}))
    host.find()
    assert (host.actor, host.url) == (host.found, "")
    host.found.answers["open"] = "http://here"
    assert look(host) == "http://here"


async def test_the_actor_starts_its_service_once() -> None:
    service = Ledger("http://here")
    actor = ServiceActor(lambda _: service, None)
    await actor.close()
    assert not service.is_stopped
    assert [await actor.open(), await actor.open()] == ["http://here"] * 2
    assert service.starts == 1
    await actor.close()
    assert service.is_stopped


def test_a_run_without_services_has_none(tmp_path: Path) -> None:
    config = parse_config(
        {
            "model": {"name": "m"},
            "device": {"kind": "emulated", "profile": "h100", "count": 1},
            "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
        },
        "test",
        tmp_path,
    )
    services = RunServices(config, ActorLifetime("1-a"), ())
    services.start("http://gateway")
    assert (services.look(), services.actors) == ({}, {})
    services.stop()


def test_the_ledger_is_stopped_after_the_other_services(tmp_path: Path) -> None:
    config = parse_config(
        {
            "model": {"name": "m"},
            "device": {"kind": "emulated", "profile": "h100", "count": 1},
            "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
            "batch": {"folder": "batch"},
            "ledger": {"folder": "ledger"},
        },
        "test",
        tmp_path,
    )
    services = RunServices(config, ActorLifetime("1-a"), ())
    services._hosts = services._configured("http://gateway")
    assert [host.name for host in services._hosts] == ["ledger", "batch"]
    for host in services._hosts:
        host.actor = FakeActor()
    services.stop()
    assert services.ledger is not None
    services.stop_ledger()
    assert (services.ledger, services.actors) == (None, {})


def test_a_ledger_without_a_folder_is_refused(tmp_path: Path) -> None:
    config = parse_config(
        {
            "model": {"name": "m"},
            "device": {"kind": "emulated", "profile": "h100", "count": 1},
            "power": {"supply": [{"kind": "constant", "watts": 500.0}]},
            "ledger": {},
        },
        "test",
        tmp_path,
    )
    with pytest.raises(UsageError, match=r"^ledger.folder: asked for a folder"):
        RunServices(config, ActorLifetime("1-a"), ()).start("http://gateway")
