"""The logs of the engines in the record of a run, each of a bounded size."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

FOLDER = "engines"
MOST_BYTES = 8 << 20
"""A log that would grow larger is renamed to `.log.1`, which replaces the one before."""

_log = logging.getLogger(__name__)


class EngineLogFiles:
    """Appends to `engines/replica-1.log` and so on in a record folder."""

    def __init__(self, record: Path) -> None:
        """Write below the folder of a record; nothing is made before the first text."""
        self._folder = record / FOLDER
        self._has_failed = False

    def append(self, texts: Mapping[str, bytes]) -> None:
        """Append text to the logs, by replica; what does not fit a full disk is left out."""
        for replica, text in texts.items():
            try:
                self._append(self._folder / f"{replica}.log", text)
            except OSError as error:
                if not self._has_failed:
                    _log.warning("%s: cannot be written: %s", self._folder, error.strerror)
                self._has_failed = True

    def _append(self, path: Path, text: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + len(text) > MOST_BYTES:
                path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as file:
            file.write(text)
