"""Switches nodes on and off by the commands of the configuration."""

from __future__ import annotations

import logging
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from steppe.config import FleetSection

LONGEST_PAUSE_S = 300.0
"""Longest pause after a command that failed, s; it doubles from 1 s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of a command.

    Attributes:
        node: The node, by Ray's id.
        is_on: Whether it was to be switched on.
        error: Why it failed, in one line; empty if it did not.
    """

    node: str
    is_on: bool
    error: str = ""


@dataclass(slots=True)
class _Node:
    """A node that is off, or is being switched."""

    address: str
    is_on: bool = True
    command: threading.Thread | None = None
    failures: int = 0
    retry_s: float = 0.0


@dataclass(slots=True)
class NodeCommands:
    """Keeps nodes on or off as they are wanted; each command runs in a thread of its own.

    Attributes:
        fleet: The commands.
        clock: Returns monotonic time, s.
    """

    fleet: FleetSection
    clock: Callable[[], float] = time.monotonic
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _done: list[Switched] = field(default_factory=list)

    @property
    def is_busy(self) -> bool:
        """Whether a command runs."""
        return any(node.command is not None for node in self._nodes.values())

    def is_off(self, node: str) -> bool:
        """Return whether a node is off, or on its way there or back."""
        return node in self._nodes

    def state(self) -> dict[str, tuple[str, bool]]:
        """Return address, and whether it is on, of each node that is off or being switched."""
        return {node: (known.address, known.is_on) for node, known in self._nodes.items()}

    def go_on(self, state: Mapping[str, tuple[str, bool]]) -> None:
        """Go on with the nodes of another driver; a command that has not ended is run again."""
        self._nodes = {node: _Node(address, is_on) for node, (address, is_on) in state.items()}

    def follow(self, nodes_off: frozenset[str], addresses: Mapping[str, str]) -> list[Switched]:
        """Begin the commands that are due, and return what came of those that have ended.

        Args:
            nodes_off: Nodes that are to be off, by Ray's id.
            addresses: Addresses of the nodes that may be switched off.
        """
        for node in nodes_off - self._nodes.keys():
            if node in addresses:
                self._nodes[node] = _Node(addresses[node])
        for node, known in self._nodes.items():
            wanted_on = node not in nodes_off
            if known.command is None and known.is_on != wanted_on and self.clock() >= known.retry_s:
                known.command = threading.Thread(
                    target=self._switch, args=(node, known.address, wanted_on), daemon=True
                )
                known.command.start()
        done, self._done = self._done, []
        for switched in done:
            self._note(switched)
        for node, known in list(self._nodes.items()):
            if known.is_on and known.command is None and node not in nodes_off:
                del self._nodes[node]
        return done

    def restore(self) -> None:
        """Switch every node on again at the end of a run, and wait for the commands."""
        for known in self._nodes.values():
            if known.command is not None:
                known.command.join(self.fleet.node_command_s)
        self._done.clear()
        threads = [
            threading.Thread(target=self._switch, args=(node, known.address, True), daemon=True)
            for node, known in self._nodes.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.fleet.node_command_s)
        self._nodes.clear()

    def _note(self, switched: Switched) -> None:
        known = self._nodes[switched.node]
        known.command = None
        if switched.error:
            known.retry_s = self.clock() + min(LONGEST_PAUSE_S, 2.0**known.failures)
            known.failures += 1
        else:
            known.is_on, known.failures = switched.is_on, 0

    def _switch(self, node: str, address: str, is_on: bool) -> None:
        template = self.fleet.node_on_command if is_on else self.fleet.node_off_command
        command = [word.replace("{node}", address) for word in shlex.split(template or "")]
        way = "on" if is_on else "off"
        _log.info("node %s: switching it %s", address, way)
        error = _run(command, self.fleet.node_command_s)
        if error:
            _log.error("node %s was not switched %s: %s", address, way, error)
        self._done.append(Switched(node, is_on, error))


def _run(command: list[str], timeout_s: float) -> str:
    """Run a command; return why it failed, empty if it did not."""
    if not command:
        return "asked for fleet.node_off_command and node_on_command, found none"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return f"{command[0]} ended with {done.returncode}" + (f": {said[-1]}" if said else "")
