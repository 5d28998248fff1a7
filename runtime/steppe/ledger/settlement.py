"""Entries of settlements between sites: what a home owes a target for the requests of a period.

Both sites log the same `Settlement`, byte for byte, if they agree. Its receipts are those of the
home in a range of places of the target's log, so none is left out and none counts twice. The home
logs how it divides it among its tenants, and what did not fit, as `RemoteEnergy` beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt, canonical, checked, read_entry
from steppe.ledger.service_entry import REMOTE_ENERGY, SETTLEMENT, ServiceEntry
from steppe.ledger.tree import EMPTY_ROOT, head_of, leaf_hash

VERSION = 1
TENANTS_OF_PART, MISMATCHES_OF_PART = 100, 50
"""Most tenants and mismatches of one entry: it has 64 KiB at most."""
NONE = EMPTY_ROOT.hex()
"""Digest of no receipts."""
_HASH = re.compile(r"[0-9a-f]{64}")
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a home owes a target for the receipts of one period.

    Attributes:
        home: The site that sent the requests, and pays.
        target: The site that served them.
        period: Number of the period: it ends `(period + 1) * length_s` after the Unix epoch, by the
            clock of the target.
        length_s: Length of the period, s.
        log: Name of the target's log.
        first: Place in that log from which on its receipts are.
        until: Place before which they are: the first one of the next period.
        receipts: Number of receipts, corrections too.
        prompt_tokens: Tokens of their prompts.
        output_tokens: Tokens generated.
        energy_uj: Their energy, from the meters of the target, uJ.
        owed_uj: What of it the home owes, uJ: of each request no more than its token says.
        digest: Root of the tree of their entries, sorted, hexadecimal.
    """

    home: str
    target: str
    period: int
    length_s: int
    log: str
    first: int
    until: int
    receipts: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    energy_uj: int = 0
    owed_uj: int = 0
    digest: str = NONE

    @property
    def end_s(self) -> int:
        """End of the period, s since the Unix epoch."""
        return (self.period + 1) * self.length_s

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": SETTLEMENT, "v": VERSION, **asdict(self)})

    @property
    def hash(self) -> str:
        """SHA-256 of its entry, hexadecimal."""
        return hashlib.sha256(self.entry).hexdigest()

    def logged_by(self, site: str) -> ServiceEntry:
        """Return it as what one of its two sites logs."""
        return ServiceEntry(SETTLEMENT, self.id_at(site), self.end_s * _US, self.entry)

    def id_at(self, site: str) -> str:
        """Return its name in the log of one of its two sites."""
        if site == self.target:
            return id_of("served", self.home, self.end_s)
        return id_of("sent", self.target, self.end_s)

    @classmethod
    def read(cls, entry: bytes) -> Settlement:
        """Return the settlement of an entry.

        Raises:
            UsageError: It is none, or a field is missing, unknown, of another type or out of range.
        """
        found = cls(**checked(cls, read_entry(entry, SETTLEMENT, VERSION), SETTLEMENT))
        if not _HASH.fullmatch(found.digest):
            raise UsageError(f"settlement.digest: asked for a SHA-256, found {found.digest!r:.80}")
        if not (0 <= found.first <= found.until and found.length_s > 0 and found.period >= 0):
            shown = f"{found.first} to {found.until} in period {found.period} of {found.length_s} s"
            raise UsageError(f"settlement: asked for a range of places in a period, found {shown}")
        return found


