"""The record of one hour: what its meters counted, and where all of it went.

It is an entry of the log and never changes. It names the hash of the period before it, so a missing
hour or a changed order is seen. Its receipts and their shares of the idle energy are in a Merkle
tree, of which it holds the root: an entry of the log has 64 KiB at most, an hour any number of
receipts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass

from steppe.errors import UsageError
from steppe.ledger.receipt import canonical, checked, read_entry
from steppe.ledger.tree import Head

VERSION = 1
KIND = "period"
"""What the log calls this kind of entry."""
FIRST = ""
"""What the first period of a site has for the hash of the one before."""
_HASH = re.compile(r"[0-9a-f]{64}")


class PeriodError(UsageError):
    """Something in the book of an hour does not hold."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What a meter counted in an hour.

    A counter that starts anew, or that would pass 2^63 uJ, goes on as a meter of another name.

    Attributes:
        name: Its name, unique at its site.
        start_uj: Its reading at the start of the hour, uJ.
        end_uj: Its reading at the end, uJ.
        energy_uj: What it counted, uJ.
    """

    name: str
    start_uj: int
    end_uj: int
    energy_uj: int

    @classmethod
    def between(cls, name: str, start_uj: int, end_uj: int) -> Meter:
        """Return a meter of two readings."""
        return cls(name, start_uj, end_uj, end_uj - start_uj)


@dataclass(frozen=True, slots=True)
class Period:
    """The book of an hour: where the energy of its meters went, and what was carried into it.

    carried in + meter =
    receipts + corrections + idle + transition + waste + unclaimed + carried out.

    A receipt is in the book of the hour in which its energy was known. What its request took in the
    hours before was carried from each of them to the next.

    Attributes:
        site: The site.
        boundary: What its meters enclose: `gpu`, `node` or `site`.
        hour: The hour, hours since the Unix epoch.
        before: SHA-256 of the entry of the hour before it, hexadecimal; `FIRST` for none.
        meters: Its meters, by name.
        receipts: Number of receipts that were written in the hour.
        receipts_uj: Their energy, uJ.
        corrections: Number of correction receipts that were written in the hour.
        corrections_uj: The sum of their differences, uJ.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starts, stops and changes of state, uJ.
        waste_uj: Energy of requests that failed through no fault of their tenant, uJ.
        unclaimed_uj: What is left, uJ. It is below 0 only as far as corrections give out energy
            that earlier hours left.
        carried_in_uj: Energy of the requests that were open when the hour began, uJ.
        carried_out_uj: Energy of the requests that were open when it ended, uJ.
        meter_uj: The sum of the meters, uJ.
        root: Root of the tree of its receipts, corrections and shares, hexadecimal.
    """

    site: str
    boundary: str
    hour: int
    before: str
    meters: tuple[Meter, ...]
    receipts: int
    receipts_uj: int
    corrections: int
    corrections_uj: int
    idle_uj: int
    transition_uj: int
    waste_uj: int
    unclaimed_uj: int
    carried_in_uj: int
    carried_out_uj: int
    meter_uj: int
    root: str

    @property
    def id(self) -> str:
        """Its name: site, boundary and hour."""
        return f"{self.site}/{self.boundary}/{self.hour}"

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    @property
    def hash(self) -> str:
        """SHA-256 of its entry, hexadecimal: what the next period calls it."""
        return hashlib.sha256(self.entry).hexdigest()

    @property
    def claimed_uj(self) -> int:
        """All but the unclaimed energy, uJ."""
        used_uj = self.receipts_uj + self.corrections_uj + self.idle_uj
        return used_uj + self.transition_uj + self.waste_uj

    @property
    def head(self) -> Head:
        """Head of the tree of its receipts, corrections and shares."""
        return Head(self.receipts + self.corrections, bytes.fromhex(self.root))

    @classmethod
    def read(cls, entry: bytes) -> Period:
        """Return the period of an entry.

        Raises:
            UsageError: It is none, or a field is missing, unknown, or of another type.
        """
        values = read_entry(entry, KIND, VERSION)
        meters = values.get("meters")
        if not isinstance(meters, list):
            raise UsageError(f"period.meters: asked for a list, found {meters!r:.60}")
        values["meters"] = tuple(
            Meter(**checked(Meter, meter, f"period.meters[{number}]"))
            for number, meter in enumerate(meters)
        )
        period = cls(**checked(cls, values, "period"))
        for name, text in (("root", period.root), ("before", period.before)):
            if not _HASH.fullmatch(text) and (name, text) != ("before", FIRST):
                raise UsageError(f"period.{name}: asked for a SHA-256, found {text!r:.80}")
        return period
