from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.mosquitto import Mosquitto, needs_mosquitto
from tests.fixtures.openadr_events import body_of
from tests.fixtures.openadr_vtn import OpenAdrVtn

from steppe.grid.links.mqtt import Broker, MqttLink
from steppe.grid.openadr.client import VtnError, VtnPlace
from steppe.grid.openadr.notifier import MqttBinding, MqttTerms, broker_of
from steppe.grid.openadr.times import text_of
from steppe.grid.openadr.translation import AgreedTerms
from steppe.grid.openadr.ven import OpenAdrVen, VenSettings


def settings(url: str) -> VenSettings:
    place = VtnPlace(url, "site", "site secret")
    return VenSettings(place, "site-7", AgreedTerms(500e3, 10e6), poll_s=120.0, mqtt=MqttTerms())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


@needs_mosquitto
async def test_a_notice_makes_the_client_ask_at_once(vtn: OpenAdrVtn, tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    broker.start()
    vtn.mqtt_url = f"mqtt://127.0.0.1:{broker.port}"
    program = (await vtn.post("programs", {"programName": "envelope"}))["id"]
    ven = OpenAdrVen(settings(vtn.url))
    grid = MqttLink(Broker("127.0.0.1", broker.port, "vtn"), {}, lambda _: None)
    try:
        grid.start()
        await ven.start()
        await until(lambda: ven._notices is not None and ven._notices.is_connected)
        await until(lambda: grid.is_connected and ven.polls == 1)
        period = {"start": text_of(time.time()), "duration": "PT1H"}
        body = body_of("IMPORT_CAPACITY_LIMIT", 300, programID=program, intervalPeriod=period)
        await vtn.post("events", body)
        # What a notice says is not followed: this one is no event at all.
        grid.publish(f"vens/{vtn.has('vens')[0]['id']}/events/create", b'{"a": 1}', 1)
        await until(lambda: len(ven.events) == 1)
        assert ven.mqtt_notices == 1
        assert ven.polls == 2
        assert ven.mqtt_problem == ""
    finally:
        grid.stop()
        await ven.stop()
        broker.stop()


async def test_without_a_notifier_the_client_polls_and_says_so(vtn: OpenAdrVtn) -> None:
    ven = OpenAdrVen(settings(vtn.url))
    await ven.open()
    assert await ven.poll() == ()
    assert ven.mqtt_problem == "/notifiers: asked for MQTT, found a webhook only"
    assert ven.polls == 1
    await ven.stop()


def binding(uri: str, **authentication: Any) -> MqttBinding:
    found = {"URIS": [uri], "serialization": "JSON", "authentication": authentication}
    return MqttBinding.model_validate_json(json.dumps(found))


def test_the_broker_gets_the_token_of_the_client() -> None:
    said = binding("mqtts://broker.example", method="OAUTH2_BEARER_TOKEN", username="{clientID}")
    found = broker_of(said, "site", "t0ken", "steppe-1", MqttTerms(Path("/ca.pem")))
    assert (found.host, found.port, found.username, found.password) == (
        "broker.example",
        8883,
        "site",
        "t0ken",
    )
    assert found.tls is not None
    assert found.tls.ca == Path("/ca.pem")


@pytest.mark.parametrize(
    ("uri", "method"),
    [
        ("https://broker.example", "ANONYMOUS"),
        ("mqtts://broker.example", "CERTIFICATE"),
        ("mqtts:///", "ANONYMOUS"),
    ],
)
def test_a_broker_that_cannot_be_used_is_named(uri: str, method: str) -> None:
    with pytest.raises(VtnError, match="/notifiers: asked for"):
        broker_of(binding(uri, method=method), "site", "t0ken", "steppe-1", MqttTerms())


async def test_a_broker_in_the_clear_on_another_host_is_not_used(vtn: OpenAdrVtn) -> None:
    vtn.mqtt_url = "mqtt://192.0.2.1:1883"
    ven = OpenAdrVen(settings(vtn.url))
    await ven.open()
    began_s = time.monotonic()
    await ven.poll()
    assert "asked for TLS to another host" in ven.mqtt_problem
    assert time.monotonic() - began_s < 30
    await ven.stop()
