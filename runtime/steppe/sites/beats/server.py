"""The door for beats: `POST /sites/v1/heartbeat`, with a certificate of both sides.

The TLS layer refuses a caller without a certificate, of a foreign authority, or whose certificate
has expired. Here the name in the certificate is checked against the list of sites, and its end at
each beat: a connection may live longer than a certificate.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from aiohttp import web

from steppe.sites.beats.exchange import EpochS, Exchange
from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.message import BODY_BYTES
from steppe.sites.beats.peers import StaleBeatError
from steppe.sites.trust.identity import RefusedPeerError, identity_of
from steppe.sites.trust.tls import SiteTls

PATH = "/sites/v1/heartbeat"
_SHUTDOWN_S = 1.0

_log = logging.getLogger(__name__)


class BeatServer:
    """Takes the beats of other sites and answers each with the own one."""

    def __init__(
        self,
        exchange: Exchange,
        sites: Collection[str],
        monotonic_s: Callable[[], float] = time.monotonic,
        epoch_s: EpochS = time.time,
    ) -> None:
        """Keep its parts.

        Args:
            exchange: This site's side.
            sites: The sites that may call.
            monotonic_s: The clock by which beats age.
            epoch_s: The clock by which certificates end.
        """
        self._exchange, self._sites = exchange, sites
        self._monotonic_s, self._epoch_s = monotonic_s, epoch_s
        self._runner: web.AppRunner | None = None
        self.refused = 0
        """Beats that were refused."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_post(PATH, self._take)

    async def start(self, host: str, port: int, tls: SiteTls) -> int:
        """Listen; return the port."""
        application = web.Application(client_max_size=BODY_BYTES)
        self.add_routes(application.router)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls.server).start()
        port_: int = self._runner.addresses[0][1]
        return port_

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        transport = request.transport
        certificate = None if transport is None else transport.get_extra_info("peercert")
        try:
            peer = identity_of(certificate, self._sites, self._epoch_s())
        except RefusedPeerError as error:
            answer = self._refusal(403, str(error))
            answer.force_close()
            return answer
        # The door of a run takes larger bodies of other calls.
        body = await request.clone(client_max_size=BODY_BYTES).read()
        now_s = self._monotonic_s()
        try:
            self._exchange.take(body, peer, now_s)
        except SiteMessageError as error:
            return self._refusal(400, f"{peer}: {error}")
        except StaleBeatError as error:
            return self._refusal(409, str(error))
        return web.Response(
            body=self._exchange.beat_for(peer, now_s), content_type="application/json"
        )

    def _refusal(self, status: int, message: str) -> web.Response:
        self.refused += 1
        _log.warning("beat refused: %s", message)
        return web.Response(text=message + "\n", status=status)
