"""Certificates of green energy in the store: each Wh is matched to one hour, and cancelled once.

All calls are within a transaction of the caller. What is left of a certificate is kept beside its
balance, in an index that holds no used ones, so that an hour finds what it may use at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sql

from steppe.ledger.entries import ISSUED, Movement, MovementKind, available
from steppe.ledger.green.certificates import (
    KIND,
    Certificate,
    GreenError,
    cancel_name,
    cancelled,
    issued,
    match_name,
    matched,
    matched_to,
    sent,
)
from steppe.ledger.store.log_entries import LogEntry
from steppe.ledger.store.tables import BALANCES, CERTIFICATES, ENTRIES, HOLDINGS
from steppe.ledger.store.transaction import Transaction

MOST_USED = 200
"""Certificates that one match uses at most."""
_OWN, _GRANULAR, _GEC = 0, 1, 2
"""The turns: own generation, other generation of the hour, GECs."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What an owner has of a certificate, Wh.

    Attributes:
        certificate: The certificate.
        owner: The owner.
        free_wh: What may still be matched.
        matched_wh: What is matched and not cancelled.
    """

    certificate: Certificate
    owner: str
    free_wh: int
    matched_wh: int


class Register:
    """The certificates, within a transaction that writes."""

    def __init__(self, transaction: Transaction, now_us: int) -> None:
        """Use a transaction.

        Args:
            transaction: The transaction.
            now_us: The time of what happens in it, us since the Unix epoch.
        """
        self._transaction, self._now_us = transaction, now_us
        self._connection = transaction.connection

    def find(self, certificate: str) -> Certificate | None:
        """Return a certificate; None if there is none of this id."""
        found = self._transaction.entries.find(KIND, certificate)
        return None if found is None else Certificate.read(found)

    def balance_wh(self, account: str, certificate: Certificate) -> int:
        """Return what an account has of a certificate, Wh."""
        return self._transaction.balances.at(account, certificate.unit).balance

    def load(self, certificates: Sequence[Certificate]) -> None:
        """Read what taking certificates in needs, at once; without it each call reads its own."""
        self._transaction.entries.load(KIND, [each.id for each in certificates])
        self._transaction.movements.load([each.unit for each in certificates])
        accounts = [(available(each.owner), each.unit) for each in certificates]
        self._transaction.balances.load(
            [*accounts, *((ISSUED, each.unit) for each in certificates)]
        )

    def issue(self, certificate: Certificate) -> bool:
        """Take a certificate in, made here or imported; return whether it is new.

        Raises:
            GreenError: Another one has its id, or stands for the same generation.
        """
        where = f"certificate {certificate.id}: asked to take it in"
        if (known := self.find(certificate.id)) is not None:
            if known != certificate:
                raise GreenError(f"{where}, found another of {known.producer}, {known.wh} Wh")
            return False
        if other := self.doubled_by(certificate):
            found = f"{certificate.producer} has {other} for the same generation"
            raise GreenError(f"{where}, {found}")
        self._add(certificate)
        return True

    def doubled_by(self, certificate: Certificate) -> str | None:
        """Return another certificate for generation that this one stands for.

        There may be several granular ones of a plant and hour, but only one that the plant itself
        issues for all that it generated, and never a GEC as well.
        """
        c = CERTIFICATES.c
        same = (c.producer == certificate.producer) & (c.source == certificate.generated_by)
        at_once = (c.to_hour > certificate.from_hour) & (c.from_hour < certificate.to_hour)
        other_form = (c.form != certificate.form) | (c.is_own != certificate.is_own)
        query = sql.select(c.form, c.id).where(same, at_once, other_form, c.id != certificate.id)
        row = self._connection.execute(query.limit(1)).first()
        return None if row is None else f"{row.form} {row.id}"

    def match(
        self, owner: str, zone: str, hour: int, room_wh: int
    ) -> list[tuple[Certificate, int]]:
        """Match certificates to the load of an hour; return those that are used, and their Wh.

        The owner's own generation comes first, then what is of the same hour, then GECs; of each
        the ones that end first.

        Args:
            owner: The owner of the load and of the certificates.
            zone: Its grid zone.
            hour: The hour, hours since the Unix epoch.
            room_wh: The load that is not matched yet, Wh.
        """
        used: list[tuple[Certificate, int]] = []
        for turn in (_OWN, _GRANULAR, _GEC):
            for id_, free_wh in self._fitting(owner, zone, hour, turn):
                wh = min(room_wh, free_wh)
                if wh <= 0 or len(used) == MOST_USED:
                    break
                used.append((self._known(id_), wh))
                room_wh -= wh
        moved = [matched_to(each, owner, hour, wh) for each, wh in used]
        self._transaction.move(moved, self._now_us)
        for each, _ in used:
            self._keep(each, owner)
        return used

    def send(self, cause: str, certificate: str, giver: str, taker: str, wh: int) -> bool:
        """Give Wh to another owner, with the id of what caused it; return whether it is new.

        Raises:
            GreenError: There is no such certificate.
            TooLowError: The giver has not so much that is not matched.
            UsageError: It is a part of a GEC, or nothing.
        """
        known = self._known(certificate)
        is_new = self._transaction.move([sent(cause, known, giver, taker, wh)], self._now_us)
        for owner in (giver, taker):
            self._keep(known, owner)
        return is_new

    def cancel(self, certificate: str, owner: str) -> list[Movement]:
        """Cancel what an owner has matched of a certificate, for good; a GEC's rest expires.

        Raises:
            GreenError: It is cancelled already, or nothing of it is matched.
        """
        known = self._known(certificate)
        where = f"certificate {certificate}: asked to cancel it"
        if self._transaction.movements.find(cancel_name(certificate, owner), MovementKind.CAPTURE):
            raise GreenError(f"{where}, found it cancelled")
        used_wh = self.balance_wh(matched(owner), known)
        if not used_wh:
            raise GreenError(f"{where}, found it unused by {owner}")
        free_wh = self.balance_wh(available(owner), known)
        movements = cancelled(known, owner, used_wh, free_wh)
        self._transaction.move(movements, self._now_us)
        self._keep(known, owner)
        return movements

    def _add(self, certificate: Certificate) -> None:
        row = {
            "id": certificate.id,
            "form": certificate.form,
            "producer": certificate.producer,
            "source": certificate.generated_by,
            "is_own": certificate.is_own,
            "from_hour": certificate.from_hour,
            "to_hour": certificate.to_hour,
        }
        self._connection.execute(sql.insert(CERTIFICATES), row)
        entry = LogEntry(KIND, certificate.id, "", self._now_us, certificate.entry)
        self._transaction.add([entry])
        self._transaction.move([issued(certificate)], self._now_us)
        self._keep(certificate, certificate.owner)

    def _keep(self, certificate: Certificate, owner: str) -> None:
        """Write what is left to an owner of a certificate, as its balance says."""
        c = HOLDINGS.c
        free_wh = self.balance_wh(available(owner), certificate)
        one = (c.owner == owner) & (c.certificate == certificate.id)
        update = sql.update(HOLDINGS).where(one).values(free_wh=free_wh)
        if self._connection.execute(update).rowcount:
            return
        turn = _GRANULAR if certificate.form == "granular" else _GEC
        row = {
            "owner": owner,
            "certificate": certificate.id,
            "zone": certificate.zone,
            "turn": _OWN if certificate.is_own and certificate.producer == owner else turn,
            "from_hour": certificate.from_hour,
            "to_hour": certificate.to_hour,
            "free_wh": free_wh,
        }
        self._connection.execute(sql.insert(HOLDINGS), row)

    def _fitting(self, owner: str, zone: str, hour: int, turn: int) -> list[tuple[str, int]]:
        """Return the ids of certificates that an hour may use, and what is left of them, Wh."""
        rows = self._connection.execute(free_of(owner, zone, turn, hour)).all()
        movements = self._transaction.movements
        names = {row.certificate: match_name(row.certificate, owner, hour) for row in rows}
        movements.load(names.values())
        return [
            (row.certificate, row.free_wh)
            for row in rows
            if movements.find(names[row.certificate], MovementKind.HOLD) is None
        ]

    def _known(self, certificate: str) -> Certificate:
        found = self.find(certificate)
        if found is None:
            raise GreenError(f"certificate {certificate}: asked for it, found none of this id")
        return found


def free_of(owner: str, zone: str, turn: int, hour: int) -> sql.Select[tuple[str, int]]:
    """Return the query of the certificates that an hour may use, and what is left of them, Wh."""
    c = HOLDINGS.c
    # In the text of the query, not as a parameter: SQLite then knows that the index has all rows.
    is_left = c.free_wh > sql.literal_column("0")
    place = (c.owner == owner) & (c.zone == zone) & (c.turn == turn) & is_left
    query = sql.select(c.certificate, c.free_wh)
    query = query.where(place, c.to_hour > hour, c.from_hour <= hour)
    return query.order_by(c.to_hour, c.certificate).limit(2 * MOST_USED)


def holdings(connection: sql.Connection, since_hour: int, until_hour: int) -> list[Holding]:
    """Return who has what of the certificates that may be used in some hours, by their first hour.

    Args:
        connection: A transaction that reads.
        since_hour: The first hour, hours since the Unix epoch.
        until_hour: The hour after the last one.
    """
    c = HOLDINGS.c
    named = (ENTRIES.c.kind == KIND) & (ENTRIES.c.id == c.certificate)
    query = sql.select(c.owner, c.free_wh, ENTRIES.c.bytes).join(ENTRIES, named)
    query = query.where(c.from_hour < until_hour, c.to_hour > since_hour)
    rows = connection.execute(query.order_by(c.from_hour, c.certificate, c.owner)).all()
    used = _matched_wh(connection, {row.owner for row in rows})
    found = []
    for row in rows:
        known = Certificate.read(row.bytes)
        found.append(Holding(known, row.owner, row.free_wh, used.get((row.owner, known.unit), 0)))
    return found


def _matched_wh(connection: sql.Connection, owners: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return what owners have matched and not cancelled, Wh, by owner and unit."""
    c, found = BALANCES.c, dict[tuple[str, str], int]()
    for owner in owners:
        query = sql.select(c.unit, c.balance).where(c.account == matched(owner), c.balance > 0)
        for row in connection.execute(query):
            found[owner, row.unit] = row.balance
    return found
