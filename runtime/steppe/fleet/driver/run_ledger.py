"""Hands the books of a run to the ledger, which writes receipts of them; see `BooksOutbox`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from steppe.config import LedgerSection, RunConfig
from steppe.errors import ReplicaError, UsageError
from steppe.fleet.cluster import call_result, error_line
from steppe.fleet.driver.left_bookings import leave_bookings, left_files, read_bookings
from steppe.fleet.driver.outbox import BooksOutbox
from steppe.fleet.driver.power_totals import PowerTotals
from steppe.ledger.booking import BookedRequest, BookedTotals, Booking
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.records import TickRecord

BEGIN_TIMEOUT_S = 60.0
"""Longest wait for the ledger to take what an earlier run has left, s."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
"""Pause after a call that failed, s: it doubles each time."""
POLL_S = 0.1
US_PER_S = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What another driver needs to go on.

    Attributes:
        outbox: What the ledger does not have yet, and the sums of what was booked.
        power: What flowed at the site.
    """

    outbox: BooksOutbox
    power: PowerTotals


class RunLedger:
    """The books of one run on their way to the ledger. Only `begin` and `end` wait."""

    def __init__(
        self,
        config: RunConfig,
        section: LedgerSection,
        actor: Callable[[], Any],
        clock: Callable[[], float] = time.monotonic,
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            config: The run.
            section: Its section of the ledger.
            actor: Returns the Ray handle of the ledger's actor; None while there is none.
            clock: Returns monotonic time, s.
            epoch_s: Returns the time, s since the Unix epoch.
        """
        self._config, self._section, self._actor = config, section, actor
        self._clock, self._epoch_s = clock, epoch_s
        self._outbox = BooksOutbox("", config.site.boundary)
        self._power = PowerTotals.of(config)
        self._call: Any = None
        self._pause_s, self._retry_s = 0.0, float("-inf")
        self._problem = ""
        self._has_ended = False

    def begin(self, run_id: str) -> None:
        """Hand over what earlier runs have left; a new run begins.

        Args:
            run_id: Name of the run on this machine; in the ledger its time stands before it.

        Raises:
            UsageError: The ledger does not take what an earlier run has left.
        """
        for path in left_files(self._folder):
            self._hand_over_left(path)
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._epoch_s()))
        self._outbox = BooksOutbox(f"{began}-{run_id}", self._config.site.boundary)
        self._has_ended = False
        self._power = PowerTotals.of(self._config)

    def look(self) -> None:
        """Read what the ledger has acknowledged, and hand over what is sealed. No call blocks."""
        self._read()
        actor, sealed = self._actor(), self._outbox.sealed
        if self._call is None and sealed and actor is not None and self._clock() >= self._retry_s:
            self._call = actor.take.remote(tuple(sealed))

    def book(
        self, ticks: Iterable[TickRecord], requests: Sequence[BookedRequest], totals: BookedTotals
    ) -> None:
        """Book what happened since the last call; it is handed over at a later look.

        Between the two the driver writes down its state, so another driver hands over the same.

        Args:
            ticks: The ticks.
            requests: The requests that were recorded.
            totals: All that was counted until now.
        """
        self._add(ticks, requests, totals)
        self._outbox.seal(self._clock())

    def end(
        self,
        ticks: Iterable[TickRecord],
        requests: Sequence[BookedRequest],
        totals: BookedTotals,
        timeout_s: float,
    ) -> None:
        """Book the last step of the run, and wait until the ledger has all of them.

        What it does not take in time is left in its folder, for the next run.

        Args:
            ticks: The last ticks.
            requests: The last requests.
            totals: All that was counted.
            timeout_s: Longest wait, s; 0 if the ledger cannot be reached.
        """
        self._add(ticks, requests, totals)
        self._outbox.seal(self._clock(), is_last=True)
        self._has_ended = True
        self._retry_s, until_s = float("-inf"), self._clock() + timeout_s
        while self._outbox.sealed and self._clock() < until_s:
            self.look()
            if self._call is None:
                time.sleep(POLL_S)
            else:
                ray.wait([self._call], timeout=max(0.0, until_s - self._clock()))
                self._read()
        self.leave()

    def leave(self) -> None:
        """Write what the ledger does not have to its folder; a second call changes nothing."""
        self._outbox.seal(self._clock(), everything=True)
        left = list(self._outbox.sealed)
        if not left:
            return
        self._outbox.sealed.clear()
        requests = sum(len(booking.requests) for booking in left)
        try:
            path = leave_bookings(self._folder, left)
        except UsageError as error:
            self._outbox.waiting, self._outbox.lost = 0, self._outbox.lost + requests
            _log.error("%d requests get no receipt: %s", requests, error)
        else:
            _log.warning("%d requests get their receipts in the next run: %s", requests, path)

    def state(self) -> LedgerState:
        """Return what another driver needs to go on from here."""
        return LedgerState(self._outbox, self._power)

    def go_on(self, state: LedgerState) -> None:
        """Go on with the books of another driver."""
        self._outbox, self._power = state.outbox, state.power

    @property
    def totals(self) -> LedgerTotals:
        """What was booked so far, for the record of the run."""
        outbox = self._outbox
        return LedgerTotals(
            folder=str(self._folder),
            site=self._section.site,
            run=outbox.run,
            bookings=outbox.number,
            requests=outbox.booked,
            requests_uj=outbox.booked_uj,
            meter_uj=sum(outbox.totals.meters.values()),
            idle_uj=outbox.totals.idle_uj,
            transition_uj=outbox.totals.transition_uj,
            unclaimed_uj=outbox.totals.unclaimed_uj,
            waiting=outbox.waiting,
            lost=outbox.lost,
            has_ended=self._has_ended,
        )

    @property
    def _folder(self) -> Path:
        folder = self._section.folder
        assert folder is not None, "the service would not have started"
        return folder

    def _add(
        self, ticks: Iterable[TickRecord], requests: Sequence[BookedRequest], totals: BookedTotals
    ) -> None:
        self._power.add(ticks)
        now_us = round(self._epoch_s() * US_PER_S)
        self._outbox.add(requests, self._power.with_books(totals), now_us)

    def _read(self) -> None:
        """Read the answer to the last call, if it has come."""
        if self._call is None:
            return
        done, _ = ray.wait([self._call], timeout=0)
        if not done:
            return
        call, self._call = self._call, None
        try:
            number: int = ray.get(call)
        except ray.exceptions.RayError as error:
            self._fail(error_line(error))
            return
        before = self._outbox.sealed[0].number
        self._outbox.acknowledge(number)
        if number < before:
            self._fail(f"it has {number} bookings of this run, and {before} is the next one")
        elif self._problem:
            _log.warning("the ledger takes the books again")
            self._pause_s, self._problem = 0.0, ""

    def _fail(self, problem: str) -> None:
        """Wait before the next call; log a problem once."""
        self._pause_s = min(LONGEST_RETRY_S, max(FIRST_RETRY_S, 2.0 * self._pause_s))
        self._retry_s = self._clock() + self._pause_s
        if problem != self._problem:
            waiting = self._outbox.waiting
            _log.warning(
                "the ledger does not take the books: %s; %d requests wait", problem, waiting
            )
        self._problem = problem

    def _hand_over_left(self, path: Path) -> None:
        bookings = read_bookings(path)
        try:
            self._take(bookings)
        except (UsageError, ReplicaError) as error:
            asked = "asked the ledger to take what an earlier run has left"
            raise UsageError(f"{path}: {asked}, found {error}") from error
        path.unlink(missing_ok=True)
        _log.info("%s: the ledger has taken what an earlier run has left", path)

    def _take(self, bookings: Sequence[Booking]) -> None:
        call = self._actor().take.remote(tuple(bookings))
        number: int = call_result(call, "ledger", BEGIN_TIMEOUT_S)
        if bookings and number < bookings[-1].number:
            raise UsageError(f"{number} bookings of {bookings[-1].number}")


def run_ledger(
    config: RunConfig, actor: Callable[[], Any], clock: Callable[[], float]
) -> RunLedger | None:
    """Return the ledger of a run; None if its configuration has none.

    Args:
        config: The run.
        actor: Returns the Ray handle of the ledger's actor.
        clock: Returns monotonic time, s.
    """
    return None if config.ledger is None else RunLedger(config, config.ledger, actor, clock)
