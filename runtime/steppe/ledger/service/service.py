"""The ledger service of a run: the one writer of its receipts, accounts and log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from steppe.engine.run_secret import HEADER
from steppe.errors import UsageError
from steppe.ledger.admission import AdmissionRules
from steppe.ledger.booking import Booking
from steppe.ledger.log.log import Log
from steppe.ledger.service.admissions_api import AdmissionsApi
from steppe.ledger.service.balance_api import BalanceApi
from steppe.ledger.service.hours import Hours
from steppe.ledger.service.log_api import LogApi
from steppe.ledger.service.metrics import LedgerMetrics
from steppe.ledger.service.opening import (
    check_same,
    keep_green_terms,
    log_tariffs,
    open_keys,
    open_log,
    open_reader,
    read_tariffs,
)
from steppe.ledger.service.outside import Outside
from steppe.ledger.service.publisher import Publisher
from steppe.ledger.service.quotes_api import QuotesApi
from steppe.ledger.service.receipts_api import ReceiptsApi
from steppe.ledger.service.settings import LedgerSettings
from steppe.ledger.service.tariffs_api import TariffsApi
from steppe.ledger.service.writer import Writer
from steppe.ledger.service_entry import ServiceEntry
from steppe.ledger.store.books import BookingResult, take
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry
from steppe.ledger.store.transaction import Transaction
from steppe.ledger.tariff import Tariff
from steppe.services.application import RoutesOf, build_application
from steppe.services.folder_lock import FolderLock

LOCK_WAIT_S = 15.0
"""Longest wait for the folder, s: the process of an earlier service may be ending."""
_SHUTDOWN_S = 2.0


class LedgerService:
    """Takes the books of a run, decides on admissions, and shows tenants their receipts.

    Start and stop it on one event loop.
    """

    def __init__(
        self, settings: LedgerSettings, epoch_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Prepare; nothing happens before `start`.

        Args:
            settings: How it is set up.
            epoch_ns: Reads the time, ns since the Unix epoch.
        """
        self._settings, self._epoch_ns = settings, epoch_ns
        self._metrics = LedgerMetrics()
        self._tariffs: Mapping[str, Tariff] = {}
        self._lock: FolderLock | None = None
        self._store: LedgerStore | None = None
        self._writer: Writer | None = None
        self._publisher: Publisher | None = None
        self._outside: Outside | None = None
        self._hours: Hours | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Open the books and listen; return the URL.

        Raises:
            UsageError: Another run uses the folder, or something of it cannot be used.
        """
        is_started = False
        try:
            url = await self._start()
            is_started = True
        finally:
            if not is_started:
                await self.stop()
        return url

    async def take(self, booking: Booking) -> int:
        """Write what a booking brings; return the number of the last one that is on disk.

        A booking that was taken before changes nothing. If the returned number is below its own,
        hand over the ones after that number again.

        Args:
            booking: One step of the books of a run.

        Raises:
            ConflictError: Another booking had this number.
            UsageError: A total falls, more is claimed than the meters have counted, or the store
                cannot be written: nothing of it was taken.
        """
        if self._writer is None:
            raise UsageError("ledger: asked to take a booking, found the service not started")
        site, tariffs = self._settings.section.site, self._tariffs

        def change(transaction: Transaction) -> BookingResult:
            return take(transaction, booking, site, tariffs)

        taken = await self._writer.write(change, is_long=True)
        self._metrics.count_booking(taken)
        return taken.number

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        """Write entries of another service; return how many are new.

        The same entry again changes nothing. On return they are on disk; the log has them at its
        next head.

        Args:
            entries: The entries.

        Raises:
            ConflictError: One of that kind and id has other bytes: none of them was written.
            UsageError: The store cannot be written.
        """
        if self._writer is None:
            raise UsageError("ledger: asked to log entries, found the service not started")
        logged = [LogEntry(each.kind, each.id, "", each.time_us, each.entry) for each in entries]
        return await self._writer.write(lambda transaction: transaction.add(logged))

    async def stop(self) -> None:
        """Answer no more, publish what is left, and give the folder back."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._hours is not None:
            await self._hours.stop()
        if self._writer is not None:
            await self._writer.close()
        if self._publisher is not None:
            await self._publisher.stop()
        if self._outside is not None:
            await self._outside.stop()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
        if self._lock is not None:
            self._lock.release()
        self._runner = self._hours = self._writer = self._publisher = self._outside = None
        self._store = self._lock = None

    async def _start(self) -> str:
        settings = self._settings
        self._lock = await asyncio.to_thread(
            FolderLock, settings.folder, LOCK_WAIT_S, "ledger.folder"
        )
        tariffs = read_tariffs(settings.section.tariffs)
        self._store = store = await asyncio.to_thread(LedgerStore, settings.store)
        self._tariffs = await asyncio.to_thread(log_tariffs, store, tariffs, self._now_us())
        await asyncio.to_thread(keep_green_terms, store, settings.section)
        keys = open_keys(settings)
        log = await asyncio.to_thread(open_log, settings, keys)
        await asyncio.to_thread(check_same, store, log)
        self._outside = outside = Outside(settings.section, store, open_reader(settings, keys))
        self._publisher = publisher = Publisher(store, log, outside.take)
        self._writer = writer = Writer(store, publisher.wake)
        rules = AdmissionRules(
            tuple(tariffs), settings.section.accounts == "required", int(settings.section.hold_s)
        )
        self._hours = Hours(store, writer, self._metrics, self._now_us)
        secret = dict(settings.secret_headers).get(HEADER, "")
        parts = self._parts(store, log, rules)
        parts.append(QuotesApi(writer, tariffs, keys, self._now_us))
        url = await self._listen(build_application(parts, self._read_metrics, secret))
        await outside.start()
        publisher.start()
        self._hours.start()
        return url

    def _parts(self, store: LedgerStore, log: Log, rules: AdmissionRules) -> list[RoutesOf]:
        writer, publisher, settings = self._writer, self._publisher, self._settings
        assert writer is not None
        assert publisher is not None

        def size() -> int:
            return publisher.size

        usual_tokens = settings.section.hold_output_tokens
        return [
            AdmissionsApi(writer, rules, usual_tokens, self._metrics, self._now_us),
            ReceiptsApi(store, log, size),
            TariffsApi(store, self._tariffs, log, size),
            BalanceApi(store),
            LogApi(settings.log, log, settings.public_key.read_text()),
        ]

    def _now_us(self) -> int:
        return self._epoch_ns() // 1_000

    def _read_metrics(self) -> bytes:
        assert self._store is not None
        assert self._publisher is not None
        assert self._outside is not None
        outside = self._outside
        self._metrics.note_outside(outside.asked, outside.sent)
        return self._metrics.exposition(self._store.size(), self._publisher.size)

    async def _listen(self, application: web.Application) -> str:
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"
