"""Where the ledger of a record is: its log, its store and the keys of its log."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.log.log import CHECKPOINT, LogReader
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.run.ledger import Trust, public_key, trust_of

STORE, LOG, KEY, PUBLIC, IN_RECORD = "ledger.db", "log", "key", "log.pub", "ledger"
"""Names in the folder of a ledger, and that of this folder in a record."""
SUMMARY, REQUESTS = "summary.json", "requests.jsonl"


@dataclass(frozen=True, slots=True)
class LedgerFolder:
    """A ledger on disk.

    Attributes:
        folder: Its folder.
        store: Path or URL of its store; empty if there is none.
        trust: Name of its log and the keys that may have signed it; None if it has no log yet.
        record: Folder of the record that it belongs to; None if it is in none.
    """

    folder: Path
    store: str
    trust: Trust | None
    record: Path | None

    @property
    def log(self) -> Path:
        """Folder of the log."""
        return self.folder / LOG

    def reader(self) -> LogReader:
        """Return the reader of its log.

        Raises:
            UsageError: It has none.
        """
        if self.trust is None:
            raise UsageError(f"{self.folder}: asked for a log, found no checkpoint in {LOG}")
        return LogReader(self.log, self.trust.log, self.trust.keys)

    @contextmanager
    def opened(self) -> Generator[LedgerStore]:
        """Open its store.

        Raises:
            UsageError: It has none, or it cannot be opened.
        """
        if not self.store:
            raise UsageError(f"{self.folder}: asked for a ledger with a store, found no {STORE}")
        store = LedgerStore(self.store)
        try:
            yield store
        finally:
            store.close()


def ledger_folder(
    path: Path, keys: Sequence[str] = (), log: str | None = None, store: str | None = None
) -> LedgerFolder:
    """Return the ledger of a record, or of a folder of its own.

    Args:
        path: The record, or the folder of the ledger.
        keys: Public keys of the log, or files of them; those in the folder without any.
        log: Name of the log; that of the first key without it.
        store: Path or URL of the store; the file in the folder without it.

    Raises:
        UsageError: There is no ledger, or no key of its log.
    """
    places = (path, path / IN_RECORD, *(path / one["folder"] for one in booked_of(path)))
    folder = next((one for one in places if _has_ledger(one)), None)
    if folder is None:
        asked = "asked for a ledger, or for a record with one"
        raise UsageError(f"{path}: {asked}, found neither {LOG}/{CHECKPOINT} nor {STORE}")
    own = folder / STORE
    place = store or (str(own) if own.exists() else "")
    trust = None
    if (folder / LOG / CHECKPOINT).exists():
        trust = trust_of(keys or [_own_key(folder)], log)
    record = next((one for one in (path, folder.parent) if _is_record(one)), None)
    return LedgerFolder(folder, place, trust, record)


def booked_of(record: Path) -> list[dict[str, Any]]:
    """Return what each run of a record has booked for its ledger, by its summary; none without.

    Raises:
        UsageError: The summary cannot be read.
    """
    path = record / SUMMARY
    if not path.exists():
        return []
    with disk_errors(path):
        text = path.read_text()
    try:
        booked = json.loads(text).get("ledger", [])
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: asked for the summary of a run, found {error}") from error
    return [one for one in booked if isinstance(one, dict) and "folder" in one]


def _is_record(folder: Path) -> bool:
    """Whether a run wrote its record there; one that goes on, or was killed, has no summary."""
    return any((folder / name).exists() for name in (SUMMARY, REQUESTS))


def _has_ledger(folder: Path) -> bool:
    return (folder / LOG / CHECKPOINT).exists() or (folder / STORE).exists()


def _own_key(folder: Path) -> str:
    """Return the key that is in the folder: a file of public ones, or that of the operator."""
    public, private = folder / PUBLIC, folder / KEY
    if public.exists():
        return str(public)
    if private.exists():
        return public_key(private).text
    raise UsageError(f"{folder}: asked for a key of the log (--key), found none in the folder")
