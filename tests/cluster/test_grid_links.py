"""A run hears a DSX broker and an OpenADR server, and lifts nothing when they are lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.fixtures.dsx import ISV, SITE, set_target
from tests.fixtures.mosquitto import Mosquitto, needs_mosquitto
from tests.fixtures.openadr_events import body_of
from tests.fixtures.openadr_vtn import OpenAdrVtn
from tests.fixtures.serving import SOON_S, Serving, wait_until

from steppe.grid.dsx.jws import new_key
from steppe.grid.dsx.load_target import LoadTarget, load_target_content
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import LOAD_TARGET, load_target_topic
from steppe.grid.links.mqtt import Broker, MqttLink
from steppe.grid.openadr.times import text_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), needs_mosquitto]

DEFAULT_W, TARGET_W, LIMIT_W = 80.0, 60.0, 45.0
LOST_S = 8.0
T = TypeVar("T")


class Vtn:
    """An OpenADR server in a thread of its own.

    Attributes:
        server: The server.
    """

    def __init__(self) -> None:
        self.server = OpenAdrVtn()
        self.server.clients["site"] = replace(self.server.clients["site"], secret="site-secret")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.do(self.server.__aenter__())

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(SOON_S)

    def stop(self) -> None:
        self.do(self.server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def vtn() -> Iterator[Vtn]:
    found = Vtn()
    yield found
    found.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    found = Mosquitto(tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def section(tmp_path: Path, vtn: Vtn, broker: Mosquitto) -> dict[str, Any]:
    folder = tmp_path
    files = {"isv.pem": ISV.public_key().pem, "site.pem": SITE.pem, "vtn": "site-secret"}
    for name, text in files.items():
        (folder / name).write_text(text)
    isv = {"id": "acme", "kid": ISV.kid, "public_key_file": str(folder / "isv.pem")}
    return {
        "openadr": {
            "url": vtn.server.url,
            "client_id": "site",
            "secret_file": str(folder / "vtn"),
            "default_w": 500.0,
            "most_w": 5000.0,
            "poll_s": 0.5,
        },
        "dsx": {
            "agent": "steppe",
            "broker": {"host": "127.0.0.1", "port": broker.port},
            "kid": SITE.kid,
            "private_key_file": str(folder / "site.pem"),
            "isvs": [isv],
            "feeds": [{"tag": "A", "maximum_w": 500.0, "default_w": DEFAULT_W}],
            "lost_s": LOST_S,
        },
    }


def wait_for(fleet: Serving, name: str, watts: float) -> None:
    fleet.wait_for_tick(
        lambda tick: tick.budget_source == name and tick.budget_w == watts, f"{name}, {watts} W"
    )


def test_a_run_hears_its_links_and_refuses_what_is_false(
    serve: Callable[..., Serving],
    synthetic: dict[str, Any],
    section: dict[str, Any],
    vtn: Vtn,
    broker: Mosquitto,
) -> None:
    fleet = serve(grid=section, **synthetic)
    fleet.wait_for_words("running")
    wait_for(fleet, "dsx/site", DEFAULT_W)
    isv = MqttLink(Broker("127.0.0.1", broker.port, "isv"), {}, lambda _: None)
    isv.start()
    try:
        wait_until(lambda: isv.is_connected, "the connection of the ISV")
        sent = set_target(LoadTarget(TARGET_W), now_s=time.time())
        isv.publish(sent.topic, sent.payload, sent.qos)
        wait_for(fleet, "dsx/site", TARGET_W)
        forged = seal(
            replace(ISV, pem=new_key("ES256")),
            LOAD_TARGET,
            load_target_content(LoadTarget(500.0)),
            time.time(),
        )
        isv.publish(load_target_topic("acme"), forged.to_bytes(), 1)
        wait_until(lambda: "signature" in str(grid(fleet)["refused"]), "the refusal")
        assert fleet.next_tick().budget_w == TARGET_W
    finally:
        isv.stop()
    hour = {"start": text_of(time.time() // 1 - 60), "duration": "PT1H"}
    limit = body_of("IMPORT_CAPACITY_LIMIT", LIMIT_W / 1e3, intervalPeriod=hour)
    event = vtn.do(vtn.server.post("events", limit))
    wait_for(fleet, f"openadr/{event['id']}/0/IMPORT_CAPACITY_LIMIT", LIMIT_W)
    vtn.do(vtn.server.delete("events", event["id"]))
    wait_for(fleet, "dsx/site", TARGET_W)
    broker.stop()
    wait_for(fleet, "dsx/default", DEFAULT_W)
    assert max(tick.budget_w for tick in fleet.ticks()) <= DEFAULT_W
    assert fleet.end() == 0


def grid(fleet: Serving) -> Any:
    return httpx.get(fleet.url + "/steppe/v1/grid", timeout=SOON_S).json()
