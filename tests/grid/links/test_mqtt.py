from __future__ import annotations

import queue
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.certificates import Authority
from tests.fixtures.dsx import NOW_S, agent_of, content_of, set_target
from tests.fixtures.mosquitto import Mosquitto, needs_mosquitto
from tests.fixtures.serving import free_port

from steppe.errors import UsageError
from steppe.grid.dsx.agent import Accepted, FlexAgent, Repeated
from steppe.grid.dsx.load_target import LoadTarget
from steppe.grid.dsx.topics import power_state_topic
from steppe.grid.links.mqtt import (
    Broker,
    BrokerTls,
    Connected,
    LinkError,
    LinkEvent,
    Lost,
    Message,
    MqttLink,
)

SOON_S = 20.0


class Peer:
    """A link whose events wait in a queue."""

    def __init__(self, broker: Broker, *topics: str) -> None:
        self.events: queue.Queue[LinkEvent] = queue.Queue()
        self.link = MqttLink(broker, dict.fromkeys(topics, 1), self.events.put)
        self.link.start()

    def next(self, kind: type[LinkEvent]) -> LinkEvent:
        """Return the next event of a kind, and drop those before it."""
        while not isinstance(event := self.events.get(timeout=SOON_S), kind):
            pass
        return event

    def message(self) -> Message:
        event = self.next(Message)
        assert isinstance(event, Message)
        return event


Join = Callable[..., Peer]


@pytest.fixture
def join() -> Iterator[Join]:
    peers: list[Peer] = []

    def joined(port: int, name: str, *topics: str, password: str | None = None) -> Peer:
        user = None if password is None else "oauthtoken"
        peers.append(Peer(Broker("127.0.0.1", port, name, user, password), *topics))
        return peers[-1]

    yield joined
    for each in peers:
        each.link.stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def agent() -> FlexAgent:
    return agent_of(lost_s=0.0)


@needs_mosquitto
def test_a_target_is_answered_by_a_status(
    mosquitto: Mosquitto, agent: FlexAgent, join: Join
) -> None:
    site = join(mosquitto.port, "site", *agent.topics)
    grid = join(mosquitto.port, "grid", power_state_topic("steppe"))
    site.next(Connected)
    grid.next(Connected)
    sent = set_target(LoadTarget(50_000.0))
    grid.link.publish(sent.topic, sent.payload, sent.qos)
    heard = site.message()
    assert isinstance(agent.received(heard.topic, heard.payload, NOW_S), Accepted)
    answer = agent.status({"main-a": 90_000.0}, NOW_S, "target_set")
    site.link.publish(answer.topic, answer.payload, answer.qos)
    envelope, content = content_of(answer)
    assert grid.message() == Message(answer.topic, envelope.to_bytes())
    assert content["feeds"]["main-a"]["event"] == "target_set"


@needs_mosquitto
def test_a_message_that_is_delivered_twice_is_taken_once(
    mosquitto: Mosquitto, agent: FlexAgent, join: Join
) -> None:
    site = join(mosquitto.port, "site", *agent.topics)
    grid = join(mosquitto.port, "grid")
    site.next(Connected)
    grid.next(Connected)
    sent = set_target(LoadTarget(50_000.0))
    for _ in range(2):
        grid.link.publish(sent.topic, sent.payload, sent.qos)
    heard = [site.message(), site.message()]
    answers = [agent.received(each.topic, each.payload, NOW_S) for each in heard]
    assert [type(each) for each in answers] == [Accepted, Repeated]


@needs_mosquitto
def test_after_a_broker_comes_back_the_default_holds_until_the_target_is_repeated(
    mosquitto: Mosquitto, agent: FlexAgent, join: Join
) -> None:
    site = join(mosquitto.port, "site", *agent.topics)
    site.next(Connected)
    sent = set_target(LoadTarget(50_000.0))
    agent.received(sent.topic, sent.payload, NOW_S)
    mosquitto.stop()
    site.next(Lost)
    agent.lost(NOW_S + 1)
    with pytest.raises(LinkError, match="asked for a link to the broker, found none"):
        site.link.publish("a", b"", 1)
    mosquitto.start()
    site.next(Connected)
    agent.connected(NOW_S + 2)
    assert agent.limits(NOW_S + 2)["main-a"].watts == 100_000.0
    grid = join(mosquitto.port, "grid")
    grid.next(Connected)
    again = set_target(LoadTarget(50_000.0), now_s=NOW_S + 3)
    grid.link.publish(again.topic, again.payload, again.qos)
    heard = site.message()
    assert isinstance(agent.received(heard.topic, heard.payload, NOW_S + 3), Accepted)
    assert agent.limits(NOW_S + 3)["main-a"].watts == 50_000.0


@needs_mosquitto
def test_an_error_of_the_handler_does_not_end_the_link(mosquitto: Mosquitto) -> None:
    heard: queue.Queue[LinkEvent] = queue.Queue()

    def handle(event: LinkEvent) -> None:
        heard.put(event)
        raise ValueError("asked for nothing, found an event")

    link = MqttLink(Broker("127.0.0.1", mosquitto.port, "one"), {"a": 1}, handle)
    link.start()
    try:
        assert heard.get(timeout=SOON_S) == Connected()
        for payload in (b"1", b"2"):
            link.publish("a", payload, 1)
            assert heard.get(timeout=SOON_S) == Message("a", payload)
    finally:
        link.stop()


@needs_mosquitto
def test_a_broker_that_refuses_says_so(tmp_path: Path, join: Join) -> None:
    broker = Mosquitto(tmp_path, "allow_anonymous false")
    broker.start()
    try:
        found = join(broker.port, "site", "a", password="wrong").next(Lost)
        assert isinstance(found, Lost)
        assert "the broker refused the connection" in found.reason
    finally:
        broker.stop()


def test_a_broker_that_is_not_there_is_said(join: Join) -> None:
    port = free_port()
    assert join(port, "site").next(Lost) == Lost(f"no connection to 127.0.0.1:{port}")


def test_plain_tcp_is_for_this_host_only() -> None:
    for host in ("broker.example.com", "10.0.0.1"):
        with pytest.raises(UsageError, match="asked for TLS to another host, found none"):
            MqttLink(Broker(host, 1883, "site"), {}, print)


def test_a_certificate_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    broker = Broker("broker.example.com", 8883, "site", tls=BrokerTls(tmp_path / "ca.pem"))
    with pytest.raises(UsageError, match="tls: asked for files of certificates"):
        MqttLink(broker, {}, print)


@needs_mosquitto
def test_both_ends_show_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for name in ("broker", "site"):
        authority.issue(name)
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/broker.pem"]
    lines += [f"keyfile {tmp_path}/broker.key", "require_certificate true"]
    mosquitto = Mosquitto(tmp_path, *lines, "use_identity_as_username true")
    mosquitto.start()
    tls = BrokerTls(tmp_path / "ca.pem", tmp_path / "site.pem", tmp_path / "site.key")
    peer = Peer(Broker("127.0.0.1", mosquitto.port, "site", tls=tls), "a")
    try:
        peer.next(Connected)
        peer.link.publish("a", b"1", 2)
        assert peer.message() == Message("a", b"1")
    finally:
        peer.link.stop()
        mosquitto.stop()


@needs_mosquitto
def test_small_messages_wait_for_no_other(mosquitto: Mosquitto, join: Join) -> None:
    peer = join(mosquitto.port, "site")
    peer.next(Connected)
    connection = peer.link._client.socket()
    assert isinstance(connection, socket.socket)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Broker("h", 1, "c", "oauthtoken", "secret"))
