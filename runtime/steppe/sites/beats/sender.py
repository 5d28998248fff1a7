"""Sends the beats of a site: one exchange per pair of sites and period, over a kept connection.

One site of each pair begins, as a hash of both names has it; the answer carries the other's beat.
If the other one has not been heard for a while, both begin: its way to us may be cut, not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from steppe.sites.beats.exchange import Exchange
from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.message import BODY_BYTES
from steppe.sites.beats.peers import StaleBeatError
from steppe.sites.beats.server import PATH
from steppe.sites.trust.tls import SiteTls

JITTER = 0.1
"""A period is longer or shorter by up to this share, so that sites do not beat in step."""
_QUIET_PERIODS = 2.5
"""Age of the last beat from which both sites of a pair begin, periods."""
_LEAST_TIMEOUT_S, _TIMEOUT_PERIODS = 5.0, 3.0
"""An exchange may take so long. Much more than a period: hosts that start together are busy with
many handshakes, and giving those up early would only add more."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a site listens for beats.

    Attributes:
        site: Its name, also that of its certificate.
        url: `https://host:port`; the host need not be in the certificate.
    """

    site: str
    url: str


def begins(site: str, peer: str) -> bool:
    """Return whether a site begins the exchanges with another one; of a pair one does."""
    low, high = sorted((site, peer))
    first = low if zlib.crc32(f"{low} {high}".encode()) & 1 else high
    return site == first


class Sender:
    """Beats to each other site until it is stopped."""

    def __init__(
        self,
        exchange: Exchange,
        addresses: Sequence[PeerAddress],
        tls: SiteTls,
        *,
        period_s: float,
        rng: random.Random,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep its parts.

        Args:
            exchange: This site's side.
            addresses: The other sites.
            tls: Its certificate.
            period_s: Time between two beats, s.
            rng: Chance of phase and jitter.
            monotonic_s: The clock by which beats age.
        """
        self._exchange, self._addresses, self._tls = exchange, addresses, tls
        self._period_s, self._rng, self._monotonic_s = period_s, rng, monotonic_s
        self._failing: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._start_s = monotonic_s()
        self.sent = 0
        """Exchanges that were begun."""

    async def start(self) -> None:
        """Begin to beat."""
        self._session = self._new_session()
        self._tasks = [asyncio.create_task(self._beat(each)) for each in self._addresses]

    async def stop(self) -> None:
        """Beat no more."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._session is not None:
            await self._session.close()

    async def renew(self) -> None:
        """Connect anew, after a new certificate was loaded; exchanges under way are repeated."""
        before, self._session = self._session, self._new_session()
        if before is not None:
            await before.close()

    async def exchange_with(self, address: PeerAddress) -> bool:
        """Exchange beats with a site once; return whether it went well."""
        now_s = self._monotonic_s()
        self.sent += 1
        try:
            answer = await self._post(address, self._exchange.beat_for(address.site, now_s))
            self._exchange.peers.note_rtt(address.site, self._monotonic_s() - now_s)
            self._exchange.take(answer, address.site, self._monotonic_s())
        except (aiohttp.ClientError, OSError, SiteMessageError, StaleBeatError) as error:
            reason = f"{type(error).__name__}: {error}"
            if self._failing.get(address.site) is None:
                _log.warning("%s: no beat: %s", address.site, reason)
            self._failing[address.site] = reason
            return False
        if self._failing.pop(address.site, None) is not None:
            _log.info("%s: beats again", address.site)
        return True

    def failures(self) -> dict[str, str]:
        """Return why the last exchange with each site failed, for those with which it did."""
        return dict(self._failing)

    async def _beat(self, address: PeerAddress) -> None:
        await asyncio.sleep(self._rng.random() * self._period_s)
        is_first = begins(self._exchange.site, address.site)
        while True:
            if is_first or self._is_quiet(address.site):
                await self.exchange_with(address)
            jitter = 1 + JITTER * (2 * self._rng.random() - 1)
            await asyncio.sleep(self._period_s * jitter)

    def _is_quiet(self, site: str) -> bool:
        now_s = self._monotonic_s()
        age_s = self._exchange.peers.age_s(site, now_s)
        quiet_s = now_s - self._start_s if age_s is None else age_s
        return quiet_s > _QUIET_PERIODS * self._period_s

    async def _post(self, address: PeerAddress, beat: bytes) -> bytes:
        """Return the answer to a beat.

        Raises:
            ClientError: The site does not answer, refuses, or has a wrong certificate.
            OSError: So does its host, or it took too long.
            MessageError: The answer is too long.
        """
        assert self._session is not None, "exchange before start"
        async with self._session.post(
            f"{address.url}{PATH}",
            data=beat,
            headers={"Content-Type": "application/json"},
            ssl=self._tls.client,
            server_hostname=address.site,
            allow_redirects=False,
        ) as answer:
            length = answer.content_length
            if length is None or length > BODY_BYTES:
                raise SiteMessageError(
                    f"answer: asked for at most {BODY_BYTES} bytes, found {length}"
                )
            body = await answer.read()
            if answer.status != 200:
                found = body.decode(errors="replace").strip()
                raise SiteMessageError(f"asked for status 200, found {answer.status}: {found:.120}")
            return body

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10 * self._period_s + 5),
            timeout=aiohttp.ClientTimeout(
                total=max(_LEAST_TIMEOUT_S, _TIMEOUT_PERIODS * self._period_s)
            ),
            auto_decompress=False,
        )
