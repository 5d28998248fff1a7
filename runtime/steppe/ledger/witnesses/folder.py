"""What a witness has signed, on disk before its cosignature leaves.

    lock            held by the one process that signs
    <log>/head      the last checkpoint of a log that was signed, as its log has signed it
    <log>/fork      one that shows another history: with `head`, the evidence against the log

`<log>` is the SHA-256 of the log's name, in hexadecimal.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from steppe.disk import disk_errors, sync_folder
from steppe.errors import SteppeError, UsageError
from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.log.log import publish_note
from steppe.ledger.signing import Note
from steppe.ledger.tree import Head

HEAD, FORK = "head", "fork"
"""Names of the files of a log."""


class WitnessFolder:
    """The state of a witness, which one process uses at a time."""

    def __init__(self, folder: Path) -> None:
        """Take a folder; it is made if it is missing.

        Raises:
            UsageError: Another process has it, or it cannot be written.
        """
        self._folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                message = f"{folder}: asked for a free folder, found it in use by another witness"
                raise UsageError(message) from error

    def close(self) -> None:
        """Leave the folder to others."""
        os.close(self._lock)

    def heads(self, logs: Iterable[str]) -> dict[str, Head]:
        """Return the last heads that were signed of these logs.

        Raises:
            UsageError: A file cannot be read, or is damaged.
        """
        return {log: head for log in logs if (head := self._head(log)) is not None}

    def keep(self, log: str, note: str) -> None:
        """Bring the checkpoint of a log to disk that is about to be signed.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        self._write(self._place(log) / HEAD, note)

    def keep_fork(self, log: str, note: str) -> Path:
        """Bring a checkpoint to disk that shows another history; return its file.

        The first one is kept: it is evidence enough.

        Raises:
            DiskFullError: No space is left.
            UsageError: It cannot be written.
        """
        path = self._place(log) / FORK
        if not path.exists():
            self._write(path, note)
        return path

    def _head(self, log: str) -> Head | None:
        path = self._place(log) / HEAD
        with disk_errors(path):
            if not path.exists():
                return None
            text = path.read_text("utf-8", "replace")
        try:
            checkpoint = Checkpoint.read(Note.read(text).text)
        except SteppeError as error:
            raise UsageError(f"{path}: found a damaged head: {error}") from error
        if checkpoint.origin != log:
            raise UsageError(f"{path}: asked for the log {log}, found {checkpoint.origin}")
        return checkpoint.head

    def _place(self, log: str) -> Path:
        return self._folder / hashlib.sha256(log.encode()).hexdigest()

    def _write(self, path: Path, note: str) -> None:
        with disk_errors(path):
            if not path.parent.exists():
                path.parent.mkdir()
                sync_folder(self._folder)
        publish_note(path, Note.read(note))
