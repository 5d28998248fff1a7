"""Actors of nodes and replicas that have not answered yet, and machines that are tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from steppe.fleet.cluster import Machine
from steppe.fleet.messages import NodeInfo

OPEN_TIMEOUT_S = 120.0
"""Longest wait for the actors of nodes and replicas at the begin of a run, s; later ones join when
they answer."""
LONGEST_RETRY_S = 300.0
"""Longest pause between two attempts to use a machine, s; it doubles from 1 s."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node with its actor."""

    machine: Machine
    actor: Any
    info: NodeInfo


@dataclass(frozen=True, slots=True)
class PendingNode:
    """A node actor whose first call has not returned yet."""

    machine: Machine
    actor: Any
    call: Any
    called_s: float


@dataclass(frozen=True, slots=True)
class PendingReplica:
    """A replica actor whose GPUs are not known yet, one of `on_machine` on its machine."""

    name: str
    on_machine: int
    machine: Machine
    actor: Any
    call: Any
    called_s: float


Pending = TypeVar("Pending", PendingNode, PendingReplica)


@dataclass(slots=True)
class MachinePauses:
    """Pauses before machines are used again that have failed; each is twice the one before.

    Attributes:
        failures: How often each machine has failed, by Ray's id of the node.
    """

    failures: Counter[str] = field(default_factory=Counter)
    _ends_s: dict[str, float] = field(default_factory=dict)

    def begin(self, machine: str, now_s: float) -> None:
        """Begin the pause of a machine that has just failed, s on the monotonic clock."""
        pause_s: float = min(LONGEST_RETRY_S, 2.0 ** self.failures[machine])
        self.failures[machine] += 1
        self._ends_s[machine] = now_s + pause_s

    def lasts(self, machine: str, now_s: float) -> bool:
        """Return whether a machine is not to be used yet."""
        return now_s < self._ends_s.get(machine, 0.0)


def answered(actors: Sequence[Pending], wait_s: float) -> list[tuple[Pending, bool]]:
    """Wait for the first call of each actor, and return whether it has an answer.

    Args:
        actors: The actors.
        wait_s: How long to wait for further answers once there is one, s.

    Returns:
        Those with an answer come first, so that a late one is known to be late.
    """
    if not actors:
        return []
    calls = [new.call for new in actors]
    ray.wait(calls, num_returns=1, timeout=OPEN_TIMEOUT_S)
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=min(wait_s, OPEN_TIMEOUT_S))
    is_done = [new.call in done for new in actors]
    return sorted(zip(actors, is_done, strict=True), key=lambda pair: not pair[1])
