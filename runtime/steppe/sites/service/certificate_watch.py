"""Loads certificates that were renewed, and knows when the present one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from steppe.errors import UsageError
from steppe.sites.check import certificate_of
from steppe.sites.trust.tls import SiteTls

PERIOD_S = 10.0
"""Time between two looks at the files, s."""

_log = logging.getLogger(__name__)


class CertificateWatch:
    """Looks at the files of a certificate now and then."""

    def __init__(
        self,
        tls: SiteTls,
        certificate: Path,
        renew: Callable[[], Awaitable[None]],
        period_s: float = PERIOD_S,
    ) -> None:
        """Keep its parts.

        Args:
            tls: Loads the files.
            certificate: The certificate, PEM.
            renew: Connects anew to the other sites.
            period_s: Time between two looks, s.
        """
        self._tls, self._certificate = tls, certificate
        self._renew, self._period_s = renew, period_s
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self.end_s = 0.0
        """When the present certificate ends, s since the Unix epoch."""

    async def start(self) -> None:
        """Begin to look.

        Raises:
            UsageError: The certificate cannot be read.
        """
        self.end_s = certificate_of(self._certificate).end_s
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                if self._tls.reload():
                    self.end_s = certificate_of(self._certificate).end_s
                    await self._renew()
                    _log.info("the certificate of this site was renewed")
                self._problem = ""
            except UsageError as error:  # it may be half written
                if str(error) != self._problem:
                    _log.warning("the certificate that was loaded stays in use: %s", error)
                self._problem = str(error)
