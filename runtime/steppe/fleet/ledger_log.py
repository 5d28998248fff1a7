"""The way of another service to the log in the ledger of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import ray

from steppe.fleet.cluster import error_line
from steppe.ledger.entry_log import LedgerAwayError
from steppe.ledger.service_entry import ServiceEntry

TIMEOUT_S = 5.0
"""Longest wait for an answer of the ledger, s."""


class LedgerLog:
    """The log in the ledger of a run, whose actor is found by its name."""

    def __init__(self, run_id: str) -> None:
        """Name the run; its ledger may start later."""
        self._name = f"steppe-ledger-{run_id}"

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        """Write entries, as `EntryLog.log_entries` does.

        A call that takes too long may still be carried out; the same entries again change nothing.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                actor = await asyncio.to_thread(ray.get_actor, self._name)
                new: int = await actor.log_entries.remote(list(entries))
                return new
        except TimeoutError as error:
            raise LedgerAwayError("the ledger does not answer in time") from error
        except (ray.exceptions.RayError, ValueError) as error:
            raise LedgerAwayError(f"the ledger does not answer: {error_line(error)}") from error
