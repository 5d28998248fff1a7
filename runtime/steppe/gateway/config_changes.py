"""Changes of the configuration that were asked for, until the driver has carried them out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steppe.config import RunConfig
from steppe.config.change import changed_config


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One change that was asked for.

    Attributes:
        id: Its id.
        section: Name of the section.
        values: The whole section, as JSON values.
        by: By what right: `admin key`, `localhost` or the name of a tenant.
    """

    id: str
    section: str
    values: Mapping[str, Any]
    by: str


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What became of a change.

    Attributes:
        id: The id of the change.
        error: Why it was not carried out; empty if it was.
        t_s: When it was, s since the run began.
    """

    id: str
    error: str = ""
    t_s: float = 0.0


class ConfigChanges:
    """The present configuration, and the changes of it that are under way.

    Use it on one event loop; it is not safe from other threads.

    Attributes:
        config: The present configuration; None where it cannot change.
        version: How many changes it contains.
    """

    def __init__(self, config: RunConfig | None) -> None:
        """Begin with the configuration of the start."""
        self.config, self.version = config, 0
        self._pending: dict[str, tuple[ConfigChange, asyncio.Future[ChangeResult]]] = {}

    @property
    def pending(self) -> tuple[ConfigChange, ...]:
        """The changes that have no result yet."""
        return tuple(change for change, _ in self._pending.values())

    def set(self, config: RunConfig, version: int) -> None:
        """Set the configuration that the driver runs now."""
        self.config, self.version = config, version

    async def ask(
        self, section: str, values: Mapping[str, Any], by: str, timeout_s: float
    ) -> ChangeResult | None:
        """Ask the driver for a change, and wait for the result.

        Args:
            section: Name of the section.
            values: The whole section.
            by: By what right.
            timeout_s: Longest wait, s.

        Returns:
            The result; None if there is none yet: the change is still under way.

        Raises:
            ConfigError: The section is not valid.
        """
        assert self.config is not None, "the configuration cannot change"
        changed_config(self.config, section, values)
        result: asyncio.Future[ChangeResult] = asyncio.get_running_loop().create_future()
        change = ConfigChange(uuid.uuid4().hex, section, values, by)
        self._pending[change.id] = change, result
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(result)
        except TimeoutError:
            return None

    def settle(self, results: Iterable[ChangeResult]) -> None:
        """Take the results of changes."""
        for result in results:
            _, waiting = self._pending.pop(result.id, (None, None))
            if waiting is not None and not waiting.done():
                waiting.set_result(result)
