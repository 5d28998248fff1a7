"""The sites service of a run: what other sites see of this one, and what this one knows of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from steppe.engine.run_secret import HEADER
from steppe.errors import UsageError
from steppe.ledger.entry_log import EntryLog
from steppe.services.api_error import answer_errors
from steppe.services.application import RoutesOf, build_application
from steppe.services.connections import HTTP_LIMITS, GuardedSite, HttpLimits
from steppe.services.folder_lock import FolderLock
from steppe.sites.beats.sender import PeerAddress, Sender
from steppe.sites.beats.server import BeatServer
from steppe.sites.service.calls import home_of
from steppe.sites.service.certificate_watch import PERIOD_S, CertificateWatch
from steppe.sites.service.door_connections import DoorConnections
from steppe.sites.service.forward import DoorLimits, ForwardDoor
from steppe.sites.service.gateway_status import OwnViewUpdates
from steppe.sites.service.metrics import Counts, SitesMetrics
from steppe.sites.service.note_book import SentBook
from steppe.sites.service.plan_loop import PlanLoop
from steppe.sites.service.sent_api import SentApi
from steppe.sites.service.settings import SitesServiceSettings
from steppe.sites.service.site import HOST_CLOCKS, Clocks, LocalSite, SitePart, local_site
from steppe.sites.service.state_api import StateApi
from steppe.sites.settlement.part import SettlementPart, SettlementSite
from steppe.sites.settlement.sent import AcceptedCall
from steppe.sites.trust.tls import SiteTls

LOCK_WAIT_S = 15.0
"""Longest wait for the folder, s: the process of an earlier service may be ending."""
_SHUTDOWN_S = 2.0


class Runs(Protocol):
    """Something that runs while the service does."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


@dataclass(frozen=True, slots=True)
class _Counted:
    """The parts of a service that count."""

    site: LocalSite
    sender: Sender
    beats: BeatServer
    notes: SentApi
    plan: PlanLoop
    watch: CertificateWatch
    status: OwnViewUpdates

    def counts(self) -> Counts:
        """Return what they counted."""
        peers, now_s = self.site.exchange.peers, self.site.clocks.monotonic_s()
        ages_s = {name: peers.age_s(name, now_s) for name in peers.names}
        return Counts(
            sent=self.sender.sent,
            refused=self.beats.refused,
            losses={name: peers.losses(name) for name in peers.names},
            notes=self.notes.taken,
            plans=self.plan.planning.plans,
            plan_failures=self.plan.failures,
            plan_s=self.plan.seconds,
            certificate_s=self.watch.end_s - self.site.clocks.epoch_s(),
            is_away=self.status.is_away,
            ages_s={name: age_s for name, age_s in ages_s.items() if age_s is not None},
        )