@dataclass(frozen=True, slots=True)
class TenantShare:
    """What of a settlement a tenant of the home has caused.

    Attributes:
        tenant: The tenant.
        receipts: Number of receipts, corrections too.
        prompt_tokens: Tokens of their prompts.
        output_tokens: Tokens generated.
        energy_uj: Their energy, uJ.
        owed_uj: What of it the home owes, uJ.
    """

    tenant: str
    receipts: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    energy_uj: int = 0
    owed_uj: int = 0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What does not fit between what the home noted and what the target signed.

    Attributes:
        what: Its kind, such as `missing_there`.
        request: Id of the request.
        receipt: Id of the receipt; empty without one.
        text: One line for people.
    """

    what: str
    request: str
    receipt: str
    text: str


@dataclass(frozen=True, slots=True)
class RemoteEnergy:
    """How a home divides a settlement among its tenants, or a part of that; and what did not fit.

    Attributes:
        home: The site that logs it.
        target: The site that served.
        period: Number of the period, as in `Settlement`.
        length_s: Length of the period, s.
        settlement: SHA-256 of the home's settlement; empty if no receipt was accepted.
        part: Number of this part, from 0.
        parts: Number of parts.
        tenants: Tenants of this part, by name.
        mismatches: Mismatches of this part.
        mismatches_all: Number of mismatches that there were; those beyond the last part are only in
            the folder of the sites service.
    """

    home: str
    target: str
    period: int
    length_s: int
    settlement: str
    part: int
    parts: int
    tenants: tuple[TenantShare, ...]
    mismatches: tuple[Mismatch, ...]
    mismatches_all: int

    @property
    def end_s(self) -> int:
        """End of the period, s since the Unix epoch."""
        return (self.period + 1) * self.length_s

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": REMOTE_ENERGY, "v": VERSION, **asdict(self)})

    @property
    def logged(self) -> ServiceEntry:
        """It as what the home logs."""
        id_ = f"{id_of('sent', self.target, self.end_s)}/{self.part}"
        return ServiceEntry(REMOTE_ENERGY, id_, self.end_s * _US, self.entry)

    @classmethod
    def read(cls, entry: bytes) -> RemoteEnergy:
        """Return what an entry says.

        Raises:
            UsageError: It is none, or a field is missing, unknown, or of another type.
        """
        values = read_entry(entry, REMOTE_ENERGY, VERSION)
        for name, record in (("tenants", TenantShare), ("mismatches", Mismatch)):
            items = values.get(name)
            if not isinstance(items, list):
                raise UsageError(f"{REMOTE_ENERGY}.{name}: asked for a list, found {items!r:.60}")
            where = f"{REMOTE_ENERGY}.{name}"
            values[name] = tuple(
                record(**checked(record, item, f"{where}[{number}]"))
                for number, item in enumerate(items)
            )
        return cls(**checked(cls, values, REMOTE_ENERGY))


@dataclass(frozen=True, slots=True)
class Owed:
    """A receipt of a settlement, and what the home owes for it.

    Attributes:
        receipt: The receipt, or a correction: then all numbers are differences.
        entry: Its bytes.
        owed_uj: What the home owes, uJ.
    """

    receipt: Receipt
    entry: bytes
    owed_uj: int


def id_of(role: str, other: str, end_s: int) -> str:
    """Return the name of a settlement in a log.

    Args:
        role: What the site of the log did: `sent` or `served`.
        other: The other site.
        end_s: End of the period, s since the Unix epoch.
    """
    return f"{role}/{other}/{end_s:012d}"


def owed_change_uj(before_uj: int, change_uj: int, most_uj: int | None) -> int:
    """Return what more a home owes for a request, uJ.

    Args:
        before_uj: Energy of the earlier receipts of the request, uJ.
        change_uj: Energy of its next receipt, uJ; below 0 if that corrects it.
        most_uj: Most energy that the home pays for, uJ; None: all of it.
    """
    if most_uj is None:
        return change_uj
    return min(before_uj + change_uj, most_uj) - min(before_uj, most_uj)


def settlement_of(empty: Settlement, owed: Sequence[Owed]) -> Settlement:
    """Return the settlement of receipts.

    Args:
        empty: It without any: whose, of which period, and which places.
        owed: The receipts.
    """
    return Settlement(
        empty.home,
        empty.target,
        empty.period,
        empty.length_s,
        empty.log,
        empty.first,
        empty.until,
        len(owed),
        sum(one.receipt.prompt_tokens for one in owed),
        sum(one.receipt.output_tokens for one in owed),
        sum(one.receipt.energy_uj for one in owed),
        sum(one.owed_uj for one in owed),
        head_of([leaf_hash(entry) for entry in sorted(one.entry for one in owed)]).root.hex(),
    )


def remote_energy_of(
    settlement: Settlement, shares: Iterable[TenantShare], mismatches: Sequence[Mismatch]
) -> list[RemoteEnergy]:
    """Return the entries that divide a settlement among tenants; none without any content."""
    tenants = sorted(shares, key=lambda share: share.tenant)
    if not tenants and not mismatches:
        return []
    parts = max(1, -(-len(tenants) // TENANTS_OF_PART))
    return [
        RemoteEnergy(
            settlement.home,
            settlement.target,
            settlement.period,
            settlement.length_s,
            settlement.hash if settlement.receipts else "",
            part,
            parts,
            tuple(tenants[part * TENANTS_OF_PART : (part + 1) * TENANTS_OF_PART]),
            tuple(mismatches[part * MISMATCHES_OF_PART : (part + 1) * MISMATCHES_OF_PART]),
            len(mismatches),
        )
        for part in range(parts)
    ]
