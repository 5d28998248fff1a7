"""Holds what other sites claim in their beats against the records of their meters, each hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, MutableMapping
from typing import Protocol

from steppe.sites.beats.message import Beat
from steppe.sites.settlement.answer import BadAnswerError, keys_of
from steppe.sites.settlement.meters import read_records
from steppe.sites.settlement.store import SettlementStore
from steppe.sites.trust.claims import ClaimBook, Fits, Lied, Tolerance, Verdict, Withheld, judge
from steppe.sites.trust.suspects import Suspect

CLOSED_AFTER = 3
"""Hour h is asked for from hour h + 3 on: its book closes at h + 2."""
USUAL = Tolerance()
_HOUR_S = 3600

_log = logging.getLogger(__name__)


class AsksMeters(Protocol):
    """The way to other sites."""

    async def meters(self, target: str, hour: int) -> bytes | None:
        """Return the answer of a site to `GET /sites/v1/meters`; None if it has no such records.

        Raises:
            NotReadyError: It does not answer.
        """
        ...


class Judge:
    """Judges each hour of each site once."""

    def __init__(
        self,
        sites: Iterable[str],
        longest_s: float,
        store: SettlementStore,
        *,
        suspects: MutableMapping[str, Suspect],
        targets: AsksMeters,
        epoch_s: Callable[[], float],
        monotonic_s: Callable[[], float],
        tolerance: Tolerance = USUAL,
        on_verdict: Callable[[str, Verdict], None] = lambda _site, _verdict: None,
    ) -> None:
        """Keep its parts.

        Args:
            sites: The other sites.
            longest_s: A claim holds until the next one, but at most so long, s.
            store: Has the keys of their logs.
            suspects: What is held against them; changed here.
            targets: The way to them.
            epoch_s: Reads the time, s since the Unix epoch.
            monotonic_s: The clock until which a site is barred.
            tolerance: How far claim and meter may lie apart.
            on_verdict: Called with the site and each hour of it that is judged.
        """
        self._books = {site: ClaimBook(longest_s) for site in sites}
        self._on_verdict = on_verdict
        self._store, self._suspects, self._targets = store, suspects, targets
        self._epoch_s, self._monotonic_s, self._tolerance = epoch_s, monotonic_s, tolerance
        self._next = dict.fromkeys(self._books, int(epoch_s() // _HOUR_S))

    def note(self, beat: Beat) -> None:
        """Take up a beat of another site."""
        if beat.site in self._books:
            self._books[beat.site].note(beat)

    async def judge_due(self, site: str) -> list[Verdict]:
        """Judge the hours of a site that are closed by now; return what came out.

        Raises:
            NotReadyError: It does not answer: it is asked again.
        """
        found = []
        while self._next[site] + CLOSED_AFTER <= self._epoch_s() // _HOUR_S:
            hour = self._next[site]
            verdict = await self._judged(site, hour)
            self._next[site] = hour + 1
            self._take(site, verdict)
            found.append(verdict)
        return found

    async def _judged(self, site: str, hour: int) -> Verdict:
        body = await self._targets.meters(site, hour)
        if body is None:
            return Withheld(hour, "it has no records of the hour")
        known = await asyncio.to_thread(self._store.log_of, site)
        keys = keys_of(known.keys) if known is not None else ()
        try:
            metered = await asyncio.to_thread(read_records, body, site, keys)
        except BadAnswerError as error:
            return Withheld(hour, str(error))
        if metered.hour != hour:
            return Withheld(hour, f"its records are of hour {metered.hour}")
        return judge(self._books[site].hour(hour), metered, self._tolerance)

    def _take(self, site: str, verdict: Verdict) -> None:
        now_s = self._monotonic_s()
        before = self._suspects.get(site, Suspect())
        self._suspects[site] = before.after(verdict, now_s)
        self._on_verdict(site, verdict)
        match verdict:
            case Lied():
                _log.error("%s claimed what its meters do not show: %s", site, verdict.text)
            case Withheld():
                _log.warning("%s: hour %d cannot be judged: %s", site, verdict.hour, verdict.reason)
            case Fits() if before.is_barred(now_s):
                _log.info("%s: hour %d fits its meters", site, verdict.hour)
            case _:
                pass
