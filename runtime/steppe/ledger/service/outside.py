"""What leaves the service by itself: heads of the log, and events of receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from steppe.config import LedgerSection
from steppe.errors import UsageError
from steppe.ledger.log.log import LogReader
from steppe.ledger.outbox.outbox import Outbox, SentCounts, Sink
from steppe.ledger.signing import COSIGNATURE, PublicKey
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.witnesses.asking import WitnessAsker, WitnessPlace, WitnessState

LAST_S = 2.0
"""Longest wait at the end for the cosignatures of the last head, and for the last events, s."""


class Outside:
    """Follows the log, beside it: nothing here holds up a head or a booking."""

    def __init__(self, section: LedgerSection, store: LedgerStore, log: LogReader) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            section: The section of the configuration.
            store: Where the receipts are.
            log: A reader of the log that nothing else uses.

        Raises:
            UsageError: The key of a witness is none.
        """
        self._asker = WitnessAsker(log, witnesses_of(section))
        self._outbox = None if section.sink is None else Outbox(store, _sink_of(section))

    @property
    def asked(self) -> Mapping[str, WitnessState]:
        """How it goes with each witness, by name."""
        return self._asker.asked

    @property
    def sent(self) -> SentCounts | None:
        """What the sink has got; None without a sink."""
        return None if self._outbox is None else self._outbox.sent

    async def start(self) -> None:
        """Send what is new from now on; what an earlier process left is first.

        Raises:
            UsageError: The log cannot be read.
        """
        await self._asker.start()
        if self._outbox is not None:
            await self._outbox.start()

    def take(self, note: str) -> None:
        """Note that a head was published; it returns at once.

        Args:
            note: The checkpoint.
        """
        self._asker.take(note)
        if self._outbox is not None:
            self._outbox.wake()

    async def stop(self) -> None:
        """Send what is left, for a short time, and end."""
        parts: list[WitnessAsker | Outbox] = [self._asker]
        if self._outbox is not None:
            parts.append(self._outbox)
        await asyncio.gather(*(part.drain(LAST_S) for part in parts))
        for part in parts:
            await part.stop()


def witnesses_of(section: LedgerSection) -> list[WitnessPlace]:
    """Return the witnesses of a configuration.

    Raises:
        UsageError: A key is not that of a witness, or two have one name.
    """
    places: dict[str, WitnessPlace] = {}
    for each in section.witnesses:
        try:
            key = PublicKey.read(each.key)
        except UsageError as error:
            raise UsageError(f"ledger.witnesses: {each.url}: {error}") from error
        if key.algorithm != COSIGNATURE:
            found = f"found that of a log, {key.name}"
            raise UsageError(f"ledger.witnesses: {each.url}: asked for a witness's key, {found}")
        if key.name in places:
            raise UsageError(f"ledger.witnesses: asked for each once, found {key.name} twice")
        places[key.name] = WitnessPlace(each.url, key)
    return list(places.values())


def _sink_of(section: LedgerSection) -> Sink:
    sink = section.sink
    assert sink is not None, "there is one"
    return Sink(sink.url, sink.token_file, sink.batch, sink.retry_s)
