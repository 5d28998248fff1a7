"""What a run has booked and the ledger has not acknowledged: in order, and each step once.

Totals only rise, so what waits in one hour needs only its last totals: while the ledger does not
answer, memory grows with the requests, and these are packed. Steps are sealed before they are
handed over: a step that was ever handed over is part of the state of the driver, so another driver
hands over the same one.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import orjson

from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.ledger.periods.closing import hour_of

CHUNK = 1000
"""Most requests of one step."""
MOST_SEALED = 4
"""Most steps that are handed over at a time."""
BOOK_S, TOTALS_S = 1.0, 10.0
"""Time between two steps, s: with requests, and without."""
MOST_WAITING = 500_000
"""Most requests that wait. Packed, each takes about 100 bytes; a further one gets no receipt."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Hour:
    """What waits in one hour."""

    time_us: int
    totals: BookedTotals
    packed: deque[bytes] = field(default_factory=deque)
    requests: list[BookedRequest] = field(default_factory=list)

    def add(self, requests: Iterable[BookedRequest]) -> None:
        """Add requests; whole chunks are packed."""
        self.requests += requests
        while len(self.requests) >= CHUNK:
            self.packed.append(_packed(self.requests[:CHUNK]))
            del self.requests[:CHUNK]


@dataclass(slots=True)
class BooksOutbox:
    """The steps of the books of a run, until the ledger has them.

    Attributes:
        run: Name of the run.
        boundary: What the energy encloses: `gpu`, `node` or `site`.
        number: Number of the last step that was sealed.
        acknowledged: Number of the last step that the ledger has.
        sealed: Steps to hand over, in order; each stays as it is until the ledger has it.
        totals: All that was counted until now.
        booked: Requests that were added, without those that were lost.
        booked_uj: Energy of these, uJ.
        waiting: Requests that the ledger does not have yet.
        lost: Requests that were too many to wait.
        lost_uj: Energy of these, uJ.
    """

    run: str
    boundary: str
    number: int = 0
    acknowledged: int = 0
    sealed: deque[Booking] = field(default_factory=deque)
    totals: BookedTotals = field(default_factory=BookedTotals)
    booked: int = 0
    booked_uj: int = 0
    waiting: int = 0
    lost: int = 0
    lost_uj: int = 0
    _hours: deque[_Hour] = field(default_factory=deque)
    _time_us: int = 0
    _sealed_s: float = float("-inf")

    @property
    def is_empty(self) -> bool:
        """Whether the ledger has everything."""
        return not self.sealed and not self._hours

    def add(self, requests: Sequence[BookedRequest], totals: BookedTotals, now_us: int) -> None:
        """Add what was booked since the last call, and all that was counted until now.

        Args:
            requests: The requests.
            totals: The totals, with these requests.
            now_us: The time, us since the Unix epoch. A clock that is set back stands still.
        """
        self._time_us = max(self._time_us, now_us)
        if not self._hours or hour_of(self._hours[-1].time_us) != hour_of(self._time_us):
            self._hours.append(_Hour(self._time_us, totals))
        kept = requests[: max(0, MOST_WAITING - self.waiting)]
        self._lose(requests[len(kept) :])
        hour = self._hours[-1]
        hour.add(kept)
        self.waiting += len(kept)
        self.booked += len(kept)
        self.booked_uj += sum(request.energy_uj for request in kept)
        self.totals = replace(totals, unclaimed_uj=totals.unclaimed_uj + self.lost_uj)
        hour.time_us, hour.totals = self._time_us, self.totals

    def seal(self, now_s: float, *, everything: bool = False, is_last: bool = False) -> None:
        """Seal what is due: full chunks, hours that are over, and the rest after a while.

        Args:
            now_s: Monotonic time, s.
            everything: Whether everything is due.
            is_last: Whether the run ends: then everything is due, and the last step says so.
        """
        everything = everything or is_last
        while self._hours and (everything or len(self.sealed) < MOST_SEALED):
            hour = self._hours[0]
            if hour.packed:
                self._seal(hour, _unpacked(hour.packed.popleft()))
                continue
            is_newest = len(self._hours) == 1
            if is_newest and not everything and not self._is_due(hour, now_s):
                return
            self._hours.popleft()
            self._seal(hour, tuple(hour.requests), is_last=is_last and is_newest)
            self._sealed_s = now_s

    def acknowledge(self, number: int) -> None:
        """Forget the steps up to a number: the ledger has them."""
        while self.sealed and self.sealed[0].number <= number:
            booking = self.sealed.popleft()
            self.acknowledged = booking.number
            self.waiting -= len(booking.requests)

    def _seal(
        self, hour: _Hour, requests: tuple[BookedRequest, ...], *, is_last: bool = False
    ) -> None:
        self.number += 1
        booking = Booking(
            run=self.run,
            number=self.number,
            time_us=hour.time_us,
            boundary=self.boundary,
            requests=requests,
            totals=hour.totals,
            is_last=is_last,
        )
        self.sealed.append(booking)

    def _is_due(self, hour: _Hour, now_s: float) -> bool:
        since_s = now_s - self._sealed_s
        return since_s >= TOTALS_S or (bool(hour.requests) and since_s >= BOOK_S)

    def _lose(self, requests: Sequence[BookedRequest]) -> None:
        if not requests:
            return
        if not self.lost:
            _log.error(
                "%d requests wait for the ledger: further ones get no receipt, and their energy is "
                "unclaimed",
                self.waiting,
            )
        self.lost += len(requests)
        self.lost_uj += sum(request.energy_uj for request in requests)


def _packed(requests: Sequence[BookedRequest]) -> bytes:
    return zlib.compress(orjson.dumps(requests), 1)


def _unpacked(packed: bytes) -> tuple[BookedRequest, ...]:
    return tuple(BookedRequest(**values) for values in orjson.loads(zlib.decompress(packed)))
