"""The commitments of a site, as a part of the grid service: it opens the ledger's store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steppe.grid.offers.commitments import Commitment
from steppe.grid.offers.offer import FlexOffer
from steppe.grid.service.offers.promises import FolderPromises, LedgerPromises, Promises
from steppe.grid.service.seam import GridView
from steppe.ledger.store.ledger_store import LedgerStore

NAME = "commitments"


class Promised:
    """Keeps commitments in the ledger, or without one in the folder of the grid.

    Attributes:
        name: Its name at the service.
    """

    name = NAME

    def __init__(self, site: str, folder: Path, ledger_store: str) -> None:
        """Prepare.

        Args:
            site: Name of the site.
            folder: Folder of the grid.
            ledger_store: The database of the ledger; empty without one.
        """
        self._site, self._folder, self._place = site, folder, ledger_store
        self._store: LedgerStore | None = None
        self._promises: Promises | None = None

    @property
    def shown(self) -> Mapping[str, Any]:
        """What it says of itself."""
        return {"kept": "ledger" if self._place else "folder"}

    async def start(self) -> None:
        """Open the store.

        Raises:
            UsageError: It cannot be opened.
        """
        if self._place:
            self._store = await asyncio.to_thread(LedgerStore, self._place)
            self._promises = LedgerPromises(self._store, self._site)
        else:
            self._promises = FolderPromises(self._folder)

    async def see(self, view: GridView) -> None:
        """Take note of the site: commitments do not depend on it."""

    async def stop(self) -> None:
        """Close the store."""
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
        self._store = self._promises = None

    def of(self, from_s: int) -> Sequence[Commitment]:
        """Return those whose watts are not free again at a time, in the order of their sale."""
        return self._open.of(from_s)

    def commit(self, new: Commitment, offer: FlexOffer, now_us: int) -> bool:
        """Keep a commitment if its watts are free; return whether it is new."""
        return self._open.commit(new, offer, now_us)

    @property
    def _open(self) -> Promises:
        assert self._promises is not None, "the service starts its parts first"
        return self._promises
