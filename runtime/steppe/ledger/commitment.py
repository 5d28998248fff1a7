"""What a site has promised to a grid, as an entry of the log.

`steppe.grid.offers` decides what may be promised; `ledger.store.commitments` keeps it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from steppe.ledger.receipt import canonical, checked, read_entry

KIND = "commitment"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Commitment:
    """Watts that are promised for a time.

    Attributes:
        id: Its id; the same commitment again changes nothing.
        programme: What it was sold to.
        from_s: When it begins, whole s since the Unix epoch.
        until_s: When it ends.
        down_w: By how much the draw falls if it is called, whole W.
        up_w: By how much it rises.
        recovery_s: For how long after the end the watts are not free again, s.
        site: The site that promised.
        offer: Id of the offer that it was sold from; empty if unknown.
    """

    id: str
    programme: str
    from_s: int
    until_s: int
    down_w: int = 0
    up_w: int = 0
    recovery_s: int = 0
    site: str = "site"
    offer: str = ""

    @property
    def taken_until_s(self) -> int:
        """When its watts are free again, s since the Unix epoch."""
        return self.until_s + self.recovery_s

    def takes(self, from_s: float, until_s: float) -> bool:
        """Return whether it takes its watts at any time from `from_s` until `until_s`."""
        return self.from_s < until_s and from_s < self.taken_until_s

    def takes_at(self, at_s: float) -> bool:
        """Return whether it takes its watts at a time."""
        return self.from_s <= at_s < self.taken_until_s

    def is_same(self, other: Commitment) -> bool:
        """Return whether another one promises the same, from whichever offer it was sold."""
        return self == replace(other, recovery_s=self.recovery_s, offer=self.offer)

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    @classmethod
    def read(cls, entry: bytes) -> Commitment:
        """Return the commitment of an entry.

        Raises:
            UsageError: It is none.
        """
        return cls(**checked(cls, read_entry(entry, KIND, VERSION), KIND))
