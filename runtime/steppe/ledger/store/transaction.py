"""One transaction of the store: all of it is on disk at its end, or nothing of it.

What is read is kept in memory, and what is changed is written at the end, each table at once: so a
group of a hundred requests takes a few statements. Each call is carried out as a whole or raises
and changes nothing, so one that fails does not harm the others of its group.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sql

from steppe.ledger.admission import Admission, AdmissionRules, AdmissionTerms, Payer, Refusal
from steppe.ledger.entries import (
    REVENUE,
    Hold,
    Movement,
    MovementKind,
    available,
    captured,
    cause_of,
    changes_of,
    given_back,
    held,
    held_for,
)
from steppe.ledger.store.admission import admit, late_parts
from steppe.ledger.store.balances import Balance, Balances, TooLowError
from steppe.ledger.store.holds import Holds
from steppe.ledger.store.log_entries import LogEntries, LogEntry
from steppe.ledger.store.movements import Movements
from steppe.ledger.units import is_tokens, quote_of, series_start


class Transaction:
    """A transaction that writes; `LedgerStore.transaction` makes it.

    Attributes:
        connection: The transaction of the database.
        balances: Its balances.
        movements: Its movements.
        holds: Its holds.
        entries: Its entries of the log.
    """

    def __init__(self, connection: sql.Connection) -> None:
        """Begin on a connection that no other transaction writes beside."""
        self.connection = connection
        self.balances = Balances(connection)
        self.movements = Movements(connection)
        self.holds = Holds(connection)
        self.entries = LogEntries(connection)

    def load(
        self, requests: Sequence[str], tenants: Collection[str] = (), units: Collection[str] = ()
    ) -> None:
        """Read at once what the calls for some requests need; else each call reads its own.

        Args:
            requests: Their ids.
            tenants: The tenants of those that are to be admitted.
            units: The units of which their balances are asked.
        """
        self.holds.load(requests)
        self.movements.load(requests)
        keys = [
            (of(tenant), unit) for unit in units for tenant in tenants for of in (available, held)
        ]
        for hold in (each for request in requests for each in self.holds.of(request)):
            own = (available(hold.tenant), held(hold.tenant), REVENUE)
            keys += [(account, hold.unit) for account in own]
        self.balances.load(keys)
        for unit in filter(is_tokens, units):
            self.balances.load_starting([available(each) for each in tenants], series_start(unit))

    def write(self) -> None:
        """Write what has changed; the end of the transaction does it."""
        for table in (self.entries, self.movements, self.holds, self.balances):
            table.write()

    def open_account(self, tenant: str, unit: str, credit: int) -> None:
        """Give a tenant an account, or change its credit.

        Raises:
            TooLowError: The tenant owes more than that already.
        """
        own = self.balances.at(available(tenant), unit)
        if own.balance < -credit:
            raise TooLowError(own.account, unit, 0, own.balance + credit)
        self.balances.put(Balance(own.account, unit, own.balance, -credit))
        self.balances.put(self.balances.at(held(tenant), unit))

    def move(self, movements: Sequence[Movement], now_us: int) -> bool:
        """Carry out movements, all or none; return whether they are new.

        Raises:
            ConflictError: One of that name with another content was carried out.
            TooLowError: A balance would fall below its floor.
            UsageError: A balance would be larger than the store can keep.
        """
        if self.movements.are_known(movements):
            return False
        self._move(movements, now_us)
        return True

    def hold(self, holds: Sequence[Hold], now_us: int) -> bool:
        """Set the parts of a hold aside for a request; return whether they are new.

        Raises:
            ConflictError: Something else was set aside for it.
            TooLowError: The tenant has not so much.
        """
        if not self.move([held_for(each) for each in holds], now_us):
            return False
        self.holds.add(holds)
        return True

    def admit(
        self, asked: Admission, rules: AdmissionRules, now_us: int
    ) -> AdmissionTerms | Refusal:
        """Decide on a request; what it may cost at most is set aside for it.

        The same admission again has the same terms. A refusal changes nothing.
        """
        return admit(self, asked, rules, now_us)

    def end_request(
        self,
        request: str,
        amount: int,
        entries: Sequence[LogEntry],
        now_us: int,
        tokens: int = 0,
        *,
        payer: Payer | None = None,
    ) -> bool:
        """Charge what a request cost, give the rest of its hold back, and add its entries.

        If the hold is too small, or was given back because it was too old, the payer is charged for
        the rest, as far as it has something free. What is missing then is the operator's. A request
        that never had a hold pays nothing here: its statement adds it up.

        Args:
            request: Its id.
            amount: What it cost.
            entries: What is logged of it.
            now_us: The time, us since the Unix epoch.
            tokens: Its tokens, of its prompt and generated; they are taken from its quote.
            payer: The account that is charged for what the hold does not cover; None for none.

        Returns:
            Whether any of it is new; the same call again changes nothing.

        Raises:
            ConflictError: It ended before with another content.
        """
        new = self.entries.new_of(entries)
        holds = self.holds.of(request)
        moved, rest = _captured(holds, amount, tokens)
        had_hold = holds or (new and self.movements.find(request, MovementKind.HOLD) is not None)
        if rest and payer is not None and had_hold:
            own, late = available(payer.tenant), late_parts(self, payer, rest, now_us)
            moved += [
                Movement(cause_of(request, part), MovementKind.CAPTURE, own, REVENUE, unit, taken)
                for part, (unit, taken) in enumerate(late, len(holds))
            ]
        if moved:
            self._move(moved, now_us)
        if holds:
            self.holds.end(request)
        self.entries.add(new)
        return bool(new or holds)

    def give_back(
        self, request: str, now_us: int, kind: MovementKind = MovementKind.RELEASE
    ) -> bool:
        """Give a hold back that is not used; return whether there was one."""
        holds = self.holds.of(request)
        if not holds:
            return False
        self._move([given_back(each, kind) for each in holds], now_us)
        self.holds.end(request)
        return True

    def give_back_expired(self, now_us: int, most: int) -> int:
        """Give holds back that are too old, at most so many; return how many."""
        requests = self.holds.expired(now_us, most)
        self.load(requests)
        for request in requests:
            self.give_back(request, now_us, MovementKind.EXPIRE)
        return len(requests)

    def add(self, entries: Sequence[LogEntry]) -> int:
        """Add entries to the log; return how many are new.

        Raises:
            ConflictError: One of that kind and id has other bytes.
        """
        new = self.entries.new_of(entries)
        self.entries.add(new)
        return len(new)

    def _move(self, movements: Sequence[Movement], now_us: int) -> None:
        """Carry out movements that are new: all balances are checked before one is kept."""
        changes = changes_of(movements)
        self.balances.load(changes)
        after = [self.balances.at(*key).changed(amount) for key, amount in sorted(changes.items())]
        for each in after:
            self.balances.put(each)
        self.movements.add(movements, now_us)


def _captured(holds: Sequence[Hold], amount: int, tokens: int) -> tuple[list[Movement], int]:
    """Return the movements at the end of a hold, and what of the amount it does not cover."""
    moved, rest = list[Movement](), amount
    for hold in holds:
        if quote_of(hold.unit) is not None:
            moved += captured(hold, min(tokens, hold.amount))
            continue
        taken = min(rest, hold.amount)
        rest -= taken
        moved += captured(hold, taken)
    return moved, rest
