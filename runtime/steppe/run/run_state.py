"""What the active driver of a run knows after each poll, as another one needs it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Self

from steppe.config import RunConfig
from steppe.report.live import RunSoFar
from steppe.report.record_folder import RecordPosition
from steppe.run.live_frontiers import FrontiersState


@dataclass(frozen=True, slots=True)
class RunState:
    """A run from its first tick on.

    Attributes:
        config: The configuration of the start.
        address: Where the GCS of Ray listens.
        driver: The fleet, see `FleetDriver.state`.
        begun_s: When its first driver began to follow it, s on the monotonic clock of this host.
        so_far: Totals so far.
        record: How far it is recorded; None without a record.
        frontiers: Where its operating points come from.
    """

    config: RunConfig
    address: str
    driver: bytes
    begun_s: float
    so_far: RunSoFar
    record: RecordPosition | None
    frontiers: FrontiersState

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read what `write` returned."""
        found = pickle.loads(text)
        assert isinstance(found, cls), "only drivers of this run write it"
        return found

    def write(self) -> bytes:
        """Return this as bytes."""
        return pickle.dumps(self)
