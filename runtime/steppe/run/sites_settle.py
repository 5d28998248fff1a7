"""Reads the ledgers of several sites, checks each of them, and compares them with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.audit.book_audit import kind_of
from steppe.ledger.audit.energy import EnergySums
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.run.ledger_audit import audit
from steppe.run.ledger_folder import LedgerFolder, ledger_folder
from steppe.sites.settlement.pairs import PairSums, SiteBooks, check_pairs
from steppe.sites.settlement.sent import Sent

SITES, NOTES = "sites", "sent-*.jsonl"
"""Folder of the sites service in a record, and the files of its notes."""


@dataclass(frozen=True, slots=True)
class SitesComparison:
    """What the ledgers of several sites say.

    Attributes:
        pairs: What went between each two sites.
        energy: Where the energy of each site went, by its own meters.
        faults: What does not hold, a line each.
        notes: What could not be checked, a line each.
    """

    pairs: tuple[PairSums, ...]
    energy: tuple[EnergySums, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def compare_sites(
    folders: Sequence[Path], on_entries: Callable[[int, int], None]
) -> SitesComparison:
    """Check the ledgers of several sites, and what they say of each other.

    Args:
        folders: Records of the sites, or folders of their ledgers.
        on_entries: Called with the entries of a log checked so far, and all of them.

    Raises:
        UsageError: A folder has no ledger with a log, or two are of one site.
    """
    sites: dict[str, SiteBooks] = {}
    faults, notes, energy = list[str](), list[str](), list[EnergySums]()
    for folder in folders:
        ledger = ledger_folder(folder)
        audited = audit(ledger, on_entries)
        books = _books(ledger, folder, audited.published)
        if books.site in sites:
            raise UsageError(f"{folder}: asked for each site once, found {books.site} twice")
        sites[books.site] = books
        energy += audited.energy
        faults += [f"{books.site}: {fault}" for fault in audited.faults]
        notes += [f"{books.site}: {note}" for note in audited.notes]
    pairs, missing = check_pairs(sites)
    faults += [fault for pair in pairs for fault in pair.faults]
    return SitesComparison(tuple(pairs), tuple(energy), tuple(faults), (*notes, *missing))


def _books(ledger: LedgerFolder, folder: Path, size: int) -> SiteBooks:
    reader = ledger.reader()
    names: Counter[str] = Counter()
    books = SiteBooks("", reader.origin, notes=_notes(folder, ledger.folder))
    for place, entry in enumerate(reader.entries(size)):
        kind = kind_of(entry)
        books.take(place, kind, entry)
        if kind in (RECEIPT, PERIOD):
            names[orjson.loads(entry)["site"]] += 1
    if len(names) > 1:
        found = ", ".join(sorted(names))
        raise UsageError(f"{folder}: asked for the ledger of one site, found {found}")
    books.site = next(iter(names), "") or _named(books)
    return books


def _named(books: SiteBooks) -> str:
    """Return the site of a ledger without receipts: that of all its settlements, or of its log."""
    pairs = [{home, target} for home, target, _ in books.settlements]
    common = set.intersection(*pairs) if pairs else set()
    if books.log in common or len(common) != 1:
        return books.log
    return common.pop()


def _notes(folder: Path, ledger: Path) -> dict[str, list[Sent]] | None:
    """Return the notes of what a site sent, by target; None if there are none."""
    places = (folder / SITES, ledger.parent / SITES)
    place = next((one for one in places if any(one.glob(NOTES))), None)
    if place is None:
        return None
    found: dict[str, list[Sent]] = {}
    for note in _read(place):
        found.setdefault(note.target, []).append(note)
    return found


def _read(folder: Path) -> Iterator[Sent]:
    for path in sorted(folder.glob(NOTES)):
        with disk_errors(path):
            lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                yield Sent.read(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                if number < len(lines):  # the last one may be cut off by a crash
                    raise UsageError(f"{path}, line {number}: {error}") from error
