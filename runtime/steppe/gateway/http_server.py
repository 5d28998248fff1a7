"""Serves the gateway's application over HTTP: its port, its limits, its end."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from steppe.gateway.ports import authority, cannot_listen
from steppe.gateway.settings import GatewaySettings
from steppe.gateway.tls import tls_context
from steppe.services.connections import ConnectionGuard, GuardedSite

STOP_ERROR_S = 1.0
"""Time for a cancelled request to send its error to the client at the stop, s."""
_LINGER_S = 2.0
"""How long the rest of a body is read that is no longer needed, s."""
_MAX_FIELD_BYTES = 64 << 10
"""Largest header, such as a signed token with many claims, bytes."""

_log = logging.getLogger(__name__)
_log.addFilter(lambda record: not _is_bad_request(record))


class HttpServer:
    """An application that listens."""

    def __init__(
        self, application: web.Application, settings: GatewaySettings, guard: ConnectionGuard
    ) -> None:
        """Create it; `start` listens.

        Args:
            application: The application.
            settings: Those of the gateway.
            guard: Guards its connections.
        """
        self._settings, self._guard = settings, guard
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,  # a disconnected client ends its request at once
            access_log=None,
            logger=_log,
            max_field_size=_MAX_FIELD_BYTES,
            keepalive_timeout=settings.http.idle_s,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # bodies pass unchanged, with their Content-Encoding
            shutdown_timeout=settings.stop_timeout_s + STOP_ERROR_S,
        )

    async def start(self) -> str:
        """Listen; return the URL.

        Raises:
            UsageError: It cannot listen there, or the certificate or its key cannot be read.
        """
        await self._runner.setup()
        host, port = self._settings.host, self._settings.port
        tls = tls_context(self._settings.tls_certificate, self._settings.tls_key)
        try:
            site = GuardedSite(
                self._runner,
                (host, port),
                self._guard,
                ssl_context=tls,
                shares_port=self._settings.shares_port,
            )
            await site.start()
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        port = self._runner.addresses[0][1]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"{'http' if tls is None else 'https'}://{authority(reachable, port)}"

    async def refuse_connections(self) -> None:
        """Take no new connection."""
        for site in tuple(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        """End the requests that are still open, and all connections."""
        await self._runner.cleanup()


def _is_bad_request(record: logging.LogRecord) -> bool:
    """Return whether a client sent invalid HTTP: the response says so, no traceback is needed."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
