"""The record of what is green of an hour: an entry of the log beside the period of the hour.

The first one of an hour is written when the hour closes. Certificates that come later, such as
GECs, add others to it; each names the hash of the one before, and says only what it adds. The
shares of the receipts are in a Merkle tree, of which an entry holds the root.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from steppe.errors import UsageError
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.receipt import canonical, checked, read_entry
from steppe.ledger.tree import Head, leaf_hash

VERSION = 1
KIND = "match"
"""What the log calls this kind of entry."""
FIRST = ""
"""What the first match of an hour has for the hash of the one before."""
_HASH = re.compile(r"[0-9a-f]{64}")


class MatchError(UsageError):
    """Something in the green energy of an hour does not hold."""


@dataclass(frozen=True, slots=True)
class GreenShare:
    """What of the energy of a receipt a match made green.

    Attributes:
        receipt: Id of the receipt.
        hash: SHA-256 of its entry, hexadecimal.
        energy_uj: Its energy within the hour, with its share of idle, uJ.
        green_uj: What of it is matched to generation of the hour, uJ.
        gec_uj: What of the rest GECs cover, uJ.
    """

    receipt: str
    hash: str
    energy_uj: int
    green_uj: int
    gec_uj: int

    @property
    def leaf(self) -> bytes:
        """Its hash as a leaf of the tree of a match."""
        values = {
            "receipt": self.receipt,
            "hash": self.hash,
            "energy_uj": self.energy_uj,
            "green_uj": self.green_uj,
            "gec_uj": self.gec_uj,
        }
        return leaf_hash(canonical(values))


@dataclass(frozen=True, slots=True)
class Match:
    """What became green of an hour of a site.

    Attributes:
        site: The site.
        boundary: What the energy of its receipts encloses.
        hour: The hour, hours since the Unix epoch.
        number: 0 for the match at the close of the hour, 1 and on for later ones.
        before: SHA-256 of the match before it in this hour, hexadecimal; `FIRST` for none.
        period: SHA-256 of the entry of the period, hexadecimal.
        zone: Grid zone of the site.
        load_wh: What the site used, Wh.
        load_uj: The load behind it, uJ: that of the hour and what was below 1 Wh before.
        source_wh: What came from each source, Wh; the same in each match of an hour.
        lost_uj: What the battery lost, uJ.
        green_wh: What this match made green with certificates of the hour, Wh.
        gec_wh: What it covered with GECs, Wh.
        certificates: Wh by certificate that it used.
        receipts: Number of receipts that have a share.
        receipts_uj: Their energy within the hour, with their shares of idle, uJ.
        sold_uj: What of `green_wh` they have, uJ; the operator has the rest.
        gec_sold_uj: What of `gec_wh` they have, uJ.
        root: Root of the tree of their shares, hexadecimal.
    """

    site: str
    boundary: str
    hour: int
    number: int
    before: str
    period: str
    zone: str
    load_wh: int
    load_uj: int
    source_wh: Mapping[str, int]
    lost_uj: int
    green_wh: int
    gec_wh: int
    certificates: Mapping[str, int]
    receipts: int
    receipts_uj: int
    sold_uj: int
    gec_sold_uj: int
    root: str

    @property
    def id(self) -> str:
        """Its name: site, hour and number."""
        return f"{self.site}/{self.hour}/{self.number}"

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    @property
    def hash(self) -> str:
        """SHA-256 of its entry, hexadecimal: what the next match of the hour calls it."""
        return hashlib.sha256(self.entry).hexdigest()

    @property
    def green_uj(self) -> int:
        """What it made green, uJ."""
        return self.green_wh * UJ_PER_WH

    @property
    def gec_uj(self) -> int:
        """What it covered with GECs, uJ."""
        return self.gec_wh * UJ_PER_WH

    @property
    def rest_uj(self) -> int:
        """The load that is no receipt's, uJ: idle without receipts, transitions, cooling, waste."""
        return max(0, self.load_uj - self.receipts_uj)

    @property
    def head(self) -> Head:
        """Head of the tree of its shares."""
        return Head(self.receipts, bytes.fromhex(self.root))

    @classmethod
    def read(cls, entry: bytes) -> Match:
        """Return the match of an entry.

        Raises:
            UsageError: It is none, or a field is missing, unknown, or of another type.
        """
        values = checked(cls, read_entry(entry, KIND, VERSION), KIND)
        for field in fields(cls):
            if field.type not in ("int", "str"):
                _check_amounts(field.name, values[field.name])
        match = cls(**values)
        for name, text in (("root", match.root), ("period", match.period)):
            if not _HASH.fullmatch(text):
                raise UsageError(f"match.{name}: asked for a SHA-256, found {text!r:.80}")
        return match


def _check_amounts(name: str, value: Any) -> None:
    if type(value) is not dict or not all(type(one) is int and one >= 0 for one in value.values()):
        raise UsageError(f"match.{name}: asked for dict, found {value!r:.60}")
