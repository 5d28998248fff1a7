"""MQTT 3.1.1, by paho-mqtt: one connection to a broker that comes back by itself.

TCP_NODELAY is set: with Nagle's algorithm, a small message waits for the acknowledgement of the
one before it, and a signed round trip took 88 ms instead of 0.7 ms.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from steppe.errors import SteppeError, UsageError

_LOG = logging.getLogger(__name__)


class LinkError(SteppeError):
    """A message was not sent: the link is not there, or too many wait."""


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """How the broker is checked, and how it checks us.

    Attributes:
        ca: File of the certificates that are trusted.
        certificate: File of our certificate, for mutual TLS.
        key: File of its private key.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker, and our name there.

    Attributes:
        host: Its host.
        port: Its port.
        client_id: Our name; the broker closes an older connection of the same name.
        username: `oauthtoken` where the password is a token.
        password: The password or token.
        tls: How it is checked; None for plain TCP, which is for a broker on this host only.
        keepalive_s: A broker that is silent for this long is asked for a sign of life, s.
        connect_s: Longest time of an attempt to connect, s.
        retry_s: Shortest and longest pause between two attempts, s.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: BrokerTls | None = None
    keepalive_s: int = 15
    connect_s: float = 5.0
    retry_s: tuple[int, int] = (1, 30)


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is there, and all topics are subscribed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was lost, refused, or a topic was.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived; with quality of service 1 it may arrive more than once.

    Attributes:
        topic: Its topic.
        payload: Its bytes.
    """

    topic: str
    payload: bytes


LinkEvent = Connected | Lost | Message


class MqttLink:
    """A link to a broker. It has a thread of its own, in which `handler` is called."""

    def __init__(
        self,
        broker: Broker,
        topics: dict[str, int],
        handler: Callable[[LinkEvent], None],
        most_waiting: int = 1000,
    ) -> None:
        """Prepare a link; `start` connects it.

        Args:
            broker: The broker.
            topics: Topics to subscribe, with their quality of service.
            handler: Gets each event, in the thread of the link: it must be fast. An error in it is
                logged.
            most_waiting: Most messages that wait for the broker's acknowledgement.

        Raises:
            UsageError: Plain TCP to another host, or a file of TLS cannot be read.
        """
        if broker.tls is None and not _is_local(broker.host):
            raise UsageError(f"broker {broker.host}: asked for TLS to another host, found none")
        self._broker = broker
        self._topics = topics
        self._handler = handler
        self._is_connected = threading.Event()
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=True,  # what was sent while we were away is out of date
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.suppress_exceptions = True  # an error in the handler ends no thread; it is logged
        client.enable_logger(_LOG)
        client.connect_timeout = broker.connect_s
        client.reconnect_delay_set(*broker.retry_s)
        client.max_queued_messages_set(most_waiting)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            _set_tls(client, broker.tls)
        client.on_socket_open = _without_delay
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message

    def start(self) -> None:
        """Begin to connect, and return at once."""
        self._client.connect_async(self._broker.host, self._broker.port, self._broker.keepalive_s)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect, and end the thread. Not to be called by the handler."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there and all topics are subscribed."""
        return self._is_connected.is_set()

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send a message; after a lost connection, one that was not acknowledged is sent again.

        Raises:
            LinkError: The link is not there, or too many messages wait. What a state was is of no
                use later: send the state of then, once the link is there.
        """
        if not self.is_connected:
            raise LinkError(f"{topic}: asked for a link to the broker, found none")
        found = self._client.publish(topic, payload, qos).rc
        if found != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"{topic}: asked for a message to be sent, found {found.name}")

    def _on_connect(
        self, client: Client, _: Any, _flags: ConnectFlags, code: ReasonCode, _p: Properties | None
    ) -> None:
        if code.is_failure:
            self._handler(Lost(f"the broker refused the connection: {code}"))
        elif self._topics:
            wanted: list[tuple[str, int]] = list(self._topics.items())
            client.subscribe(wanted)
        else:
            self._connected()

    def _on_connect_fail(self, _client: Client, _: Any) -> None:
        where = f"{self._broker.host}:{self._broker.port}"
        self._handler(Lost(f"no connection to {where}"))

    def _on_subscribe(
        self, _client: Client, _: Any, _mid: int, codes: list[ReasonCode], _p: Properties | None
    ) -> None:
        refused = [
            topic for topic, code in zip(self._topics, codes, strict=True) if code.is_failure
        ]
        if refused:
            self._handler(Lost(f"the broker refused the topics {', '.join(refused)}"))
        else:
            self._connected()

    def _connected(self) -> None:
        self._is_connected.set()
        self._handler(Connected())

    def _on_disconnect(
        self, _client: Client, _: Any, _f: DisconnectFlags, code: ReasonCode, _p: Properties | None
    ) -> None:
        if self._is_connected.is_set():
            self._is_connected.clear()
            self._handler(Lost(f"the connection ended: {code}"))

    def _on_message(self, _client: Client, _: Any, message: MQTTMessage) -> None:
        self._handler(Message(message.topic, bytes(message.payload)))


def _without_delay(_client: Client, _: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _set_tls(client: Client, tls: BrokerTls) -> None:
    try:
        client.tls_set(
            ca_certs=str(tls.ca),
            certfile=None if tls.certificate is None else str(tls.certificate),
            keyfile=None if tls.key is None else str(tls.key),
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"tls: asked for files of certificates, found {error}") from None


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