class SitesService:
    """Beats to the other sites, answers theirs and their calls, and plans what goes where.

    It has two doors: one for the gateways of its run, which needs the secret of the run, and one
    for other sites, which needs a certificate of theirs. Start and stop it on one event loop.
    """

    def __init__(
        self,
        settings: SitesServiceSettings,
        clocks: Clocks = HOST_CLOCKS,
        *,
        log: EntryLog | None = None,
        watch_s: float = PERIOD_S,
        limits: HttpLimits = HTTP_LIMITS,
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            settings: How it is set up.
            clocks: Its clocks.
            log: The log of the ledger; None without a ledger.
            watch_s: Time between two looks at the files of the certificate, s.
            limits: How much other sites may hold at their door.
        """
        self._settings, self._clocks, self._log = settings, clocks, log
        self._connections = DoorConnections(limits)
        self._watch_s = watch_s
        self._lock: FolderLock | None = None
        self._running: list[Runs] = []
        self._runners: list[web.AppRunner] = []
        self.port = 0
        """Port of the door for other sites, once it is open."""

    async def start(self) -> str:
        """Open both doors and begin to beat; return the URL for the gateways of the run.

        Raises:
            UsageError: Another run uses the folder, the port is in use, or a certificate or key
                cannot be used.
        """
        is_started = False
        try:
            url = await self._start()
            is_started = True
        finally:
            if not is_started:
                await self.stop()
        return url

    async def stop(self) -> None:
        """Answer no more, beat no more, and give the folder back."""
        for runner in self._runners:
            await runner.cleanup()
        for each in reversed(self._running):
            await each.stop()
        if self._lock is not None:
            self._lock.release()
        self._runners, self._running, self._lock = [], [], None

    async def _start(self) -> str:
        settings, clocks = self._settings, self._clocks
        section = settings.section
        self._lock = await asyncio.to_thread(
            FolderLock, settings.folder, LOCK_WAIT_S, "sites.folder"
        )
        now_us = round(clocks.epoch_s() * 1e6)
        sent = await asyncio.to_thread(SentBook, settings.folder, now_us)
        site = await asyncio.to_thread(local_site, settings, clocks, sent, self._log)
        beats = BeatServer(site.exchange, site.keys, clocks.monotonic_s, clocks.epoch_s)
        settlement = await asyncio.to_thread(_settlement, site)
        calls = ForwardDoor(
            section.name,
            site.keys,
            site.gateway,
            lambda: site.own.view,
            on_taken=_drop if settlement is None else settlement.take,
            epoch_s=clocks.epoch_s,
        )
        parts: list[SitePart] = [calls, *([] if settlement is None else [settlement])]
        for part in parts:
            await self._begin(part)
        door = door_for_sites([beats, *parts])
        self._connections.guard.install(door)
        url = await self._listen(door, section.host, section.port, site.tls)
        self.port = int(url.rpartition(":")[2])
        sender = _sender(site)
        watch = CertificateWatch(site.tls, section.certificate, sender.renew, self._watch_s)
        status = OwnViewUpdates(site.gateway, site.own, section.period_s, site.clocks)
        plan = PlanLoop(site)
        for each in (status, sender, watch, plan):
            await self._begin(each)
        state, notes = StateApi(site, plan), SentApi(sent)
        counted = _Counted(site, sender, beats, notes, plan, watch, status)
        shown: list[RoutesOf] = [state, notes]
        more = [calls.metrics, self._connections.metrics]
        if settlement is not None:
            shown.append(settlement.shown)
            more.append(settlement.metrics)
        metrics = SitesMetrics(state.state, counted.counts, more)
        secret = dict(settings.secret_headers).get(HEADER, "")
        own_door = build_application(shown, metrics.exposition, secret)
        return await self._listen(own_door, settings.host, 0)

    async def _begin(self, each: Runs) -> None:
        """Start something; it is stopped with the service."""
        self._running.append(each)
        await each.start()

    async def _listen(
        self, application: web.Application, host: str, port: int, tls: SiteTls | None = None
    ) -> str:
        """Open a door; return its URL.

        Raises:
            UsageError: Another process listens there, or the address is not of this host.
        """
        runner = web.AppRunner(
            application,
            handler_cancellation=True,  # a caller that leaves ends its call at the gateway, too
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
        )
        self._runners.append(runner)
        await runner.setup()
        place = web.TCPSite(runner, host, port) if tls is None else self._guarded(runner, tls)
        try:
            await place.start()
        except OSError as error:
            found = error.strerror or error
            raise UsageError(f"sites: cannot listen on {host}:{port}: {found}") from error
        host, port = runner.addresses[0][:2]
        return f"{'http' if tls is None else 'https'}://{host}:{port}"

    def _guarded(self, runner: web.AppRunner, tls: SiteTls) -> GuardedSite:
        """Return the place of the door for other sites."""
        section, guard = self._settings.section, self._connections.guard
        return GuardedSite(runner, (section.host, section.port), guard, ssl_context=tls.server)


def door_for_sites(parts: Iterable[RoutesOf]) -> web.Application:
    """Return the application of the door for other sites; each part checks its callers."""
    application = web.Application(
        client_max_size=DoorLimits().body_bytes, middlewares=[answer_errors]
    )
    for part in parts:
        part.add_routes(application.router)
    return application


def _settlement(site: LocalSite) -> SettlementPart | None:
    """Return the settlement with other sites; None without a ledger.

    Raises:
        UsageError: Its folder or the ledger cannot be used.
    """
    settings, clocks = site.settings, site.clocks
    if site.log is None or settings.ledger is None:
        return None
    part = SettlementPart(
        SettlementSite(
            settings.section,
            settings.folder,
            settings.ledger,
            log=site.log,
            notes=site.sent,
            tls=site.tls,
            suspects=site.suspects,
            home_of=lambda request: home_of(request, site.keys, clocks.epoch_s()),
            epoch_s=clocks.epoch_s,
            monotonic_s=clocks.monotonic_s,
        )
    )
    site.on_beat.append(part.note)
    return part


def _drop(_taken: AcceptedCall) -> None:
    """Note nothing: without a ledger nothing is settled."""


def _sender(site: LocalSite) -> Sender:
    section = site.settings.section
    return Sender(
        site.exchange,
        [PeerAddress(peer.name, peer.url) for peer in section.peers],
        site.tls,
        period_s=section.period_s,
        rng=random.Random(site.beats.run),
        monotonic_s=site.clocks.monotonic_s,
    )
