"""Sends rows to a gateway over HTTP."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from steppe.batch.row import Claim
from steppe.batch.runner.answer import Failed, Lost, Outcome, RawAnswer, outcome_of
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import UsageError

AVOID = "x-steppe-avoid"
"""Header with the replicas that failed a row, with commas between."""
_CONNECT_S = 10.0
_BOOKS_TRIES = 4
"""How often the energy of a failed attempt is asked for; the meters are read a little later."""


def open_session(settings: RunnerSettings) -> aiohttp.ClientSession:
    """Open a session for the rows of one runner.

    An answer may take an hour without a byte, so that no time limit finds a host that is gone;
    probes of TCP do.
    """
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=15.0,
        socket_factory=_probing_socket,
        ttl_dns_cache=60,
        ssl=_trust(settings.certificate),
    )
    timeout = aiohttp.ClientTimeout(total=settings.row_timeout_s, sock_connect=_CONNECT_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True)


@dataclass(frozen=True, slots=True)
class RowEnergy:
    """The energy of one row.

    Attributes:
        energy_j: Its energy, J.
        source: Where the joules are from; empty if unknown.
        boundary: What they enclose; empty if unknown.
    """

    energy_j: float
    source: str
    boundary: str


NO_ENERGY = RowEnergy(0.0, "", "")


class RowSender:
    """Sends the rows of one job."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: RunnerSettings,
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            session: An open session.
            settings: Where the rows go.
            epoch_s: Returns the time, s since the Unix epoch.
        """
        self._session, self._settings, self._epoch_s = session, settings, epoch_s
        self._prefix = f"row-{secrets.token_hex(6)}"
        self._sent = 0

    async def send(self, claim: Claim) -> Outcome:
        """Send a row and wait for its answer; errors of network and server are values.

        Raises:
            GatewayRefusedError: The gateway would refuse every row.
        """
        self._sent += 1
        id_ = f"{self._prefix}-{claim.row.number}-{self._sent}"
        started_s = self._epoch_s()
        try:
            async with self._session.post(
                self._settings.address(claim.row.endpoint),
                data=claim.row.body,
                headers=self._headers(claim, id_),
            ) as response:
                body = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            return Lost(was_sent=False, reason=_reason(error))
        except TimeoutError:
            reason = f"no answer within {self._settings.row_timeout_s:g} s"
            return Failed(0, "", id_, reason)
        except (aiohttp.ClientError, OSError) as error:
            return Lost(was_sent=True, reason=_reason(error))
        answer = RawAnswer(response.status, response.headers, body, id_, started_s, self._epoch_s())
        return outcome_of(claim, answer)

    async def energy(self, request_id: str) -> RowEnergy:
        """Return the energy of a request that has ended, once the meters have been read."""
        address = self._settings.address(f"/steppe/v1/requests/{request_id}")
        known = NO_ENERGY
        for _ in range(_BOOKS_TRIES):
            await asyncio.sleep(self._settings.retry_pause_s)
            energy = await self._books(address)
            if energy is None:
                return known
            if energy:
                source, boundary = energy.get("source", ""), energy.get("boundary", "")
                known = RowEnergy(float(energy.get("joules") or 0.0), source, boundary)
            if energy.get("final"):
                break
        return known

    async def _books(self, address: str) -> dict[str, Any] | None:
        """Return what the gateway knows of the energy of a request; None if it knows nothing."""
        try:
            async with self._session.get(
                address,
                headers=dict(self._settings.headers),
                timeout=aiohttp.ClientTimeout(total=5.0),
            ) as response:
                found = orjson.loads(await response.read())
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError):
            return None
        if response.status != 200:
            return None
        usage = found.get("usage") if isinstance(found, dict) else None
        if not isinstance(usage, dict) or "energy" not in usage:
            return None
        energy = usage["energy"]
        return energy if isinstance(energy, dict) else {}

    def _headers(self, claim: Claim, id_: str) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "x-steppe-priority": "deferrable",
            "x-steppe-energy": "true",
            "x-request-id": id_,
        }
        if claim.failed_replicas:
            headers[AVOID] = ",".join(claim.failed_replicas)
        return headers | {name.lower(): text for name, text in self._settings.headers}


def _trust(certificate: Path | None) -> ssl.SSLContext | bool:
    """Return what makes a server trusted: this certificate, or those of the system.

    Raises:
        UsageError: The file cannot be read.
    """
    if certificate is None:
        return True
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as error:  # an SSLError is one
        raise UsageError(f"{certificate}: asked for a certificate in PEM: {error}") from error
    context.check_hostname = False  # the certificate is that of a name, and rows go to an address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _probing_socket(address: Any) -> socket.socket:
    """Make a socket that finds within about a minute that its other end is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError(os_error=OSError(strerror=str(reason))):
            return reason
        case _:
            return f"{type(error).__name__}: {error}"
