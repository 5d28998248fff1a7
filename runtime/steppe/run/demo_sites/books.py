"""The books of the sites: each one exact, and all pairs in agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from steppe.ledger.statements.amounts import MICRO_DIGITS, grouped_text
from steppe.run.demo_sites.outcome import BooksFound
from steppe.run.demo_sites.places import Places
from steppe.run.sites_settle import SitesComparison, compare_sites
from steppe.sites.settlement.pairs import PairSums


def check_books(places: Places) -> BooksFound:
    """Audit the ledger of each site, and compare what each two say of each other.

    Args:
        places: The sites, which have ended.

    Raises:
        UsageError: A ledger is missing.
    """
    found = compare_sites([each.record for each in places.sites.values()], lambda done, of: None)
    return books_of(found)


def books_of(found: SitesComparison) -> BooksFound:
    """Return what is shown of a comparison, and what does not hold.

    Args:
        found: The comparison.
    """
    faults = [
        f"{pair.home} -> {pair.target}: asked for all receipts settled, found "
        f"{pair.open_receipts} that are not"
        for pair in found.pairs
        if pair.open_receipts
    ]
    energy = [{"site": each.site, "meter_uj": each.meter_uj} for each in found.energy]
    pairs = [
        {**asdict(pair), "mismatches": dict(pair.mismatches), "agrees": not pair.faults}
        for pair in found.pairs
    ]
    document = {"energy": energy, "pairs": pairs, "notes": list(found.notes)}
    return BooksFound(_lines(found), (*found.faults, *faults), document)


def _lines(found: SitesComparison) -> tuple[str, ...]:
    lines = [
        f"books of {each.site}: {_joules(each.meter_uj)} J metered, all of it accounted for"
        for each in found.energy
        if not found.faults
    ]
    return (*lines, *(_pair_line(pair) for pair in found.pairs), *_notes(found.notes))


def _pair_line(pair: PairSums) -> str:
    said = "both agree" if pair.home_owed_uj == pair.owed_uj and not pair.faults else "NO AGREEMENT"
    owed = f"{pair.home} owes {pair.target} {_joules(pair.owed_uj)} J"
    return f"{owed} for {pair.receipts} receipts: {said}"


def _notes(notes: Sequence[str]) -> Sequence[str]:
    return [f"not checked: {note}" for note in notes]


def _joules(micro: int) -> str:
    return grouped_text(micro, MICRO_DIGITS)
