"""The services of a run behind the gateway: the Batch API, the ledger, the grid and the sites."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from steppe.gateway.access import AccessControl
from steppe.gateway.admin_api import AdminDoor
from steppe.gateway.batch_api import BatchApi
from steppe.gateway.bodies import Bodies
from steppe.gateway.grid_api import GridApi
from steppe.gateway.ledger.calls import LedgerCalls
from steppe.gateway.ledger.holds import Holds
from steppe.gateway.ledger.ledger_api import LedgerApi
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.run_service import RunService
from steppe.gateway.settings import GatewaySettings
from steppe.gateway.sites_api import SitesApi
from steppe.ledger.tariff import Band

BATCH, LEDGER, GRID, SITES = "batch", "ledger", "grid", "sites"
"""Their names in the news of the driver."""


class RunServices:
    """What the gateway has to do with them.

    Attributes:
        batch_api: The Batch API.
        ledger_api: Receipts and accounts.
        grid_api: Budget, events and flexibility.
        sites: The sites service.
        sites_api: Shows what it knows.
        holds: Asks the ledger about each request; None where requests have no price.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        access: AccessControl,
        bodies: Bodies,
        metrics: GatewayMetrics,
        *,
        door: AdminDoor,
        band: Callable[[], Band],
    ) -> None:
        """Create it.

        Args:
            settings: Those of the gateway.
            access: Charges calls to tenants.
            bodies: Reads bodies.
            metrics: Gets the answers of the ledger.
            door: Lets in who may change limits of the grid.
            band: Returns the band of tariffs that holds now.
        """
        secret = settings.replica_headers
        self._batch, self._ledger = RunService(BATCH, secret), RunService(LEDGER, secret)
        self._grid, self.sites = RunService(GRID, secret), RunService(SITES, secret)
        self.batch_api = BatchApi(settings.uploads, access, bodies, self._batch)
        self.ledger_api = LedgerApi(settings.ledger, access, bodies, self._ledger)
        config = settings.config
        has_grid = config is not None and config.grid is not None
        self.grid_api = GridApi(door, bodies, self._grid, is_configured=has_grid)
        has_sites = config is not None and config.sites is not None
        self.sites_api = SitesApi(door, self.sites, is_configured=has_sites)
        self.holds: Holds | None = None
        self._calls: LedgerCalls | None = None
        if settings.ledger is not None and settings.ledger.asks:
            self._calls = LedgerCalls(self._ledger, settings.ledger.answer_s)
            self.holds = Holds(self._calls, metrics.add_ledger(), band)

    @property
    def parts(self) -> tuple[BatchApi, LedgerApi, GridApi, SitesApi]:
        """Their parts of the HTTP API."""
        return self.batch_api, self.ledger_api, self.grid_api, self.sites_api

    def set_urls(self, urls: Mapping[str, str]) -> None:
        """Set where they listen, by name; those that start are not there."""
        self._batch.url, self._ledger.url = urls.get(BATCH, ""), urls.get(LEDGER, "")
        self._grid.url, self.sites.url = urls.get(GRID, ""), urls.get(SITES, "")

    async def metrics(self) -> bytes:
        """Return their metrics for Prometheus; nothing of one that does not answer."""
        services = (self._batch, self._ledger, self._grid, self.sites)
        return b"".join(await asyncio.gather(*(each.metrics() for each in services)))

    def close(self) -> None:
        """Let no request wait for the ledger any longer, because the gateway stops."""
        if self._calls is not None:
            self._calls.close()

    async def stop(self) -> None:
        """Give back what the ledger still holds for no request, and close all connections."""
        if self._calls is not None:
            await self._calls.stop()
        await self._batch.stop()
        await self._ledger.stop()
        await self._grid.stop()
        await self.sites.stop()
