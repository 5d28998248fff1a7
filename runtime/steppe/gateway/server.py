"""The gateway: an OpenAI-compatible streaming HTTP server in front of the awake replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client import Metric

from steppe.control.placing import PROMPT_WAIT_SHARE
from steppe.errors import UsageError
from steppe.gateway.access import AccessControl, AccessSettings
from steppe.gateway.access_log import AccessLog, AccessLogSettings
from steppe.gateway.admin_api import AdminApi, AdminDoor
from steppe.gateway.application import Handlers, build_application
from steppe.gateway.availability import Availability
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.bodies import Bodies
from steppe.gateway.config_changes import ChangeResult, ConfigChange, ConfigChanges
from steppe.gateway.driver_news import DriverNews, GatewayNews
from steppe.gateway.ended_requests import EndedRequest, RequestEnergy
from steppe.gateway.energy_answer import EnergyAnswers
from steppe.gateway.fleet_state import FleetState
from steppe.gateway.gate import AdmissionGate
from steppe.gateway.generation import Generation
from steppe.gateway.http_server import STOP_ERROR_S, HttpServer
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.metrics import GatewayMetrics
from steppe.gateway.model_list import ModelList
from steppe.gateway.new_forwarder import new_forwarder
from steppe.gateway.openapi import OpenApi
from steppe.gateway.page_api import NoPage, PageApi
from steppe.gateway.pools import Pool, Pools
from steppe.gateway.ports import hold_port, refuse_port_in_use
from steppe.gateway.public_paths import needs_no_key
from steppe.gateway.recent_times import WINDOW_S
from steppe.gateway.replica_client import open_session
from steppe.gateway.request import FinishedRequest, SettledRequest
from steppe.gateway.request_energy import EnergyBook
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.routing import Route
from steppe.gateway.run_services import SITES, RunServices
from steppe.gateway.served_model import GatewayAlias, GatewayModel
from steppe.gateway.settings import GatewaySettings
from steppe.gateway.sharing.messages import Coordination
from steppe.gateway.sharing.sharing import OtherGateways, Sharing
from steppe.gateway.sites.other_sites import OtherSites, sites_of
from steppe.gateway.status import GatewayStatus, ModelStatus
from steppe.gateway.steppe_api import SteppeApi
from steppe.gateway.traces import traces_of
from steppe.gateway.usage import UsageTable
from steppe.gateway.work_api import WorkApi
from steppe.ledger.green.band import band_of
from steppe.ledger.tariff import Band
from steppe.services.connections import (
    ConnectionGuard,
    HttpLimits,
)
from steppe.sites.peer import RouterService

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from steppe.gateway.tracing import RequestTraces

__all__ = [
    "AccessLogSettings",
    "AccessSettings",
    "ChangeResult",
    "ConfigChange",
    "DriverNews",
    "FinishedRequest",
    "Gateway",
    "GatewayAlias",
    "GatewayModel",
    "GatewayNews",
    "GatewaySettings",
    "GatewayStatus",
    "HttpLimits",
    "LedgerLink",
    "ModelStatus",
    "RequestEnergy",
    "Route",
    "SettledRequest",
    "UploadLimits",
    "hold_port",
    "refuse_port_in_use",
]

_GRACE_SHARE, _DRAIN_POLL_S = 0.1, 0.01
"""How long a stop waits for the next request of clients that keep their connection, share of its
time limit, so that they get an answer and not a closed connection; and how often it looks, s."""


class Gateway:
    """Admits requests, routes each to a replica, streams its response back, and counts.

    Start, use and stop it on one event loop; its methods are not safe from other threads.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        now_s: Callable[[], float] = time.monotonic,
        traces: RequestTraces | None = None,
        router: RouterService | None = None,
    ) -> None:
        """Create a gateway that does not listen yet.

        Args:
            settings: How it listens.
            now_s: Reads the monotonic clock, s.
            traces: Gets the traces of requests, in place of those of the settings.
            router: Chooses the sites of requests, in place of that of the settings.
        """
        self._traces = traces
        self._access_log: AccessLog | None = None
        self._settings = settings
        self._now_s = now_s
        pools = (Pool(model, self._new_gate(model)) for model in settings.models)
        self._pools = Pools(pools, settings.aliases)
        self._metrics, self._energy = GatewayMetrics(), EnergyBook()
        self._access = AccessControl(
            settings.access, now_s, on_denied=self._metrics.deny, is_public=needs_no_key
        )
        self._guard, self._bodies = self._new_guard(), self._new_bodies()
        self._metrics.watch(lambda: len(self._guard), lambda: self._bodies.reserved)
        self._usage, self._fleet_state = UsageTable(), FleetState()
        self._steppe_api = SteppeApi(
            self._energy,
            self._usage,
            self._fleet_state,
            self._pools,
            self._access,
            now_s=now_s,
        )
        self._sharing: Sharing | None = None
        self._changes = ConfigChanges(settings.config)
        door = AdminDoor(settings.admin_key, is_open=settings.access.is_open)
        self._work = WorkApi(
            self._fleet_state, self._pools, self._access, self._firm_open, now_s=now_s
        )
        self._services = RunServices(
            settings,
            self._access,
            self._bodies,
            self._metrics,
            door=door,
            band=self._band,
        )
        admin = AdminApi(door, self._changes)
        self._page = self._new_page(door) if settings.page else None
        own = (self._steppe_api, admin, OpenApi(), self._work, self._page or NoPage())
        self._parts = (*own, *self._services.parts)
        self._router = router
        self._sites: OtherSites | None = None
        self._handlers: Handlers | None = None
        self._server: HttpServer | None = None

    def share(self, coordination: Coordination, others: OtherGateways) -> None:
        """Share places, limits and answers with other gateways; call it before `start`."""
        sharing = Sharing(
            self._settings.name,
            self._settings.gateways,
            coordination,
            others,
            pools=self._pools,
            limiter=self._access.limiter,
            firm_open=self._own_firm_open,
            now_s=self._now_s,
        )
        self._sharing = self._steppe_api.sharing = sharing
        self._access.share(sharing.limits)
        self._work.on_withdraw = sharing.withdraw

    async def start(self) -> str:
        """Listen.

        Returns:
            The URL at which clients reach the gateway.

        Raises:
            UsageError: It cannot listen there, for instance because the port is in use; or the
                store of tenants, a certificate or its key cannot be read.
        """
        settings = self._settings
        self._sites = sites_of(settings, self._router, self._now_s, self._access.tenant)
        await self._access.start()
        self._traces = self._traces or traces_of(settings)
        self._access_log = AccessLog(settings.access_log)
        session = open_session(settings.connect_timeout_s, settings.replica_headers)
        if self._sites is not None:
            await self._sites.start()
        self._handlers = self._new_handlers(session)
        self._steppe_api.counts = self._handlers.tracker.counts
        self._services.ledger_api.find_open = self._handlers.tracker.get
        self._services.ledger_api.find_ended = self._steppe_api.find
        if self._sharing is not None:
            self._sharing.start()
        application = build_application(self._handlers, settings.max_body_bytes, self._parts)
        self._access_log.install(application)
        self._guard.install(application)
        self._server = HttpServer(application, settings, self._guard)
        try:
            return await self._server.start()
        except UsageError:
            await self._clean_up()
            raise

    async def stop(self) -> None:
        """Refuse waiting requests, let outstanding ones go on for a while, then cancel them.

        A cancelled stream ends with an error event, another response is a 503. Until then, the
        requests of clients that keep their connection get a 503 and `Connection: close`.
        """
        self._guard.is_stopping = True
        self._pools.close()
        if self._page is not None:
            self._page.close()
        if self._sites is not None:
            self._sites.close()
        loop, timeout_s = asyncio.get_running_loop(), self._settings.stop_timeout_s
        timer = loop.call_later(timeout_s, self._cancel_all)
        await self._drain(timeout_s)
        await self._clean_up()
        timer.cancel()

    def _cancel_all(self) -> None:
        self._pools.cancel_all()
        if self._sites is not None:
            self._sites.cancel_all()
        self._services.close()

    async def _drain(self, timeout_s: float) -> None:
        """Take no new connection, and wait until no request is open, and a little longer."""
        if self._server is None or self._handlers is None:
            return
        await self._server.refuse_connections()
        began_s = time.monotonic()
        grace_s = _GRACE_SHARE * timeout_s if len(self._guard) else 0.0
        while time.monotonic() < began_s + timeout_s + STOP_ERROR_S:
            is_idle = self._handlers.tracker.is_idle
            if is_idle and time.monotonic() >= began_s + grace_s:
                return
            await asyncio.sleep(_DRAIN_POLL_S)

    def set_routes(
        self, routes: tuple[Route, ...], retry_after_s: Mapping[str, float | None] | float | None
    ) -> None:
        """Replace the routing tables of all models.

        Args:
            routes: The awake replicas; a route names its model unless there is only one.
            retry_after_s: Time until more capacity is forecast for each model, s; None, or no
                entry, if unknown. A number holds for all models.
        """
        if not isinstance(retry_after_s, Mapping):
            retry_after_s = {pool.model.name: retry_after_s for pool in self._pools}
        now_s = self._now_s()
        capacity_s = {
            name: None if in_s is None else now_s + in_s for name, in_s in retry_after_s.items()
        }
        self._pools.set_routes(routes, capacity_s)
        if self._sharing is not None:
            self._sharing.places.hurry()

    def set_shares(self, shares: Mapping[str, Mapping[str, float]]) -> None:
        """Deal the requests for aliases by the shares of a plan.

        Requests that wait at a variant without room go to one that has some.

        Args:
            shares: The share of each variant, by alias.
        """
        self._pools.set_shares(shares)

    def hand_over(self, replica: str) -> int:
        """End the exchanges of a replica whose requests can go on elsewhere; return their number.

        Take it out of the routing table before.
        """
        return sum(pool.gate.hand_over(replica) for pool in self._pools)

    def set_metrics(self, text: bytes) -> None:
        """Set the controller's exposition, shown after the gateway's; names must not repeat."""
        self._started.controller_metrics = text

    def set_fleet_state(self, state: bytes) -> None:
        """Set what the controller says of the fleet, a JSON object, for the status."""
        self._fleet_state.set(state, self._now_s())
        if self._page is not None:
            self._page.add_tick(self._fleet_state.values)

    def set_unclaimed(self, energy_j: float) -> None:
        """Set the energy that no request claims, J, for the metrics."""
        self._metrics.set_unclaimed(energy_j)

    def settle(self, settled: Iterable[SettledRequest]) -> None:
        """Charge tenants the tokens and the energy that the books give for ended requests."""
        for request in settled:
            taken = request.taken
            if self._sites is not None:
                elsewhere_j = self._sites.energy.take(request.id)
                taken = replace(taken, joules=(taken.joules or 0.0) + elsewhere_j)
            self._access.settle(request.id, request.tenant, taken)
            self._metrics.add_energy(request.tenant, request.taken.joules or 0.0)

    def tell(self, news: DriverNews) -> GatewayNews:
        """Take what is new in the driver's books; return what the driver has to know."""
        self._energy.add(news.energies)
        if self._traces is not None:
            self._traces.settle(news.energies)
        self._usage.set(news.usage)
        if news.config is not None:
            self._changes.set(*news.config)
            self._set_slos()
        self._changes.settle(news.results)
        self._services.set_urls(news.services)
        if self._sites is not None:
            self._sites.set_url(news.services.get(SITES, ""))
        return GatewayNews(len(self._usage), self._changes.pending, self._changes.version)

    def drain_finished(self) -> list[FinishedRequest]:
        """Return the requests that finished since the last call."""
        return self._started.tracker.drain()

    def unfinished(self) -> list[FinishedRequest]:
        """Return the open requests as cancelled, for a record that ends now; they go on."""
        return self._started.tracker.unfinished(self._now_s())

    def status(self) -> GatewayStatus:
        """Return the counts and the declared work for the controller."""
        return replace(self._started.status(), work=self._work.alive)

    def own_metrics(self) -> list[Metric]:
        """Return the metrics of this gateway alone."""
        return self._started.own_metrics()

    def find(self, request: str) -> EndedRequest | None:
        """Return a request that ended lately here, by its id."""
        return self._energy.ended.get(request)

    def withdraw(self, work: str) -> bool:
        """Forget a job that was declared here, by its key; return whether it was."""
        return self._work.forget(work)

    def _band(self) -> Band:
        """Return the band of tariffs that holds now."""
        age_s = self._now_s() - self._fleet_state.set_s
        return band_of(self._fleet_state.values.get("power", {}), age_s)

    def _firm_open(self, model: str) -> int:
        others = 0 if self._sharing is None else self._sharing.of_others(model).firm_open
        return self._own_firm_open(model) + others

    def _own_firm_open(self, model: str) -> int:
        return self._started.tracker.counts[model].firm_open

    def _set_slos(self) -> None:
        """Judge and order requests by the SLOs of a changed configuration."""
        config = self._changes.config
        slos = {} if config is None else {n: pool.slo for n, pool in config.pools.items()}
        for pool in self._pools:
            slo = slos.get(pool.model.name)
            if slo is not None:
                pool.gate.table.prompt_wait_s = PROMPT_WAIT_SHARE * slo.ttft_s
                self._started.tracker.set_slo(pool.model.name, slo.ttft_s, slo.tpot_s)

    def _new_guard(self) -> ConnectionGuard:
        return ConnectionGuard(
            self._settings.http,
            self._settings.write_timeout_s,
            is_proxy=self._access.is_proxy,
            on_cut_off=self._metrics.cut_off,
        )

    def _new_bodies(self) -> Bodies:
        return Bodies(
            self._settings.max_body_bytes,
            self._settings.http.bodies_bytes,
            self._settings.http.body_s,
            on_full=self._metrics.reject,
        )

    def _new_gate(self, model: GatewayModel) -> AdmissionGate:
        affinity = self._settings.affinity
        return AdmissionGate(
            self._settings.max_waiting,
            self._now_s,
            prompt_wait_s=PROMPT_WAIT_SHARE * model.ttft_s,
            stale_s=self._settings.stale_s,
            class_shares=self._settings.class_shares,
            affinity=affinity,
            prefix_wait_s=0.0 if affinity is None else affinity.wait_share * model.ttft_s,
        )

    def _new_page(self, door: AdminDoor) -> PageApi:
        settings = self._settings
        return PageApi(
            self._steppe_api.status,
            self._usage,
            self._access,
            door,
            changes=self._changes,
            sites=self._services.sites,
            history_s=settings.page_history_s,
            jobs=lambda: self._work.alive,
            has_grid=settings.config is not None and settings.config.grid is not None,
        )

    def _new_handlers(self, session: aiohttp.ClientSession) -> Handlers:
        sites = self._settings.sites
        tracker = RequestTracker(
            self._now_s(),
            time.time(),
            self._settings.models,
            self._settings.name,
            WINDOW_S if sites is None else sites.plan.demand_s,
        )
        availability = Availability(self._pools, tracker, self._metrics, self._now_s)
        return Handlers(
            pools=self._pools,
            tracker=tracker,
            metrics=self._metrics,
            session=session,
            generation=self._new_generation(tracker, availability, session),
            availability=availability,
            model_list=ModelList(
                self._pools, session, self._energy, self._fleet_state, self._now_s
            ),
            bodies=self._bodies,
            access=self._access,
            now_s=self._now_s,
            service_metrics=self._services.metrics,
            sharing=self._sharing,
            page=self._page,
            sites=self._sites,
        )

    def _new_generation(
        self, tracker: RequestTracker, availability: Availability, session: aiohttp.ClientSession
    ) -> Generation:
        settings = self._settings
        return Generation(
            pools=self._pools,
            tracker=tracker,
            metrics=self._metrics,
            forwarder=new_forwarder(
                settings,
                self._pools,
                tracker,
                session,
                sites=self._sites,
                now_s=self._now_s,
            ),
            energy=self._energy,
            energy_answers=EnergyAnswers(
                self._energy, settings.energy_wait_s, settings.write_timeout_s
            ),
            availability=availability,
            bodies=self._bodies,
            access=self._access,
            holds=self._services.holds,
            sites=None if self._sites is None else settings.sites,
            traces=self._traces,
            now_s=self._now_s,
        )

    @property
    def _started(self) -> Handlers:
        assert self._handlers is not None, "the gateway was not started"
        return self._handlers

    async def _clean_up(self) -> None:
        if self._sharing is not None:
            await self._sharing.stop()
        await self._access.stop()
        if self._server is not None:
            await self._server.close()
        await self._services.stop()
        if self._sites is not None:
            await self._sites.stop()
        if self._handlers is not None:
            await self._handlers.session.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
