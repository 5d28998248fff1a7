"""The HTTP door: an OpenAI-compatible streaming gateway over the awake replicas."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from steppe.errors import UsageError
from steppe.gateway.application import Handlers, build_application
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.generation import RequestForwarder
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.proxy import open_session
from steppe.gateway.request_tracker import FinishedRequest, GatewayStatus, RequestTracker
from steppe.gateway.routing import Route

__all__ = [
    "FinishedRequest",
    "Gateway",
    "GatewaySettings",
    "GatewayStatus",
    "Route",
    "refuse_port_in_use",
]

_LAST_WORDS_S = 1.0
"""How long a request that was told to end may take to tell its client so."""
_MAX_FIELD_BYTES = 64 << 10
"""Largest header, a signed token with many claims included."""

_log = logging.getLogger(__name__)
_log.addFilter(lambda record: not _is_bad_request(record))


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the gateway listens and how long it lets requests wait.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        max_waiting: Requests that may wait for a place; of more, the last of the lowest class gets
            a 503.
        max_wait_s: How long a request of any class may wait for a place, s; then it gets a 503.
        ttft_s: The SLO's longest time to the first token, s: who can still keep it goes first.
        models: Names under which the model is served, told when no replica is awake.
        retry_delays_s: Pauses before each further try of a request that a replica failed
            before its first byte, s.
        connect_timeout_s: Longest wait for a replica to take a connection, s.
        stop_timeout_s: How long `stop` lets outstanding requests go on, s.
        max_body_bytes: Largest request body.
    """

    host: str
    port: int
    max_waiting: int
    max_wait_s: float
    ttft_s: float
    models: tuple[str, ...]
    retry_delays_s: tuple[float, ...] = (0.2, 1.0)
    connect_timeout_s: float = 5.0
    stop_timeout_s: float = 5.0
    max_body_bytes: int = 64 << 20


class Gateway:
    """Takes requests, finds each a replica, streams its answer back, and counts.

    Start, use and stop it on one event loop; its methods are not safe from other threads.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._gate = AdmissionGate(settings.max_waiting)
        self._metrics = GatewayMetrics()
        self._door: Handlers | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen.

        Returns:
            The URL at which clients reach the gateway.

        Raises:
            UsageError: It cannot listen there, for instance because the port is in use.
        """
        settings = self._settings
        session = open_session(settings.connect_timeout_s)
        self._door = Handlers(
            gate=self._gate,
            tally=RequestTracker(time.monotonic(), time.time(), self._settings.ttft_s),
            metrics=self._metrics,
            session=session,
            generation=RequestForwarder(
                self._gate, session, settings.max_wait_s, settings.retry_delays_s
            ),
            models=settings.models,
        )
        self._runner = web.AppRunner(
            build_application(self._door, settings.max_body_bytes),
            handler_cancellation=True,  # a client that hangs up ends its request at once
            access_log=None,
            logger=_log,
            max_field_size=_MAX_FIELD_BYTES,
            auto_decompress=False,  # a body passes as it is, with its Content-Encoding
            shutdown_timeout=settings.stop_timeout_s + _LAST_WORDS_S,
        )
        await self._runner.setup()
        try:
            return await self._listen(self._runner)
        except UsageError:
            await self._take_down()
            raise

    async def stop(self) -> None:
        """Refuse those who wait, let outstanding requests go on for a while, then end them.

        Each is told so: a stream by an error event, a whole answer by a 503.
        """
        self._gate.close()
        loop, patience_s = asyncio.get_running_loop(), self._settings.stop_timeout_s
        end = loop.call_later(patience_s, self._gate.clear)
        await self._take_down()
        end.cancel()

    def set_routes(self, routes: tuple[Route, ...], retry_after_s: float | None) -> None:
        """Route to these replicas only, from now on.

        Args:
            routes: The awake replicas.
            retry_after_s: Time until there will be more capacity, s, from the forecast of the
                power budget; nothing when it is not known.
        """
        now_s = time.monotonic()
        capacity_s = None if retry_after_s is None else now_s + retry_after_s
        self._gate.set_routes(routes, capacity_s)

    def set_metrics(self, text: bytes) -> None:
        """Show another Prometheus exposition after our own; it must not repeat our names."""
        self._started.foreign_metrics = text

    def drain_finished(self) -> list[FinishedRequest]:
        """Return the requests that ended since the last call; kept until it is called."""
        return self._started.tally.drain()

    def cut_short(self) -> list[FinishedRequest]:
        """Return the requests without an end as cancelled now; they go on."""
        return self._started.tally.cut_short(time.monotonic())

    def status(self) -> GatewayStatus:
        """Return what a controller wants to know each tick."""
        table = self._gate.table
        gate, outstanding = self._gate, table.all_outstanding()
        return self._started.tally.status(gate.waiting, gate.deferrable, outstanding)

    @property
    def _started(self) -> Handlers:
        assert self._door is not None, "the gateway was not started"
        return self._door

    async def _take_down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._door is not None:
            await self._door.session.close()

    async def _listen(self, runner: web.AppRunner) -> str:
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        port = runner.addresses[0][1]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{_authority(reachable, port)}"


def refuse_port_in_use(host: str, port: int) -> None:
    """Make sure, before anything is started, that a gateway could listen there.

    Raises:
        UsageError: It could not, for instance because the port is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


def _authority(host: str, port: int) -> str:
    """Return host and port as they stand in a URL (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    where = _authority(host, port)
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"gateway.port: {where} is in use already")
    return UsageError(f"gateway: cannot listen on {where}: {error.strerror or error}")


def _is_bad_request(record: logging.LogRecord) -> bool:
    """Tell whether a client sent what is no HTTP: its answer says so, a trace would not help."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
