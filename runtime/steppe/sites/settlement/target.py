"""The target's side: closes periods, and answers each home with its own receipts.

A settlement has the receipts of a home between two places of the log: from where the one before it
ended to the end of the log when it was closed. So a receipt that was written late is in the next
one, each is in one of them, and a settlement that was logged never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.errors import SteppeError, UsageError
from steppe.ledger.entry_log import EntryLog
from steppe.ledger.receipt import Receipt
from steppe.ledger.settlement import Owed, Settlement, owed_change_uj, settlement_of
from steppe.sites.peer import SITE_TENANT
from steppe.sites.settlement.answer import MOST_ROWS, Page, Row, write_page
from steppe.sites.settlement.own_ledger import OwnLedger
from steppe.sites.settlement.periods import last_closed
from steppe.sites.settlement.store import SERVED, SettlementStore


class NotClosedError(SteppeError):
    """A period has not ended yet, or its receipts may still be missing."""


class OtherLengthError(SteppeError):
    """Two sites settle periods of different lengths."""


@dataclass(frozen=True, slots=True)
class ReceiptsQuery:
    """What a home asks for.

    Attributes:
        home: The home, by its certificate.
        period: Number of the period.
        length_s: Length of the period, s.
        after: Only receipts after this place; -1 for the first page.
        size: Size of the log when the home last saw it; 0 if it never did.
    """

    home: str
    period: int
    length_s: int
    after: int = -1
    size: int = 0


class TargetSide:
    """Closes each period once, however often it is asked for."""

    def __init__(
        self,
        site: str,
        length_s: int,
        ledger: OwnLedger,
        store: SettlementStore,
        *,
        log: EntryLog,
        epoch_s: Callable[[], float],
    ) -> None:
        """Keep its parts.

        Args:
            site: This site.
            length_s: Length of the periods, s.
            ledger: The ledger of this site.
            store: What the settlement keeps.
            log: Takes entries into the ledger.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._site, self._length_s, self._epoch_s = site, length_s, epoch_s
        self._ledger, self._store, self._log = ledger, store, log
        self._lock = asyncio.Lock()

    async def close_due(self, home: str) -> None:
        """Close the last period that may be closed, if it is not.

        The first one is closed when the home asks for it. Before, this site does not know where the
        home begins: in an earlier period, receipts of the home would be where it never asks.

        Raises:
            SteppeError: The ledger does not answer.
        """
        if await asyncio.to_thread(self._has_begun, home):
            await self.settlement(home, last_closed(self._epoch_s(), self._length_s))

    async def settlement(self, home: str, period: int) -> Settlement:
        """Return the settlement of a period; close it if it is not.

        Raises:
            NotClosedError: It cannot be closed yet.
            SteppeError: The ledger does not answer.
        """
        last = last_closed(self._epoch_s(), self._length_s)
        if period > last:
            raise NotClosedError(f"period {period}: asked for a closed one, found {last} closed")
        async with self._lock:
            found = await asyncio.to_thread(self._closed, home, period)
            if found is not None:
                return found
            made = await asyncio.to_thread(self._made, home, period)
            if made.receipts:
                await self._log.log_entries([made.logged_by(self._site)])
            await asyncio.to_thread(self._store.keep_served, made)
            return made

    async def page(self, wanted: ReceiptsQuery) -> bytes:
        """Return a page of the receipts of a period.

        Raises:
            NotClosedError: It is not closed yet.
            OtherLengthError: Periods here have another length.
            SteppeError: The ledger does not answer.
        """
        if wanted.length_s != self._length_s:
            asked = f"asked for periods of {wanted.length_s} s"
            raise OtherLengthError(f"sites.settle_s: {asked}, found {self._length_s} s")
        settlement = await self.settlement(wanted.home, wanted.period)
        return await asyncio.to_thread(self._page, wanted, settlement)

    def _has_begun(self, home: str) -> bool:
        """Return whether a period of a home was closed before."""
        known = self._store.progress(SERVED, home)
        return known is not None or self._ledger.last_settlement(SERVED, home) is not None

    def _closed(self, home: str, period: int) -> Settlement | None:
        """Return the settlement of a period that is closed; None if it is not."""
        end_s = (period + 1) * self._length_s
        logged = self._ledger.settlement(SERVED, home, end_s)
        if logged is not None:
            return logged
        last = self._ledger.last_settlement(SERVED, home)
        progress = self._store.progress(SERVED, home)
        closed_s = max(0 if last is None else last.end_s, 0 if progress is None else progress.end_s)
        return self._empty(home, period, last) if closed_s >= end_s else None

    def _empty(self, home: str, period: int, last: Settlement | None) -> Settlement:
        place = 0 if last is None else last.until
        name = self._ledger.log().name
        return Settlement(home, self._site, period, self._length_s, name, place, place)

    def _made(self, home: str, period: int) -> Settlement:
        last, log = self._ledger.last_settlement(SERVED, home), self._ledger.log()
        first = 0 if last is None else last.until
        empty = Settlement(
            home, self._site, period, self._length_s, log.name, first, max(first, log.size)
        )
        tenant = f"{SITE_TENANT}{home}"
        entries = list(self._ledger.all_receipts(tenant, first, log.size))
        if not entries:
            return self._empty(home, period, last)
        return settlement_of(empty, self._owed(home, entries))

    def _owed(self, home: str, entries: Sequence[tuple[int, bytes]]) -> list[Owed]:
        """Return what a home owes for each receipt, by the tokens that this site has accepted."""
        receipts = [(place, Receipt.read(entry), entry) for place, entry in entries]
        taken = self._store.taken(home, [one.request for _, one, _ in receipts])
        so_far: dict[str, int] = {}
        owed = []
        for place, receipt, entry in receipts:
            request = receipt.request
            before_uj = so_far.get(request)
            if before_uj is None:
                before_uj = 0
                if receipt.corrects:
                    before_uj = self._ledger.energy_before_uj(receipt.tenant, request, place)
            most_uj = taken[request].most_uj if request in taken else None
            owed_uj = owed_change_uj(before_uj, receipt.energy_uj, most_uj)
            so_far[request] = before_uj + receipt.energy_uj
            owed.append(Owed(receipt, entry, owed_uj))
        return owed

    def _page(self, wanted: ReceiptsQuery, settlement: Settlement) -> bytes:
        log = self._ledger.log()
        if log.size < settlement.until:
            raise UsageError(f"log: asked for {settlement.until} entries, found {log.size}")
        tenant, first = f"{SITE_TENANT}{wanted.home}", max(settlement.first, wanted.after + 1)
        found = self._ledger.receipts(tenant, first, settlement.until, MOST_ROWS + 1)
        rows = found[:MOST_ROWS]
        requests = {place: Receipt.read(entry).request for place, entry in rows}
        taken = self._store.taken(wanted.home, list(requests.values()))
        consistency: Sequence[bytes] = ()
        if wanted.after < 0 and 0 < wanted.size < log.size:
            consistency = log.reader.consistency(wanted.size, log.size)
        paths = log.reader.paths([place for place, _ in rows], log.size)
        proven = tuple(
            Row(place, entry, path, known.token if (known := taken.get(requests[place])) else "")
            for (place, entry), path in zip(rows, paths, strict=True)
        )
        more = len(found) > MOST_ROWS
        page = Page(settlement, log.name, log.keys, log.note, tuple(consistency), proven, more)
        return write_page(page)
