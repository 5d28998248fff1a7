"""Where commitments are kept: in the ledger, or without one in a file. Both check at the insert."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.grid.offers.commitments import Commitment, committed
from steppe.grid.offers.offer import FlexOffer
from steppe.ledger.store import commitments as rows
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore

FILE_NAME = "commitments.jsonl"


class Promises(Protocol):
    """The commitments of a site; several processes may use them at once."""

    def of(self, from_s: int) -> Sequence[Commitment]:
        """Return those whose watts are not free again at a time, in the order of their sale.

        Raises:
            UsageError: They cannot be read.
        """
        ...

    def commit(self, new: Commitment, offer: FlexOffer, now_us: int) -> bool:
        """Keep a commitment if its watts are free; return whether it is new.

        It is on disk when this returns.

        Args:
            new: The commitment.
            offer: What is offered for its time.
            now_us: The time, us since the Unix epoch.

        Raises:
            UsageError: It is not within the offer, its watts are not free, another one has its id,
                or it cannot be kept: then nothing has changed.
        """
        ...


class LedgerPromises:
    """Commitments in the store of the ledger, and so in its log."""

    def __init__(self, store: LedgerStore, site: str) -> None:
        """Use a store.

        Args:
            store: The store.
            site: Name of the site.
        """
        self._store, self._site = store, site

    def of(self, from_s: int) -> Sequence[Commitment]:
        """Return those whose watts are not free again at a time."""
        return rows.commitments_of(self._store, self._site, from_s)

    def commit(self, new: Commitment, offer: FlexOffer, now_us: int) -> bool:
        """Keep a commitment if its watts are free; return whether it is new."""
        try:
            return rows.commit(self._store, new, _check(new, offer), now_us)
        except ConflictError as error:
            raise UsageError(str(error)) from error


class FolderPromises:
    """Commitments in a file: a line with its SHA-256 and the entry, under a lock.

    The file is only ever appended to. A line that is not whole was never acknowledged; it is cut
    off by the next commitment. Any other damage is an error, and then nothing more is sold.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made if it is missing, at the first commitment."""
        self._path = folder / FILE_NAME

    def of(self, from_s: int) -> Sequence[Commitment]:
        """Return those whose watts are not free again at a time."""
        found, _ = self._read()
        return [one for one in found if one.taken_until_s > from_s]

    def commit(self, new: Commitment, offer: FlexOffer, now_us: int) -> bool:
        """Keep a commitment if its watts are free; return whether it is new."""
        del now_us  # a file has no log
        with self._locked():
            found, size = self._read()
            for one in found:
                if one.id == new.id:
                    if new.is_same(one):
                        return False
                    raise UsageError(f"asked for commitment {new.id}, found another one of this id")
            _check(new, offer)([one for one in found if one.taken_until_s > new.from_s])
            self._append(new, size)
        return True

    def _read(self) -> tuple[list[Commitment], int]:
        """Return all commitments, and the bytes of the file that hold whole lines."""
        with disk_errors(self._path):
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                return [], 0
        lines = content.split(b"\n")[:-1]
        found = [self._commitment(number, line) for number, line in enumerate(lines, 1)]
        return found, sum(len(line) + 1 for line in lines)

    def _commitment(self, number: int, line: bytes) -> Commitment:
        digest, _, entry = line.partition(b" ")
        if digest.decode("ascii", "replace") != _digest(entry):
            where = f"{self._path}: line {number}"
            raise UsageError(f"{where}: asked for a commitment that was kept, found other bytes")
        return Commitment.read(entry)

    def _append(self, new: Commitment, size: int) -> None:
        with disk_errors(self._path), self._path.open("r+b") as file:
            file.truncate(size)
            file.seek(size)
            file.write(_digest(new.entry).encode("ascii") + b" " + new.entry + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Hold the file: no other process reads before it writes meanwhile."""
        with disk_errors(self._path):
            folder = self._path.parent
            folder.mkdir(parents=True, exist_ok=True)
            is_new = not self._path.exists()
            file = self._path.open("ab")
            if is_new:
                sync_folder(folder)
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _check(new: Commitment, offer: FlexOffer) -> Callable[[Sequence[Commitment]], object]:
    return lambda promised: committed(promised, new, offer)


def _digest(entry: bytes) -> str:
    return hashlib.sha256(entry).hexdigest()
