"""The file in which the instructions are kept, so that a restart knows what a new one replaces."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.grid.s2.instructions import Instructed, of_json, to_json

_log = logging.getLogger(__name__)


class KeptInstructions:
    """The instructions by the name of the limit that they make; the file is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read yet."""
        self.path = path

    def read(self) -> dict[str, Instructed]:
        """Return what was kept; nothing if there is no file or it cannot be read.

        The limits are kept where they hold, and come back from there. Without this file it is only
        forgotten which steps of them belong to which instruction.
        """
        try:
            found = orjson.loads(self.path.read_bytes())
            if not isinstance(found, dict):
                raise UsageError("asked for an object, found another value")
            return {str(name): of_json(each) for name, each in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, UsageError) as error:
            _log.warning("%s: the instructions that were kept cannot be read: %s", self.path, error)
            return {}

    def write(self, instructed: Mapping[str, Instructed]) -> None:
        """Write them, and wait until they are on disk.

        Raises:
            DiskFullError, UsageError: They cannot be written.
        """
        body = orjson.dumps({name: to_json(each) for name, each in instructed.items()})
        new = self.path.with_suffix(".new")
        with disk_errors(self.path):
            with new.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            sync_folder(self.path.parent)
