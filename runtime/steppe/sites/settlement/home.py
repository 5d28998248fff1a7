"""The home's side: asks each target for its receipts, compares them, and logs what it owes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe.errors import SteppeError
from steppe.ledger.entry_log import EntryLog
from steppe.ledger.settlement import Settlement, remote_energy_of
from steppe.ledger.signing import PublicKey
from steppe.sites.settlement.answer import (
    AskedPeriod,
    BadAnswerError,
    Page,
    check_page,
    check_sums,
    keys_of,
    read_page,
    signing_keys,
)
from steppe.sites.settlement.compare import LoggedReceipt, PeriodComparison, compare
from steppe.sites.settlement.own_ledger import OwnLedger, head_size
from steppe.sites.settlement.periods import due_us, last_closed
from steppe.sites.settlement.sent import Sent
from steppe.sites.settlement.store import SENT, KnownLog, Progress, SettlementStore

_US = 1_000_000
_LATE_US = 3_600 * _US
"""A gateway may note what it sent so long after it ended; later, the token shows that it did."""
_MOST_UNLOGGED = 1_000

_log = logging.getLogger(__name__)


class NotReadyError(SteppeError):
    """A target does not answer, or has not closed the period yet: it is asked again."""


class SentNotes(Protocol):
    """The book of what this site sent to others."""

    def between(self, begin_us: int, end_us: int) -> list[Sent]:
        """Return the notes of what ended in a time, us since the Unix epoch."""
        ...


class AsksTargets(Protocol):
    """The way to other sites."""

    async def receipts(self, target: str, query: dict[str, int]) -> bytes:
        """Return the answer of a target to `GET /sites/v1/receipts`.

        Raises:
            NotReadyError: It does not answer, or has not closed the period yet.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """All pages of a period, checked."""

    settlement: Settlement
    claims: Sequence[LoggedReceipt]
    known_log: KnownLog


class HomeSide:
    """Settles periods in their order, each once."""

    def __init__(
        self,
        site: str,
        length_s: int,
        token_keys: Sequence[PublicKey],
        ledger: OwnLedger,
        store: SettlementStore,
        *,
        log: EntryLog,
        notes: SentNotes,
        targets: AsksTargets,
        epoch_s: Callable[[], float],
    ) -> None:
        """Keep its parts.

        Args:
            site: This site.
            length_s: Length of the periods, s.
            token_keys: Keys of its own tokens.
            ledger: Its ledger.
            store: What the settlement keeps.
            log: Takes entries into its ledger.
            notes: What it sent.
            targets: The way to other sites.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._site, self._length_s, self._token_keys = site, length_s, tuple(token_keys)
        self._ledger, self._store, self._log = ledger, store, log
        self._notes, self._targets, self._epoch_s = notes, targets, epoch_s

    async def begin(self, target: str) -> None:
        """Note where settlements with a target begin, if that is not known.

        They go on after the last one in the ledger; without any, with the present period.
        """
        if await asyncio.to_thread(self._store.progress, SENT, target) is not None:
            return
        last = await asyncio.to_thread(self._ledger.last_settlement, SENT, target)
        if last is not None:
            progress = Progress(last.end_s, last.until)
        else:
            progress = Progress(int(self._epoch_s() // self._length_s) * self._length_s)
        await asyncio.to_thread(self._store.keep_progress, SENT, target, progress)

    async def settle_due(self, target: str) -> AsyncIterator[PeriodComparison]:
        """Settle all periods with a target that are due; yield what came out of each.

        Raises:
            NotReadyError: The target does not answer, or not yet.
            BadAnswerError: What it answers does not hold: nothing of it was used.
            SteppeError: The ledger does not answer.
        """
        await self.begin(target)
        while (period := await asyncio.to_thread(self._next_due, target)) is not None:
            answer = await self._ask(target, period)
            yield await asyncio.to_thread(self._take, target, answer)
            await self.log_rest()

    async def log_rest(self) -> None:
        """Log what is settled and not in the ledger yet; the same entries again change nothing.

        Raises:
            SteppeError: The ledger does not answer.
        """
        found = await asyncio.to_thread(self._store.settled, _MOST_UNLOGGED, unlogged=True)
        for each in reversed(found):
            entries = [each.own.logged_by(self._site)] if each.own.receipts else []
            await self._log.log_entries([*entries, *(part.logged for part in each.remote)])
            await asyncio.to_thread(self._store.note_logged, each.own)

    def _next_due(self, target: str) -> int | None:
        """Return the period after the last one that is settled; None if it is not closed."""
        progress = self._store.progress(SENT, target)
        assert progress is not None, "begun"
        period = progress.end_s // self._length_s  # the one that begins there, or goes on there
        return period if period <= last_closed(self._epoch_s(), self._length_s) else None

    async def _ask(self, target: str, period: int) -> _Answer:
        known = await asyncio.to_thread(self._store.log_of, target) or KnownLog("")
        asked = AskedPeriod(
            self._site,
            target,
            period,
            self._length_s,
            keys_of(known.keys),
            known.checkpoint,
            self._token_keys,
        )
        query = {"period": period, "length": self._length_s, "size": head_size(known.checkpoint)}
        page = await self._page(target, query)
        first, claims = page, await asyncio.to_thread(check_page, page, asked, is_first=True)
        while page.has_more:
            if not page.rows:
                raise BadAnswerError("receipts: asked for more of them, found an empty page")
            last = page.rows[-1].place
            page = await self._page(target, {**query, "after": last})
            if page.settlement != first.settlement:
                raise BadAnswerError("receipts: asked for one settlement, found two")
            if page.rows and page.rows[0].place <= last:
                found = f"found place {page.rows[0].place}"
                raise BadAnswerError(f"receipts: asked for those after place {last}, {found}")
            claims += await asyncio.to_thread(check_page, page, asked, is_first=False)
        await asyncio.to_thread(check_sums, first.settlement, claims)
        keys = signing_keys(first) or known.keys
        return _Answer(first.settlement, claims, KnownLog(keys, first.checkpoint))

    async def _page(self, target: str, query: dict[str, int]) -> Page:
        body = await self._targets.receipts(target, query)
        return await asyncio.to_thread(read_page, body)

    def _take(self, target: str, answer: _Answer) -> PeriodComparison:
        """Compare an answer with the notes, and keep what comes out."""
        settlement = answer.settlement
        begin_us = (settlement.end_s - settlement.length_s) * _US - _LATE_US
        self._store.note_sent(
            [
                note
                for note in self._notes.between(begin_us, int(self._epoch_s() * _US))
                if note.target == target
            ]
        )
        requests = [claim.receipt.request for claim in answer.claims]
        due = due_us(settlement.period, settlement.length_s)
        compared = compare(settlement, answer.claims, self._store.noted(target, requests, due))
        remote = remote_energy_of(compared.settlement, compared.shares, compared.mismatches)
        self._store.keep_log(target, answer.known_log)
        self._store.settle(settlement, compared, remote)
        for each in compared.mismatches:
            _log.warning("%s: %s: request %s: %s", target, each.what, each.request, each.text)
        if not compared.agrees:
            said = f"it says {settlement.owed_uj} uJ, the notes {compared.settlement.owed_uj} uJ"
            _log.error("%s: period %d does not agree: %s", target, settlement.period, said)
        return compared
