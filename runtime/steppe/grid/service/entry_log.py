"""What the grid service asks of the ledger of the run: a signed log of its entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from steppe.errors import SteppeError
from steppe.ledger.grid_entry import GridEntry


class EntryLog(Protocol):
    """The log of the ledger of a run."""

    async def log_entries(self, entries: Sequence[GridEntry]) -> int:
        """Write entries, each once; return how many are new.

        Raises:
            LedgerAwayError: The ledger does not answer, or refuses one: none was written.
        """
        ...


class LedgerAwayError(SteppeError):
    """The ledger of the run does not take entries now."""
