"""The websocket to an energy manager: one connection that comes back by itself."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from steppe.errors import ConfigError
from steppe.grid.s2.control import SiteNow
from steppe.grid.s2.manager import ResourceManager
from steppe.grid.s2.messages import MOST_BYTES

_TEXTS = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
_ENDED = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manager:
    """An energy manager.

    Attributes:
        url: Its websocket, such as `wss://cem.example/s2`.
        token: What is sent as `Authorization: Bearer`; empty for none.
        silent_s: A connection that is silent for this long is asked for a sign of life, s.
        retry_s: Shortest and longest pause between two attempts, s.
        agree_s: Time in which it has to choose a control type, s.
        lost_s: The link is lost after this long without a message, s.
    """

    url: str
    token: str = field(default="", repr=False)
    silent_s: float = 15.0
    retry_s: tuple[float, float] = (1.0, 30.0)
    agree_s: float = 60.0
    lost_s: float = 60.0

    def __post_init__(self) -> None:
        """Check that no other on the network can set limits.

        Raises:
            ConfigError: The URL is not `wss`, and not on this host.
        """
        if not _is_private(self.url):
            raise ConfigError(
                f"S2: asked for a wss URL, or a ws URL on this host, found {self.url}"
            )


class S2Link:
    """Keeps a connection to one energy manager; use it on one event loop.

    Attributes:
        problem: Why there is no connection; empty if there is one.
    """

    def __init__(
        self,
        place: Manager,
        speaks: ResourceManager,
        heard: Callable[[], None],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            place: The energy manager.
            speaks: Its other end.
            heard: Called at each sign of life of an energy manager that controls the site.
            clock: Time, s since the Unix epoch.
            monotonic: Time that is never set, s.
        """
        self.problem = "not connected yet"
        self._place, self._speaks, self._heard, self._clock = place, speaks, heard, clock
        self._monotonic, self._heard_s = monotonic, monotonic()
        self._task: asyncio.Task[None] | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    def start(self) -> None:
        """Connect, and come back whenever the connection is lost."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Close the connection; the limits stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def step(self, site: SiteNow) -> None:
        """Say what is due; call it about once a second."""
        found = self._speaks.due(site, self._clock())
        if self._socket is not None and not self._socket.closed:
            await self._send(self._socket, found)

    async def _serve(self) -> None:
        shortest_s, longest_s = self._place.retry_s
        pause_s = shortest_s
        while True:
            try:
                agreed = await self._session()
                pause_s = shortest_s if agreed else min(longest_s, 2 * pause_s)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._lost(str(error) or type(error).__name__)
                pause_s = min(longest_s, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _session(self) -> bool:
        """Serve one connection to its end; return whether a control type was chosen in it."""
        headers = {"Authorization": f"Bearer {self._place.token}"} if self._place.token else {}
        timeout = aiohttp.ClientTimeout(total=None, connect=10.0)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.ws_connect(
                self._place.url,
                headers=headers,
                heartbeat=self._place.silent_s,
                max_msg_size=MOST_BYTES,
            ) as socket,
        ):
            await self._send(socket, self._speaks.opened())
            self._socket, self.problem = socket, ""
            _log.info("S2: connected to %s", self._place.url)
            try:
                return await self._talk(socket)
            finally:
                self._socket = None

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        ends_s = asyncio.get_running_loop().time() + self._place.agree_s
        agreed = False
        while True:
            agreed = agreed or self._speaks.is_selected
            wait_s = None if agreed else ends_s - asyncio.get_running_loop().time()
            try:
                found = await socket.receive(wait_s)
            except TimeoutError:
                self._lost(f"no control type was chosen within {self._place.agree_s:g} s")
                return False
            if found.type in _TEXTS:
                self._note_loss()
                await self._send(socket, await self._speaks.received(found.data, self._clock()))
                if self._speaks.is_selected:
                    self._heard()
            elif found.type in _ENDED:
                self._lost("the energy manager closed the connection")
                return agreed
            elif found.type is aiohttp.WSMsgType.ERROR:
                self._lost(f"the connection broke: {socket.exception()}")
                return agreed
            if self._speaks.closing:
                self._lost(self._speaks.closing)
                return agreed

    def _note_loss(self) -> None:
        now_s = self._monotonic()
        if now_s - self._heard_s > self._place.lost_s:
            self._speaks.lost(self._clock())
        self._heard_s = now_s

    async def _send(
        self, socket: aiohttp.ClientWebSocketResponse, messages: tuple[str, ...]
    ) -> None:
        for each in messages:
            try:
                await socket.send_str(each)
            except (ConnectionError, aiohttp.ClientError) as error:
                self._lost(f"the connection broke: {error}")
                return

    def _lost(self, why: str) -> None:
        if why != self.problem:
            _log.warning("S2: %s", why)
        self.problem = why


def _is_private(url: str) -> bool:
    """Return whether others on the network can neither read nor change what is sent."""
    parts = urlsplit(url)
    if parts.scheme == "wss":
        return bool(parts.hostname)
    if parts.scheme != "ws" or not parts.hostname:
        return False
    try:
        return parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
