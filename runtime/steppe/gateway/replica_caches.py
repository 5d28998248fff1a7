"""What do the replicas hold in their prefix caches? The gateway's estimate, by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steppe.control.affinity import LEAST_SAVED_TOKENS, Decisions, Numbering, PrefixAffinity
from steppe.control.placing import ReplicaSlots
from steppe.control.prefix_index import PrefixIndex
from steppe.gateway.prompt_blocks import BLOCK_BYTES

BYTES_PER_TOKEN = 4
"""About what a token of a Western text takes."""
LEAST_SAVED_BLOCKS = LEAST_SAVED_TOKENS * BYTES_PER_TOKEN // BLOCK_BYTES

Cache = tuple[str, int]
"""URL of a replica and how often it has lost its cache there: another one is another cache."""


@dataclass(frozen=True, slots=True)
class AffinitySettings:
    """How much the caches of replicas count.

    Attributes:
        load_bound: Most load of a replica that is chosen for its cache, times its fair share.
        blocks_per_replica: Blocks of prompts that are remembered of each replica.
        wait_share: Longest wait for a busy replica that holds a prompt, share of the TTFT SLO.
    """

    load_bound: float
    blocks_per_replica: int
    wait_share: float = 0.0


class ReplicaCaches:
    """Sends requests to the replicas that hold the longest part of their prompts.

    A replica keeps its blocks while it is not in the routing table, because a pause keeps its
    cache. They are forgotten once it is back with another cache.
    """

    def __init__(self, settings: AffinitySettings) -> None:
        """Begin without replicas."""
        index = PrefixIndex(0, settings.blocks_per_replica)
        self._affinity = PrefixAffinity(index, settings.load_bound, LEAST_SAVED_BLOCKS)
        self._numbers: dict[str, int] = {}
        self._caches: dict[str, Cache] = {}

    @property
    def decisions(self) -> Decisions:
        """How requests were placed."""
        return self._affinity.decisions

    def note(self, caches: Iterable[tuple[str, Cache]]) -> None:
        """Note which cache each awake replica has now."""
        index = self._affinity.index
        for replica, cache in caches:
            number = self._number(replica)
            if self._caches.setdefault(replica, cache) != cache:
                self._caches[replica] = cache
                index.forget(number)

    def numbering(self, replicas: Iterable[str]) -> Numbering:
        """Return the numbers of replicas by their names, for `acquire`."""
        return Numbering(map(self._number, replicas))

    def acquire(
        self,
        slots: ReplicaSlots,
        blocks: Sequence[int],
        places: int,
        numbering: Numbering,
        *,
        later: bool = False,
    ) -> int | None:
        """Take a slot and return its replica; None if every replica is full.

        Args:
            slots: The slots of the replicas.
            blocks: Chained hashes of the blocks of the prompt.
            places: Sequences of the request.
            numbering: The numbers of the replicas of `slots`.
            later: Whether the request is deferrable.
        """
        return self._affinity.acquire(slots, blocks, places, numbering, later=later)

    def should_wait(
        self, slots: ReplicaSlots, blocks: Sequence[int], places: int, numbering: Numbering
    ) -> bool:
        """Return whether a busy replica holds much more of a prompt than those with room.

        The arguments are those of `acquire`.
        """
        return self._affinity.should_wait(slots, blocks, places, numbering)

    def worth(self) -> dict[str, float]:
        """Return how many blocks of recent prompts the cache of each replica could serve."""
        index = self._affinity.index
        return {replica: index.worth(number) for replica, number in self._numbers.items()}

    def _number(self, replica: str) -> int:
        number = self._numbers.setdefault(replica, len(self._numbers))
        self._affinity.index.grow_to(len(self._numbers))
        return number
