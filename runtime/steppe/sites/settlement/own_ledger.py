"""The ledger of this site, as the settlement reads it: receipts, proofs and the signed head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.log.log import LogReader
from steppe.ledger.receipt import Receipt
from steppe.ledger.service_entry import SETTLEMENT
from steppe.ledger.settlement import Settlement, id_of
from steppe.ledger.signing import Note, PublicKey
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.store.places import entry_of, last_of, receipts_between, receipts_named

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class OwnLog:
    """The signed log of this site at one moment.

    Attributes:
        name: Its name.
        keys: Its public keys, a line each.
        note: Its last signed head; empty without entries.
        size: Number of entries that the head contains.
        reader: Reads entries and proofs.
    """

    name: str
    keys: str
    note: str
    size: int
    reader: LogReader


@dataclass(frozen=True, slots=True)
class LedgerPlaces:
    """Where the ledger of a run is.

    Attributes:
        store: Path or URL of its store.
        log: Folder of its log.
        public_key: File of the public keys of the log.
    """

    store: str
    log: Path
    public_key: Path


class OwnLedger:
    """Reads the ledger of a run beside its service; its methods block."""

    def __init__(self, places: LedgerPlaces) -> None:
        """Open the store.

        Args:
            places: Where it is.

        Raises:
            UsageError: The store cannot be opened.
        """
        self._store, self._log = LedgerStore(places.store), places.log
        self._public_key = places.public_key

    def close(self) -> None:
        """Close it."""
        self._store.close()

    def log(self) -> OwnLog:
        """Return the log as it is now.

        Raises:
            UsageError: The ledger has not started yet, or a file cannot be read.
        """
        with disk_errors(self._public_key):
            keys = self._public_key.read_text()
        known = [PublicKey.read(line) for line in keys.splitlines()]
        if not known:
            raise UsageError(f"{self._public_key}: asked for a key of the log, found none")
        reader = LogReader(self._log, known[0].name, known)
        note = reader.note()
        size = reader.checkpoint().head.size if note else 0
        return OwnLog(known[0].name, keys, note, size, reader)

    def settlement(self, role: str, other: str, end_s: int) -> Settlement | None:
        """Return the logged settlement of a period; None if there is none."""
        with self._store.reading() as connection:
            found = entry_of(connection, SETTLEMENT, id_of(role, other, end_s))
        return None if found is None else Settlement.read(found[1])

    def last_settlement(self, role: str, other: str) -> Settlement | None:
        """Return the last settlement that was logged with another site; None without any."""
        with self._store.reading() as connection:
            found = last_of(connection, SETTLEMENT, f"{role}/{other}/")
        return None if found is None else Settlement.read(found)

    def receipts(self, tenant: str, first: int, until: int, most: int) -> list[tuple[int, bytes]]:
        """Return places and bytes of a tenant's receipts in a range of places."""
        with self._store.reading() as connection:
            return receipts_between(connection, tenant, first, until, most)

    def all_receipts(self, tenant: str, first: int, until: int) -> Iterator[tuple[int, bytes]]:
        """Yield places and bytes of all of a tenant's receipts in a range of places."""
        while found := self.receipts(tenant, first, until, _CHUNK):
            yield from found
            first = found[-1][0] + 1

    def energy_before_uj(self, tenant: str, request: str, place: int) -> int:
        """Return the energy of the receipts of a request before a place, uJ."""
        with self._store.reading() as connection:
            found = receipts_named(connection, tenant, request, place)
        receipts = [(at, Receipt.read(entry)) for at, entry in found]
        if not receipts:
            return 0
        ids = {one.id for _, one in receipts}
        later = self.all_receipts(tenant, receipts[0][0] + 1, place)
        corrections = (Receipt.read(entry) for _, entry in later)
        changed_uj = sum(one.energy_uj for one in corrections if one.corrects in ids)
        return sum(one.energy_uj for _, one in receipts) + changed_uj

    def entry(self, kind: str, id_: str) -> tuple[int, bytes] | None:
        """Return place and bytes of an entry; None if there is none of this id."""
        with self._store.reading() as connection:
            return entry_of(connection, kind, id_)


def head_size(note: str) -> int:
    """Return the size that a checkpoint names, unchecked; 0 without one."""
    if not note:
        return 0
    return int(Note.read(note).text.split("\n")[1])
