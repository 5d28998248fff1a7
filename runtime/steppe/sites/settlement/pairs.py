"""Do the logs of several sites say the same of what went between them? A pure check of entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.service_entry import REMOTE_ENERGY, SETTLEMENT
from steppe.ledger.settlement import Owed, RemoteEnergy, Settlement, settlement_of
from steppe.sites.peer import SITE_TENANT
from steppe.sites.settlement.compare import AcceptedRequest, LoggedReceipt, Noted, compare
from steppe.sites.settlement.sent import Sent

_SUMS = ("receipts", "prompt_tokens", "output_tokens", "energy_uj", "digest")


@dataclass(slots=True)
class SiteBooks:
    """What the log of a site has of its settlements with others.

    Attributes:
        site: The site.
        log: Name of its log.
        served: Receipts for other sites with their places, by home.
        settlements: What it logged, by home, target and end of the period.
        remote: How it divided what it owes, by target and end of the period.
        notes: Notes of what it sent, by target; None if they are not known.
    """

    site: str
    log: str
    served: dict[str, list[tuple[int, Receipt, bytes]]] = field(default_factory=dict)
    settlements: dict[tuple[str, str, int], Settlement] = field(default_factory=dict)
    remote: dict[tuple[str, int], list[RemoteEnergy]] = field(default_factory=dict)
    notes: Mapping[str, Sequence[Sent]] | None = None

    def take(self, place: int, kind: str, entry: bytes) -> None:
        """Take up an entry of the log.

        Raises:
            UsageError: It is not of its form.
        """
        if kind == RECEIPT:
            receipt = Receipt.read(entry)
            if receipt.tenant.startswith(SITE_TENANT):
                home = receipt.tenant.removeprefix(SITE_TENANT)
                self.served.setdefault(home, []).append((place, receipt, entry))
        elif kind == SETTLEMENT:
            made = Settlement.read(entry)
            self.settlements[made.home, made.target, made.end_s] = made
        elif kind == REMOTE_ENERGY:
            part = RemoteEnergy.read(entry)
            self.remote.setdefault((part.target, part.end_s), []).append(part)

    def of(self, home: str, target: str) -> list[Settlement]:
        """Return what it logged of a pair, by time."""
        found = [each for key, each in self.settlements.items() if key[:2] == (home, target)]
        return sorted(found, key=lambda each: each.end_s)


@dataclass(slots=True)
class PairSums:
    """What went from one site to another.

    Attributes:
        home: The site that sent, and pays.
        target: The site that served.
        periods: Number of settlements of the target.
        receipts: Receipts in them.
        output_tokens: Tokens of these.
        energy_uj: Their energy, uJ.
        owed_uj: What the target says is owed, uJ.
        home_owed_uj: What the home says it owes, uJ.
        open_receipts: Receipts that are in no settlement yet.
        open_uj: Their energy, uJ.
        mismatches: Number of mismatches by kind, as the home logged them.
        faults: What does not agree, a line each.
    """

    home: str
    target: str
    periods: int = 0
    receipts: int = 0
    output_tokens: int = 0
    energy_uj: int = 0
    owed_uj: int = 0
    home_owed_uj: int = 0
    open_receipts: int = 0
    open_uj: int = 0
    mismatches: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def check_pairs(sites: Mapping[str, SiteBooks]) -> tuple[list[PairSums], list[str]]:
    """Compare what sites say of each pair of them.

    Returns:
        The sums of each pair between which something went; and notes of what was not compared.
    """
    pairs = {(home, each.site) for each in sites.values() for home in each.served}
    pairs |= {key[:2] for each in sites.values() for key in each.settlements}
    found, notes = [], []
    for home, target in sorted(pairs):
        missing = [name for name in (home, target) if name not in sites]
        if missing:
            shown = " and ".join(missing)
            notes.append(f"{home} -> {target}: not compared, the ledger of {shown} was not given")
        else:
            found.append(_pair(sites[home], sites[target]))
    return found, notes


def _pair(home: SiteBooks, target: SiteBooks) -> PairSums:
    sums = PairSums(home.site, target.site)
    theirs, place = target.of(home.site, target.site), 0
    receipts = target.served.get(home.site, [])
    for each in theirs:
        _check_claimed(each, place, receipts, target.log, sums)
        place = each.until
        sums.periods += 1
        sums.receipts += each.receipts
        sums.output_tokens += each.output_tokens
        sums.energy_uj += each.energy_uj
        sums.owed_uj += each.owed_uj
    _check_home(home, theirs, sums)
    settled = [one for one in receipts if one[0] < place]
    still_open = [one for one in receipts if one[0] >= place]
    sums.open_receipts = len(still_open)
    sums.open_uj = sum(one.energy_uj for _, one, _ in still_open)
    if home.notes is not None:
        _check_open(home, target, settled, still_open, sums)
    return sums


def _check_claimed(
    claimed: Settlement,
    place: int,
    receipts: Sequence[tuple[int, Receipt, bytes]],
    log: str,
    sums: PairSums,
) -> None:
    """Check a settlement of a target against the receipts of its own log."""
    where = _where(claimed)
    if claimed.log != log:
        sums.faults.append(f"{where}: asked for places in {log}, found those in {claimed.log}")
    if claimed.first != place:
        sums.faults.append(f"{where}: asked to begin at place {place}, found {claimed.first}")
    own = [
        Owed(receipt, entry, 0)
        for at, receipt, entry in receipts
        if claimed.first <= at < claimed.until
    ]
    found = settlement_of(claimed, own)
    for name in _SUMS:
        if getattr(found, name) != getattr(claimed, name):
            asked = f"asked for {getattr(found, name)}, the sum of its receipts"
            sums.faults.append(f"{where}: {name}: {asked}, found {getattr(claimed, name)}")


def _check_home(home: SiteBooks, theirs: Iterable[Settlement], sums: PairSums) -> None:
    """Compare what a home logged with what the target logged, and with its division."""
    own = {each.end_s: each for each in home.of(sums.home, sums.target)}
    claimed = {each.end_s: each for each in theirs}
    for end_s in sorted(own.keys() | claimed.keys()):
        mine, other = own.get(end_s), claimed.get(end_s)
        if mine is not None:
            sums.home_owed_uj += mine.owed_uj
            _check_division(home, mine, sums)
        if mine == other:
            continue
        shown = mine or other
        assert shown is not None, "one of both is there"
        said = f"{home.site} says {_said(mine)}, {sums.target} says {_said(other)}"
        sums.faults.append(f"{_where(shown)}: {said}")
        sums.faults += _listed(home, sums.target, end_s)
    for (target, _), parts in sorted(home.remote.items()):
        if target != sums.target:
            continue
        for part in parts:
            sums.mismatches.update(each.what for each in part.mismatches)


def _listed(home: SiteBooks, target: str, end_s: int) -> list[str]:
    """Return the mismatches that a home logged for a period, a line each."""
    found = [each for part in home.remote.get((target, end_s), []) for each in part.mismatches]
    return [f"  {each.what}: request {each.request}: {each.text}" for each in found]


def _check_division(home: SiteBooks, own: Settlement, sums: PairSums) -> None:
    """Check that the parts of the tenants add up to a settlement."""
    parts = home.remote.get((own.target, own.end_s), [])
    shares = [share for part in parts if part.settlement == own.hash for share in part.tenants]
    for name in ("receipts", "prompt_tokens", "output_tokens", "energy_uj", "owed_uj"):
        found = sum(getattr(share, name) for share in shares)
        if found != getattr(own, name):
            asked = f"asked for {getattr(own, name)} over all tenants"
            sums.faults.append(f"{_where(own)}: {name}: {asked}, found {found}")


def _check_open(
    home: SiteBooks,
    target: SiteBooks,
    settled: Sequence[tuple[int, Receipt, bytes]],
    still_open: Sequence[tuple[int, Receipt, bytes]],
    sums: PairSums,
) -> None:
    """Compare the receipts that are in no settlement yet with the notes of the home."""
    known: dict[str, AcceptedRequest] = {}
    for _, one, _ in settled:
        before = known.get(one.request)
        energy_uj = one.energy_uj + (0 if before is None else before.energy_uj)
        id_ = one.id if before is None else before.receipt
        known[one.request] = AcceptedRequest(one.request, id_, "", energy_uj, energy_uj)
    sent = {note.request: note for note in (home.notes or {}).get(target.site, ())}
    empty = Settlement(home.site, target.site, 0, 1, target.log, 0, 0)
    claims = [LoggedReceipt(receipt, entry) for _, receipt, entry in still_open]
    compared = compare(empty, claims, Noted(sent, known))
    refused = sums.open_receipts - len(compared.accepted)
    if refused:
        sums.faults.append(f"{sums.home} -> {sums.target}, not settled: {refused} receipts refused")
    for each in compared.mismatches:
        sums.mismatches[each.what] += 1
        if refused:
            sums.faults.append(f"  {each.what}: request {each.request}: {each.text}")


def _where(settlement: Settlement) -> str:
    pair = f"{settlement.home} -> {settlement.target}"
    return f"{pair}, period {settlement.period} of {settlement.length_s} s"


def _said(settlement: Settlement | None) -> str:
    if settlement is None:
        return "nothing"
    return f"{settlement.receipts} receipts, {settlement.owed_uj} uJ owed"
