"""Closing hours and publishing entries of a ledger that no run serves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import UsageError
from steppe.ledger.log.log import Log
from steppe.ledger.periods.closing import closes_us
from steppe.ledger.periods.period import Period
from steppe.ledger.service.opening import NEXT_KEY
from steppe.ledger.signing import PrivateKey
from steppe.ledger.store.books import open_hours
from steppe.ledger.store.closing import close, due
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.run.ledger_folder import KEY, LedgerFolder
from steppe.services.folder_lock import FolderLock

MOST = 16_384
"""Most entries that are added to the log at once."""


@dataclass(frozen=True, slots=True)
class ClosedHours:
    """What was closed.

    Attributes:
        periods: The books of the hours, in the order in which they were closed.
        next_us: When the next hour with work closes, us since the Unix epoch; None for none.
    """

    periods: tuple[Period, ...]
    next_us: int | None


@contextmanager
def held(ledger: LedgerFolder) -> Generator[None]:
    """Keep other processes from writing to a ledger's log.

    Raises:
        UsageError: A run serves it; this closes its hours and publishes its entries itself.
    """
    lock = FolderLock(ledger.folder, 0, "ledger")
    try:
        yield
    finally:
        lock.release()


def close_hours(store: LedgerStore, now_us: int) -> ClosedHours:
    """Close all hours that are due, the oldest first.

    Args:
        store: The store.
        now_us: The time, us since the Unix epoch.

    Raises:
        PeriodError: The book of an hour does not add up; those before it are closed.
    """
    periods = list[Period]()
    while found := _due(store, now_us):
        for site, boundary, hour in found:
            with store.transaction() as transaction:
                periods.append(close(transaction, site, boundary, hour, now_us).period)
    with store.reading() as connection:
        still_open = open_hours(connection)
    next_us = min((closes_us(hour.hour) for hour in still_open), default=None)
    return ClosedHours(tuple(periods), next_us)


def publish(ledger: LedgerFolder, store: LedgerStore, signing_key: Path | None = None) -> int:
    """Add what the log does not have yet, and sign its head; return the number of its entries.

    Args:
        ledger: The ledger; nothing else may write it, see `held`.
        store: Its store.
        signing_key: File of the private key; that in the folder without it. While keys change, the
            next one beside it signs, too.

    Raises:
        DiskFullError: No space is left.
        UsageError: There is no key, or a file cannot be read or written.
    """
    path = signing_key or ledger.folder / KEY
    if not path.exists():
        asked = f"asked for the private key that signs the log (--signing-key), found no {path}"
        raise UsageError(f"{ledger.folder}: {asked}")
    coming = path.with_name(path.name + NEXT_KEY)
    keys = [PrivateKey.read(file) for file in (path, coming) if file.exists()]
    log = Log(ledger.log, keys[0].name, keys)
    while entries := store.entries(log.head.size, MOST):
        log.add(entries)
    return log.head.size


def _due(store: LedgerStore, now_us: int) -> list[tuple[str, str, int]]:
    with store.reading() as connection:
        return due(connection, now_us)
