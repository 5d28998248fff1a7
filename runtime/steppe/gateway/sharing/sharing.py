"""One of several gateways: what it shares with the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from prometheus_client import Metric

from steppe.gateway.ended_requests import EndedRequest
from steppe.gateway.pools import Pools
from steppe.gateway.sharing.exposition import of_all
from steppe.gateway.sharing.messages import Coordination, ModelTotals, UnreachableError
from steppe.gateway.sharing.shared_limits import SharedLimits
from steppe.gateway.sharing.shared_places import SharedPlaces
from steppe.tenants.limiter import TenantLimiter

Answer = TypeVar("Answer")


class OtherGateways(Protocol):
    """The other gateways of the run; each call raises UnreachableError if one does not answer."""

    async def metrics(self, gateway: str) -> list[Metric]:
        """Return the metrics of a gateway."""
        ...

    async def find(self, gateway: str, request: str) -> EndedRequest | None:
        """Return a request that ended lately at a gateway, by its id."""
        ...

    async def withdraw(self, gateway: str, work: str) -> bool:
        """Forget a job that was declared at a gateway, by its key; return whether it was."""
        ...


class Sharing:
    """Shares places, limits and answers with other gateways; use it on one event loop.

    Attributes:
        name: Name of this gateway.
        limits: The limits of tenants.
        places: The places of replicas.
    """

    def __init__(
        self,
        name: str,
        gateways: int,
        coordination: Coordination,
        others: OtherGateways,
        *,
        pools: Pools,
        limiter: TenantLimiter,
        firm_open: Callable[[str], int],
        now_s: Callable[[], float],
    ) -> None:
        """Begin without a share.

        Args:
            name: Name of this gateway.
            gateways: How many gateways there are at first.
            coordination: The coordinator.
            others: The other gateways.
            pools: The pools of this gateway.
            limiter: Counts what the requests of this gateway take.
            firm_open: Returns how many requests for a model are open that are not deferrable.
            now_s: Reads the monotonic clock, s.
        """
        self.name, self._gateways, self._others = name, gateways, others
        self.places = SharedPlaces(name, coordination, pools, firm_open, now_s)
        self.limits = SharedLimits(name, coordination, limiter, now_s, gateways)
        self.places.on_coordinator = self.limits.meet
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        """Begin to share."""
        runs = self.places.run(self._gateways), self.limits.run()
        self._tasks = tuple(asyncio.create_task(run) for run in runs)

    async def stop(self) -> None:
        """Share no more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def of_others(self, model: str) -> ModelTotals:
        """Return the requests for a model at the other gateways, a moment ago."""
        return self.places.others(model)

    async def exposition(self, own: Iterable[Metric]) -> bytes:
        """Return the metrics of all gateways, each with a label `gateway`."""
        found: dict[str, Iterable[Metric] | None] = {self.name: own}
        found |= dict(await self._ask_all(self._others.metrics))
        return of_all(dict(sorted(found.items())))

    async def find(self, request: str) -> EndedRequest | None:
        """Return the newest request with an id that ended lately at another gateway."""
        answers = await self._ask_all(lambda gateway: self._others.find(gateway, request))
        ended = [answer for _, answer in answers if answer is not None]
        return max(ended, key=lambda each: each.request.arrival_epoch_s, default=None)

    async def withdraw(self, work: str) -> bool:
        """Forget a job at the other gateways; return whether one knew it."""
        answers = await self._ask_all(lambda gateway: self._others.withdraw(gateway, work))
        return any(answer for _, answer in answers)

    async def _ask_all(
        self, ask: Callable[[str], Awaitable[Answer]]
    ) -> list[tuple[str, Answer | None]]:
        """Ask all others at once; None for one that does not answer."""

        async def ask_one(gateway: str) -> tuple[str, Answer | None]:
            try:
                return gateway, await ask(gateway)
            except UnreachableError:
                return gateway, None

        others = [name for name in self.places.share.gateways if name != self.name]
        return await asyncio.gather(*map(ask_one, others))
