"""Carries out changes of the configuration while the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.config.change import changed_config, shown_section
from steppe.errors import ConfigError
from steppe.fleet.cluster import error_line
from steppe.gateway.server import ChangeResult, ConfigChange
from steppe.report.records import ConfigChangeRecord

_log = logging.getLogger(__name__)

Reconfigure = Callable[[RunConfig], Any]
"""Calls the controller to use a configuration; returns the call, whose result is an error or ""."""


@dataclass(frozen=True, slots=True)
class _Running:
    change: ConfigChange
    config: RunConfig
    call: Any


class ConfigChanger:
    """Gives changes to the controller, one after the other.

    Attributes:
        config: The present configuration.
        version: How many changes it contains.
    """

    def __init__(self, config: RunConfig, reconfigure: Reconfigure) -> None:
        """Begin with the configuration of the start."""
        self.config, self.version = config, 0
        self._reconfigure = reconfigure
        self._seen: set[str] = set()
        self._waiting: list[ConfigChange] = []
        self._running: _Running | None = None

    @property
    def done(self) -> frozenset[str]:
        """Ids of the changes that were carried out or refused."""
        running = set() if self._running is None else {self._running.change.id}
        return frozenset(self._seen - running - {change.id for change in self._waiting})

    def go_on(self, config: RunConfig, version: int, done: frozenset[str]) -> None:
        """Go on with the configuration of another driver; the gateway repeats what is not done."""
        self.config, self.version, self._seen = config, version, set(done)

    def add(self, changes: Iterable[ConfigChange]) -> None:
        """Take changes that the gateway asks for; it repeats each until it has the result."""
        for change in changes:
            if change.id not in self._seen:
                self._seen.add(change.id)
                self._waiting.append(change)

    def advance(self, t_s: float) -> tuple[list[ChangeResult], list[ConfigChangeRecord]]:
        """Read the result of the running change, and begin the next ones.

        Args:
            t_s: The present time, s since the run began.

        Returns:
            The results, and the records of those changes that were carried out.
        """
        results: list[ChangeResult] = []
        records: list[ConfigChangeRecord] = []
        if self._running is not None:
            done, _ = ray.wait([self._running.call], timeout=0)
            if done:
                results.append(self._finish(self._running, t_s, records))
                self._running = None
        while self._running is None and self._waiting:
            refused = self._begin(self._waiting.pop(0))
            results += [] if refused is None else [refused]
        return results, records

    def _begin(self, change: ConfigChange) -> ChangeResult | None:
        """Begin a change; return why not if it is not valid any more."""
        try:
            config = changed_config(self.config, change.section, change.values)
            call = self._reconfigure(config)
        except ConfigError as error:
            return ChangeResult(change.id, str(error))
        self._running = _Running(change, config, call)
        return None

    def _finish(
        self, running: _Running, t_s: float, records: list[ConfigChangeRecord]
    ) -> ChangeResult:
        change, section = running.change, running.change.section
        try:
            error: str = ray.get(running.call)
        except ray.exceptions.RayError as failed:
            error = f"the controller does not answer: {error_line(failed)}"
        if error:
            return ChangeResult(change.id, error)
        before, after = shown_section(self.config, section), shown_section(running.config, section)
        self.config, self.version = running.config, self.version + 1
        records.append(ConfigChangeRecord(t_s, section, change.by, before, after))
        _log.warning("%s was changed by %s", section, change.by)
        return ChangeResult(change.id, t_s=t_s)
