"""What other services of a run ask of its ledger: a signed log of their entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from steppe.errors import SteppeError
from steppe.ledger.service_entry import ServiceEntry


class EntryLog(Protocol):
    """The log of the ledger of a run."""

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        """Write entries, each once; return how many are new.

        Raises:
            LedgerAwayError: The ledger does not answer, or refuses one: none was written.
        """
        ...


class LedgerAwayError(SteppeError):
    """The ledger of the run does not take entries now."""
