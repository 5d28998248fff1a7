"""The way to other sites: their receipts and meter records, with a certificate on both sides."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from steppe.sites.settlement import meters_api, receipts_api
from steppe.sites.settlement.answer import PAGE_BYTES
from steppe.sites.settlement.home import NotReadyError
from steppe.sites.settlement.meters import MOST_BYTES
from steppe.sites.trust.tls import SiteTls

_TIMEOUT_S = 30.0
_REFUSED = 404


class SettlementClient:
    """Asks other sites; open and close it on one event loop."""

    def __init__(self, urls: Mapping[str, str], tls: SiteTls) -> None:
        """Keep addresses.

        Args:
            urls: Where each site listens, `https://host:port`.
            tls: The certificate of this site.
        """
        self._urls, self._tls = urls, tls

    async def receipts(self, target: str, query: dict[str, int]) -> bytes:
        """Return the answer of a target to `GET /sites/v1/receipts`.

        Raises:
            NotReadyError: It does not answer, or has not closed the period yet.
        """
        status, body = await self._get(target, receipts_api.PATH, query, PAGE_BYTES)
        if status != 200:
            raise NotReadyError(f"{target}: {_line(status, body)}")
        return body

    async def meters(self, target: str, hour: int) -> bytes | None:
        """Return the answer of a site to `GET /sites/v1/meters`; None if it has no such records.

        Raises:
            NotReadyError: It does not answer.
        """
        status, body = await self._get(target, meters_api.PATH, {"hour": hour}, MOST_BYTES)
        if status == _REFUSED:
            return None
        if status != 200:
            raise NotReadyError(f"{target}: {_line(status, body)}")
        return body

    async def _get(
        self, target: str, path: str, query: Mapping[str, int], most: int
    ) -> tuple[int, bytes]:
        """Return status and body; a connection of its own, for a certificate may be new."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(
                    self._urls[target] + path,
                    params=query,
                    ssl=self._tls.client,
                    server_hostname=target,
                    allow_redirects=False,
                ) as answer,
            ):
                body = await answer.content.read(most + 1)
                while len(body) <= most and (more := await answer.content.read(most + 1)):
                    body += more
                if len(body) > most:
                    raise NotReadyError(f"{target}: asked for at most {most} bytes, found more")
                return answer.status, body
        except (aiohttp.ClientError, OSError) as error:
            raise NotReadyError(f"{target}: {type(error).__name__}: {error}") from error


def _line(status: int, body: bytes) -> str:
    found = " ".join(body.decode(errors="replace").split())
    return f"asked for status 200, found {status}: {found:.200}"
