"""The actor that hosts the sites service of a run, and its way to the ledger."""

from __future__ import annotations

from typing import Any, Protocol

from steppe.fleet.ledger_log import LedgerLog
from steppe.fleet.service_actor import Service, ServiceActor
from steppe.ledger.entry_log import EntryLog


class MakesSites(Protocol):
    """Makes the sites service."""

    def __call__(self, settings: Any, *, log: EntryLog | None) -> Service:
        """Return the service, which is not started."""
        ...


class SitesActor(ServiceActor):
    """Hosts the sites service in a process of its own."""

    def __init__(self, make: MakesSites, settings: Any) -> None:
        """Make the service, `make(settings, log=log)`; `open` starts it."""

        def made(given: Any) -> Service:
            return make(given, log=LedgerLog(given.run_id) if given.has_ledger else None)

        super().__init__(made, settings)
