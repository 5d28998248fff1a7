"""The settlement of a run: it closes periods, answers homes, asks targets, and judges claims."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import Metric

from steppe.config import SitesSection
from steppe.errors import SteppeError
from steppe.ledger.entry_log import EntryLog
from steppe.ledger.signing import PrivateKey
from steppe.sites.beats.message import Beat
from steppe.sites.settlement.counts import SettlementCounts
from steppe.sites.settlement.home import HomeSide, NotReadyError, SentNotes
from steppe.sites.settlement.judging import Judge
from steppe.sites.settlement.meters_api import MetersOfSite
from steppe.sites.settlement.other_sites import SettlementClient
from steppe.sites.settlement.own_ledger import LedgerPlaces, OwnLedger
from steppe.sites.settlement.receipts_api import HomeOf, ReceiptsOfSites
from steppe.sites.settlement.sent import AcceptedCall
from steppe.sites.settlement.shown import SettlementsShown
from steppe.sites.settlement.store import SettlementStore
from steppe.sites.settlement.target import TargetSide
from steppe.sites.trust.suspects import Suspect
from steppe.sites.trust.tls import SiteTls

FLUSH_S = 1.0
"""Time between two writes of what was taken, s."""
LONGEST_LOOK_S = 10.0
"""Longest time between two looks whether a period is due, s."""
_CLAIM_PERIODS = 3.0
_FORGET_S = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SettlementSite:
    """What the settlement has of its site.

    Attributes:
        section: The section of the configuration, with whole paths.
        folder: Folder of the sites service.
        places: Where the ledger of the run is.
        log: Takes entries into it.
        notes: What this site sent to others.
        tls: The certificate of this site.
        suspects: What is held against other sites, by name; changed here.
        home_of: Returns the site that calls, or raises `ApiError`.
        epoch_s: Reads the time, s since the Unix epoch.
        monotonic_s: The clock until which a site is barred.
    """

    section: SitesSection
    folder: Path
    places: LedgerPlaces
    log: EntryLog
    notes: SentNotes
    tls: SiteTls
    suspects: MutableMapping[str, Suspect]
    home_of: HomeOf
    epoch_s: Callable[[], float] = time.time
    monotonic_s: Callable[[], float] = time.monotonic


class SettlementPart:
    """Runs beside the doors of the sites service."""

    def __init__(self, site: SettlementSite) -> None:
        """Open its store and the ledger; nothing runs before `start`.

        Raises:
            UsageError: The folder or the ledger cannot be used, or the key of tokens is none.
        """
        section = site.section
        self._epoch_s, self._sites = site.epoch_s, tuple(peer.name for peer in section.peers)
        self._look_s = min(LONGEST_LOOK_S, max(0.5, section.settle_s / 10))
        self._store, self._ledger = SettlementStore(site.folder), OwnLedger(site.places)
        targets = SettlementClient({peer.name: peer.url for peer in section.peers}, site.tls)
        self._target = _target_side(site, self._ledger, self._store)
        self._home = _home_side(site, self._ledger, self._store, targets)
        self._counts = SettlementCounts(self._sites)
        self._judge = _judge(site, self._store, targets, self._counts)
        self._doors = (
            ReceiptsOfSites(self._target, site.home_of),
            MetersOfSite(section.name, self._ledger, site.home_of),
        )
        self._problems: dict[str, str] = {}
        self._waiting: list[AcceptedCall] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.shown = SettlementsShown(self._store, self._problems)
        """Shows the last settlements, at the door for the gateways of the run."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes of the door for other sites."""
        for door in self._doors:
            door.add_routes(router)

    def take(self, taken: AcceptedCall) -> None:
        """Note a call of another site that was accepted; it does not wait."""
        self._waiting.append(taken)

    def note(self, beat: Beat) -> None:
        """Note what another site claims."""
        self._judge.note(beat)

    async def start(self) -> None:
        """Begin to settle."""
        loops: list[Coroutine[Any, Any, None]] = [self._follow(site) for site in self._sites]
        loops += [self._flush_often(), self._forget_often()]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """Settle no more, and write what was taken."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        await self._flush()
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self._ledger.close)

    async def look(self, site: str) -> None:
        """Do with another site what is due: as its target, as its home, and its claims."""
        problem = ""
        for due in (self._serve, self._settle, self._judge_claims):
            try:
                await due(site)
            except (SteppeError, OSError) as error:
                problem = problem or str(error)
                is_new = self._problems.get(site) != problem
                level = logging.INFO if isinstance(error, NotReadyError) else logging.ERROR
                _log.log(level if is_new else logging.DEBUG, "%s: not settled: %s", site, error)
        if problem:
            self._problems[site] = problem
        else:
            self._problems.pop(site, None)

    def metrics(self) -> list[Metric]:
        """Return metrics of what was settled since the start."""
        return self._counts.metrics(self._problems)

    async def _serve(self, site: str) -> None:
        await self._target.close_due(site)

    async def _settle(self, site: str) -> None:
        await self._home.log_rest()
        async for compared in self._home.settle_due(site):
            self._counts.note(site, compared)

    async def _judge_claims(self, site: str) -> None:
        await self._judge.judge_due(site)

    async def _follow(self, site: str) -> None:
        while True:
            await self.look(site)
            await asyncio.sleep(self._look_s)

    async def _flush(self) -> None:
        taken, self._waiting = self._waiting, []
        try:
            now_us = round(self._epoch_s() * 1e6)
            await asyncio.to_thread(self._store.note_taken, taken, now_us)
        except SteppeError as error:
            self._waiting = [*taken, *self._waiting]
            _log.error("what was taken of other sites is not noted: %s", error)

    async def _flush_often(self) -> None:
        while True:
            await self._flush()
            await asyncio.sleep(FLUSH_S)

    async def _forget_often(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._store.forget, int(self._epoch_s()))
            except SteppeError as error:
                _log.error("old notes of settlements are not removed: %s", error)
            await asyncio.sleep(_FORGET_S)


def _target_side(site: SettlementSite, ledger: OwnLedger, store: SettlementStore) -> TargetSide:
    section = site.section
    return TargetSide(
        section.name, section.settle_s, ledger, store, log=site.log, epoch_s=site.epoch_s
    )


def _home_side(
    site: SettlementSite, ledger: OwnLedger, store: SettlementStore, targets: SettlementClient
) -> HomeSide:
    return HomeSide(
        site.section.name,
        site.section.settle_s,
        [PrivateKey.read(site.section.token_key).public],
        ledger,
        store,
        log=site.log,
        notes=site.notes,
        targets=targets,
        epoch_s=site.epoch_s,
    )


def _judge(
    site: SettlementSite,
    store: SettlementStore,
    targets: SettlementClient,
    counts: SettlementCounts,
) -> Judge:
    return Judge(
        [peer.name for peer in site.section.peers],
        _CLAIM_PERIODS * site.section.period_s,
        store,
        suspects=site.suspects,
        targets=targets,
        epoch_s=site.epoch_s,
        monotonic_s=site.monotonic_s,
        on_verdict=counts.note_verdict,
    )
