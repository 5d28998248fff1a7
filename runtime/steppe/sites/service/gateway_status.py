"""Asks the gateway of the run for its status, once a period."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import orjson

from steppe.sites.own_view import OwnView
from steppe.sites.service.forward import LocalGateway, open_session
from steppe.sites.service.site import Clocks

PATH = "/steppe/v1/status"
_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)


class OwnViewUpdates:
    """Keeps the own view up to date."""

    def __init__(
        self,
        gateway: LocalGateway,
        own: OwnView,
        period_s: float,
        clocks: Clocks,
    ) -> None:
        """Keep its parts.

        Args:
            gateway: The gateway.
            own: Takes its answers.
            period_s: Time between two calls, s.
            clocks: The clocks of the view and of its forecast.
        """
        self._gateway, self._own, self._period_s = gateway, own, period_s
        self._clocks = clocks
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._problem = ""

    @property
    def is_away(self) -> bool:
        """Whether the gateway did not answer the last call."""
        return bool(self._problem)

    async def start(self) -> None:
        """Ask at once, then once a period.

        Raises:
            UsageError: The certificate of the gateway cannot be read.
        """
        self._session = open_session(self._gateway)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._session is not None:
            await self._session.close()
        self._task = self._session = None

    async def _run(self) -> None:
        while True:
            problem = await self._ask()
            if problem and not self._problem:
                _log.warning("the gateway does not say how this site is: %s", problem)
            self._problem = problem
            await asyncio.sleep(self._period_s)

    async def _ask(self) -> str:
        """Ask once; return why there is no answer, or nothing."""
        assert self._session is not None, "asked before start"
        now_s, epoch_s = self._clocks.monotonic_s(), self._clocks.epoch_s()
        try:
            async with self._session.get(
                self._gateway.url + PATH,
                headers=dict(self._gateway.secret_headers),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            ) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise ValueError(f"asked for status 200, found {answer.status}")
            self._own.take(orjson.loads(body), now_s, epoch_s)
        except (aiohttp.ClientError, OSError, KeyError, TypeError, ValueError) as error:
            self._own.lose()
            return f"{type(error).__name__}: {error}"
        return ""
