"""A gateway's side of the places that several gateways divide."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from math import ceil

from steppe.gateway.pools import Pool, Pools
from steppe.gateway.sharing.messages import (
    Coordination,
    GatewayReport,
    GatewayShare,
    ModelTotals,
    ReplicaPlaces,
    UnreachableError,
)

PERIOD_S, URGENT_S, LEAST_S = 0.25, 0.05, 0.01
"""Time between two reports, s: usually, while requests wait here, and at least."""
ALONE_S = 3.0
"""A gateway that has got no share for so long takes its even part, s."""

_log = logging.getLogger(__name__)


class SharedPlaces:
    """Reports what this gateway has, and fills the places that it gets.

    Use it on one event loop; it is not safe from other threads.

    Attributes:
        share: What the coordinator answered last.
        on_coordinator: Gets what distinguishes its start with each answer.
    """

    def __init__(
        self,
        gateway: str,
        coordination: Coordination,
        pools: Pools,
        firm_open: Callable[[str], int],
        now_s: Callable[[], float],
    ) -> None:
        """Begin without places.

        Args:
            gateway: Name of this gateway.
            coordination: The coordinator.
            pools: The pools of this gateway.
            firm_open: Returns how many requests for a model are open that are not deferrable.
            now_s: Reads the monotonic clock, s.
        """
        self._gateway, self._coordination, self._pools = gateway, coordination, pools
        self._firm_open, self._now_s = firm_open, now_s
        self.share = GatewayShare()
        self._shared_s = now_s()
        self._is_alone = False
        self.on_coordinator: Callable[[str], None] = lambda _: None
        self._wake = asyncio.Event()
        for pool in pools:
            pool.gate.on_wait = self.hurry
            pool.gate.share({})

    def others(self, model: str) -> ModelTotals:
        """Return the requests for a model at the other gateways, a moment ago."""
        return self.share.others.get(model, ModelTotals())

    def hurry(self) -> None:
        """Report at once: requests wait, or the routing table has changed."""
        self._wake.set()

    async def run(self, gateways: int) -> None:
        """Report for ever.

        Args:
            gateways: How many gateways there are, before the coordinator has answered.
        """
        while True:
            await self._exchange(gateways)
            self._wake.clear()
            waits = any(pool.gate.waiting for pool in self._pools)
            await asyncio.sleep(LEAST_S)
            try:
                async with asyncio.timeout(URGENT_S if waits else PERIOD_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _exchange(self, gateways: int) -> None:
        try:
            self.share = await self._coordination.exchange(self._report())
        except UnreachableError as error:
            silent_s = self._now_s() - self._shared_s
            if silent_s > ALONE_S:
                self._take_even_part(max(gateways, len(self.share.gateways)), error)
            return
        self._shared_s, self._is_alone = self._now_s(), False
        self._fill(self.share.places)
        self.on_coordinator(self.share.coordinator)

    def _take_even_part(self, gateways: int, error: UnreachableError) -> None:
        if not self._is_alone:
            _log.warning("places are divided evenly among %d gateways: %s", gateways, error)
        self._is_alone = True
        routes = (route for pool in self._pools for route in pool.gate.table.routes)
        self._fill({route.replica: ceil(route.limit / gateways) for route in routes})

    def _fill(self, places: Mapping[str, int]) -> None:
        for pool in self._pools:
            pool.gate.share(places)

    def _report(self) -> GatewayReport:
        replicas: dict[str, ReplicaPlaces] = {}
        for pool in self._pools:
            replicas |= _replicas(pool)
        return GatewayReport(
            self._gateway, replicas, {pool.model.name: self._totals(pool) for pool in self._pools}
        )

    def _totals(self, pool: Pool) -> ModelTotals:
        gate, name = pool.gate, pool.model.name
        outstanding = sum(gate.table.all_outstanding().values())
        return ModelTotals(gate.waiting, gate.deferrable, outstanding, self._firm_open(name))


def _replicas(pool: Pool) -> dict[str, ReplicaPlaces]:
    """Return the replicas of a pool; one that drains has no limit left."""
    table, name = pool.gate.table, pool.model.name
    outstanding = table.all_outstanding()
    limits = {route.replica: route.limit for route in table.routes}
    held = table.held
    return {
        replica: ReplicaPlaces(name, limits.get(replica, 0), count, held.get(replica, 0))
        for replica, count in outstanding.items()
    }
