"""The services of a run that its configuration asks for: ledger, grid, other sites, Batch API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from steppe.config import BatchSection, GridSection, LedgerSection, RunConfig, SitesSection
from steppe.errors import UsageError
from steppe.fleet.cluster import LOOPBACK, gateway_machines
from steppe.fleet.driver.booked_request import identities
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.driver.service_host import ServiceHost
from steppe.fleet.grid_actor import GridActor
from steppe.fleet.ledger_actor import LedgerActor
from steppe.fleet.sites_actor import SitesActor
from steppe.models.identity import ModelIdentity

if TYPE_CHECKING:
    from steppe.sites.settlement.own_ledger import LedgerPlaces

LEDGER = "ledger"
"""Name of the ledger in the log and at the gateway."""
STOP_TIMEOUT_S = 10.0
"""Longest wait for a service to stop, s."""


class RunServices:
    """Starts, watches and stops them."""

    def __init__(
        self,
        config: RunConfig,
        lifetime: ActorLifetime,
        secret_headers: tuple[tuple[str, str], ...],
    ) -> None:
        """Keep what to host.

        Args:
            config: The run.
            lifetime: Name of the run, and how long its actors live.
            secret_headers: Headers with the secret of the run.
        """
        self._config, self._lifetime = config, lifetime
        self._secret_headers = secret_headers
        self._hosts: list[ServiceHost] = []

    def start(self, gateway_url: str) -> None:
        """Start them and wait until they listen.

        Args:
            gateway_url: Where the gateway listens.

        Raises:
            UsageError: One cannot run as it is configured.
            ReplicaError: The actor of one does not start.
        """
        for host in self._configured(gateway_url):
            self._hosts.append(host)
            host.start()

    def find(self, gateway_url: str) -> None:
        """Find those of an earlier driver; one that does not answer is looked for later."""
        for host in self._configured(gateway_url):
            self._hosts.append(host)
            host.find()

    def look(self) -> dict[str, str]:
        """Start again what has died; return where each service listens, by name."""
        for host in self._hosts:
            host.look()
        return {host.name: host.url for host in self._hosts if host.url}

    @property
    def actors(self) -> dict[str, Any]:
        """Ray handles of their actors, by name."""
        return {host.name: host.actor for host in self._hosts if host.actor is not None}

    @property
    def ledger(self) -> Any:
        """Ray handle of the ledger's actor; None without one."""
        return self.actors.get(LEDGER)

    def stop(self) -> None:
        """Stop all but the ledger, which takes the books of what ends now.

        Their work goes on when a run starts with the same configuration.
        """
        self._stop(*(host for host in self._hosts if host.name != LEDGER))

    def stop_ledger(self) -> None:
        """Stop the ledger; it publishes what it has taken."""
        self._stop(*(host for host in self._hosts if host.name == LEDGER))

    def _stop(self, *hosts: ServiceHost) -> None:
        for host in hosts:
            host.stop(STOP_TIMEOUT_S)
            self._hosts.remove(host)

    def _configured(self, gateway_url: str) -> list[ServiceHost]:
        """Return the hosts, the ledger first: rows of a batch may come at once."""
        found = []
        if self._config.ledger is not None:
            found.append(self._ledger(self._config.ledger))
        if self._config.grid is not None:
            found.append(self._grid(self._config.grid))
        if self._config.sites is not None:
            found.append(self._sites(self._config.sites, gateway_url))
        if self._config.batch is not None:
            found.append(self._batch(self._config.batch, gateway_url))
        return found

    def _ledger(self, section: LedgerSection) -> ServiceHost:
        from steppe.ledger.service.service import LedgerService  # most runs have none
        from steppe.ledger.service.settings import LedgerSettings

        if section.folder is None:
            raise UsageError("ledger.folder: asked for a folder, or for a record, found neither")
        settings = LedgerSettings(section, section.folder, self._secret_headers, self._host())
        return ServiceHost(LEDGER, self._lifetime, LedgerService, settings, LedgerActor)

    def _grid(self, section: GridSection) -> ServiceHost:
        from steppe.grid.service.service import GridService  # most runs have none
        from steppe.grid.service.settings import GridSettings

        if section.folder is None:
            raise UsageError("grid.folder: asked for a folder, or for a record, found neither")
        settings = GridSettings(
            section,
            section.folder,
            self._lifetime.run_id,
            time.time(),
            self._secret_headers,
            self._host(),
            has_ledger=self._config.ledger is not None,
            ledger_store=self._ledger_store(),
            run=None if section.plan is None else self._config,
        )
        return ServiceHost("grid", self._lifetime, GridService, settings, GridActor)

    def _ledger_store(self) -> str:
        """Return the database of the ledger; empty without one."""
        section = self._config.ledger
        if section is None or section.folder is None:
            return ""
        from steppe.ledger.service.settings import LedgerSettings  # most runs have none

        return LedgerSettings(section, section.folder).store

    def _ledger_places(self) -> LedgerPlaces | None:
        """Return where the ledger is; None without one."""
        section = self._config.ledger
        if section is None or section.folder is None:
            return None
        from steppe.ledger.service.settings import LedgerSettings  # most runs have none
        from steppe.sites.settlement.own_ledger import LedgerPlaces

        settings = LedgerSettings(section, section.folder)
        return LedgerPlaces(settings.store, settings.log, settings.public_key)

    def _sites(self, section: SitesSection, gateway_url: str) -> ServiceHost:
        from steppe.sites.own_view import OwnModel  # most runs have none
        from steppe.sites.service.service import SitesService
        from steppe.sites.service.settings import SitesServiceSettings

        if section.folder is None:
            raise UsageError("sites.folder: asked for a folder, or for a record, found neither")
        known = identities(self._config)
        models = {
            name: OwnModel(_revision(known.get(name, ModelIdentity())), alone.slo.ttft_s)
            for name, alone in self._config.pools.items()
        }
        settings = SitesServiceSettings(
            section,
            section.folder,
            self._lifetime.run_id,
            gateway_url,
            models,
            self._secret_headers,
            self._config.gateway.tls_certificate,
            self._host(),
            has_ledger=self._config.ledger is not None,
            ledger=self._ledger_places(),
        )
        return ServiceHost("sites", self._lifetime, SitesService, settings, SitesActor)

    def _batch(self, section: BatchSection, gateway_url: str) -> ServiceHost:
        from steppe.batch.service.service import BatchService  # most runs have none
        from steppe.batch.service.settings import BatchSettings

        gateway = self._config.gateway
        settings = BatchSettings(
            section,
            gateway_url,
            self._secret_headers,
            gateway.tls_certificate,
            self._host(),
        )
        return ServiceHost("batch", self._lifetime, BatchService, settings)

    def _host(self) -> str:
        """Return an address of this node at which every gateway of the run reaches a service."""
        if self._config.gateway.nodes == "one":
            return LOOPBACK
        return gateway_machines(self._config.fleet.node_labels)[0].address


def _revision(model: ModelIdentity) -> str:
    """Return what other sites see as the revision of a model: by its tokenizer if it has none."""
    if model.revision:
        return model.revision
    return f"tokenizer-{model.tokenizer_sha}" if model.tokenizer_sha else "unknown"
