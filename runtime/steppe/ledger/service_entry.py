"""Entries of other services in the log: of the grid, and what sites owe each other."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.ledger.log.tiles import MOST_BYTES
from steppe.ledger.receipt import read_entry

GRID_EVENT, COMMITMENT = "grid_event", "commitment"
SETTLEMENT, REMOTE_ENERGY = "settlement", "remote_energy"
SERVICE_KINDS = (GRID_EVENT, COMMITMENT, SETTLEMENT, REMOTE_ENERGY)
"""What the log calls these kinds of entries."""
_ID_CHARS = 128


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """An entry that another service of a run puts into the log.

    Attributes:
        kind: What it is, one of `SERVICE_KINDS`.
        id: Its name, unique among those of its kind at a site.
        time_us: Its time, us since the Unix epoch.
        entry: Its bytes, as `canonical` makes them, version 1.
    """

    kind: str
    id: str
    time_us: int
    entry: bytes

    def __post_init__(self) -> None:
        """Refuse what the log cannot hold: one such entry would keep all later ones out of it.

        Raises:
            UsageError: Its kind, id, time, length or form is not as asked for.
        """
        if self.kind not in SERVICE_KINDS:
            asked = f"asked for one of {', '.join(SERVICE_KINDS)}"
            raise UsageError(f"entry of a service: {asked}, found {self.kind!r:.60}")
        if not (0 < len(self.id) <= _ID_CHARS and self.id.isascii() and self.id.isprintable()):
            asked = f"asked for an id of 1 to {_ID_CHARS} ASCII characters"
            raise UsageError(f"{self.kind}: {asked}, found {self.id!r:.60}")
        if not 0 <= self.time_us < 2**63:
            found = f"found {self.time_us}"
            raise UsageError(f"{self.kind} {self.id}: asked for a time from 0 us on, {found}")
        if len(self.entry) > MOST_BYTES:
            found = f"found {len(self.entry)}"
            raise UsageError(
                f"{self.kind} {self.id}: asked for at most {MOST_BYTES} bytes, {found}"
            )
        read_entry(self.entry, self.kind, 1)
