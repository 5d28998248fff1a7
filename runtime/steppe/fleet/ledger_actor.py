"""The actor that hosts the ledger of a run: it takes the steps of the books, and entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from steppe.fleet.service_actor import Service, ServiceActor
from steppe.ledger.booking import Booking
from steppe.ledger.service_entry import ServiceEntry


class TakesBookings(Service, Protocol):
    """A service that takes the books of a run."""

    async def take(self, booking: Booking) -> int:
        """Write what a booking brings; return the number of the last one that is on disk."""
        ...

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        """Write entries of another service; return how many are new."""
        ...


class LedgerActor(ServiceActor):
    """Hosts the ledger in a process of its own."""

    def __init__(self, make: Callable[[Any], TakesBookings], settings: Any) -> None:
        """Make the ledger, `make(settings)`; `open` starts it."""
        self._ledger = ledger = make(settings)
        super().__init__(lambda _: ledger, None)

    async def take(self, bookings: Sequence[Booking]) -> int:
        """Write bookings in their order; return the number of the last one that is on disk.

        Raises:
            UsageError: One of them cannot be taken; those before it are taken.
        """
        await self.open()  # Ray may have started this process anew
        number = 0
        for booking in bookings:
            number = await self._ledger.take(booking)
            if number < booking.number:
                break
        return number

    async def log_entries(self, entries: Sequence[ServiceEntry]) -> int:
        """Write entries of another service; return how many are new.

        Raises:
            UsageError: One of them conflicts with one of that kind and id, or they cannot be
                written: none of them was.
        """
        await self.open()
        return await self._ledger.log_entries(entries)
