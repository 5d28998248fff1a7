"""The MQTT notifier of an OpenADR server: where it is, and a link that says that something changed.

Its messages carry no signature and no token. So what they say is not followed: they only make the
client ask the server at once, over HTTPS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from steppe.errors import UsageError
from steppe.grid.openadr.client import VtnError

if TYPE_CHECKING:
    from steppe.grid.links.mqtt import Broker, LinkEvent

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_CLIENT_ID = "{clientID}"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Authentication(_Message):
    """How the broker knows a client."""

    method: str
    username: str | None = None


class MqttBinding(_Message):
    """Where the broker is, and what it asks of a client."""

    URIS: tuple[str, ...] = Field(max_length=100)
    serialization: Literal["JSON"]
    authentication: Authentication


class Notifiers(_Message):
    """`GET /notifiers`."""

    WEBHOOK: bool
    MQTT: MqttBinding | None = None


class OperationTopics(_Message):
    """The topic of each operation."""

    CREATE: str | None = None
    UPDATE: str
    DELETE: str
    ALL: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All topics, each once."""
        if self.ALL is not None:
            return (self.ALL,)
        found = (self.CREATE, self.UPDATE, self.DELETE)
        return tuple(dict.fromkeys(each for each in found if each is not None))


class Topics(_Message):
    """`GET /notifiers/mqtt/topics/...`."""

    topics: OperationTopics


@dataclass(frozen=True, slots=True)
class MqttTerms:
    """How a site uses the notifier.

    Attributes:
        ca: File of the certificates that are trusted; those of the system if None.
    """

    ca: Path | None = None


def broker_of(
    binding: MqttBinding, client_id: str, token: str, name: str, terms: MqttTerms
) -> Broker:
    """Return the first broker of a binding that can be used.

    Args:
        binding: What the server says.
        client_id: Our identity at the server.
        token: Our access token.
        name: Our name at the broker.
        terms: How the site uses it.

    Raises:
        VtnError: It asks for something that is not done here, or the extra `grid` is missing.
    """
    try:  # MQTT is in the extra `grid`
        from steppe.grid.links.mqtt import Broker, BrokerTls
    except ModuleNotFoundError as error:
        asked = "/notifiers: asked for the extra grid (pip install 'steppe[grid]')"
        raise VtnError(f"{asked}, found no {error.name}") from error
    method = binding.authentication.method
    if method not in {"ANONYMOUS", "OAUTH2_BEARER_TOKEN"}:
        wanted = "ANONYMOUS or OAUTH2_BEARER_TOKEN"
        raise VtnError(f"/notifiers: asked for {wanted}, found {method[:40]!r}")
    username = password = None
    if method == "OAUTH2_BEARER_TOKEN":
        said = binding.authentication.username or _CLIENT_ID
        username, password = client_id if said == _CLIENT_ID else said, token
    for uri in binding.URIS:
        parts = urlsplit(uri)
        if parts.scheme not in _PORTS or not parts.hostname:
            continue
        tls = None
        if parts.scheme == "mqtts":
            tls = BrokerTls(terms.ca or Path(ssl.get_default_verify_paths().cafile or ""))
        port = parts.port or _PORTS[parts.scheme]
        return Broker(parts.hostname, port, name, username, password, tls)
    found = ", ".join(binding.URIS)[:200] or "none"
    raise VtnError(f"/notifiers: asked for an mqtt or mqtts URI, found {found}")


class Notices:
    """A link to the broker; `changed` is called, in its thread, at each message.

    Attributes:
        topics: What it listens to.
    """

    def __init__(
        self, broker: Broker, topics: tuple[str, ...], changed: Callable[[], None]
    ) -> None:
        """Prepare.

        Raises:
            VtnError: The broker is on another host without TLS, or its certificates cannot be read.
        """
        from steppe.grid.links.mqtt import Message, MqttLink

        self.topics = topics

        def take(event: LinkEvent) -> None:
            if isinstance(event, Message):
                changed()

        try:
            self._link = MqttLink(broker, dict.fromkeys(topics, 1), take)
        except UsageError as error:
            raise VtnError(f"/notifiers: {error}") from error

    @property
    def is_connected(self) -> bool:
        """Whether the broker would send us a change."""
        return self._link.is_connected

    def start(self) -> None:
        """Connect, and come back whenever the connection is lost."""
        self._link.start()

    def stop(self) -> None:
        """Disconnect. It waits for the thread of the link."""
        self._link.stop()
