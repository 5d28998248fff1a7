"""Which replica holds which prefixes: an estimate from the requests that it was sent.

A prompt is a chain of blocks. The hash of a block covers all blocks before it, as vLLM chains its
block hashes, so that equal hashes mean equal prefixes. The index keeps the blocks of the requests
that each replica was sent lately. It does not know what an engine has evicted: a stale entry costs
a hit, never a request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

MEMORY = 0.998
"""Weight that the worth of a cache keeps as another request comes: about the last 500 count."""
_LARGEST_SCALE = 1e100
_FEW = 16
"""Of so few bits each is found by arithmetic; of more, the digits are looked at."""


class HeldPrefix(NamedTuple):
    """Replicas that hold at least a part of a prompt.

    Attributes:
        blocks: Leading blocks of the prompt that all of them hold.
        replicas: The replicas, as bits: `1 << number`.
    """

    blocks: int
    replicas: int


class PrefixIndex:
    """The blocks that each replica holds, by the replica's number; the oldest are forgotten."""

    __slots__ = ("_credit", "_holders", "_kept", "_most", "_scale")

    def __init__(self, replicas: int, blocks_per_replica: int) -> None:
        """Begin with nothing known.

        Args:
            replicas: Number of replicas; `grow_to` adds more.
            blocks_per_replica: Most blocks that are remembered of each.
        """
        self._most = blocks_per_replica
        self._holders: dict[int, int] = {}
        self._kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(replicas)]
        self._credit, self._scale = [0.0] * replicas, 1.0

    def grow_to(self, replicas: int) -> None:
        """Know at least so many replicas."""
        for _ in range(len(self._kept), replicas):
            self._kept.append(OrderedDict())
            self._credit.append(0.0)

    def blocks(self, replica: int) -> int:
        """Return the number of blocks that are remembered of a replica."""
        return len(self._kept[replica])

    def levels(self, hashes: Sequence[int]) -> list[HeldPrefix]:
        """Return which replicas hold how much of a prompt, the longest part first.

        Args:
            hashes: Chained hashes of the blocks of the prompt.

        Returns:
            For each length at which fewer replicas go on, that length and the replicas that hold
            it. Empty if no replica holds the first block.
        """
        found: list[HeldPrefix] = []
        holders, mask, depth = self._holders, -1, 0
        for block in hashes:
            left = mask & holders.get(block, 0)
            if left != mask:
                if depth:
                    found.append(HeldPrefix(depth, mask))
                mask = left
                if not left:
                    break
            depth += 1
        if mask and depth:
            found.append(HeldPrefix(depth, mask))
        found.reverse()
        return found

    def credit(self, levels: Sequence[HeldPrefix]) -> None:
        """Count a request for the worth of the caches that could serve the most of it."""
        self._scale /= MEMORY
        if levels:
            blocks, replicas = levels[0]
            gain = blocks * self._scale
            for number in numbers_of(replicas):
                self._credit[number] += gain
        if self._scale > _LARGEST_SCALE:
            self._credit = [credit / self._scale for credit in self._credit]
            self._scale = 1.0

    def worth(self, replica: int) -> float:
        """Return how many blocks of recent requests the cache of a replica could serve.

        The requests count that it holds the longest part of, whether they went there or not, so a
        sleeping replica has a worth too. Recent requests count more.
        """
        return self._credit[replica] / self._scale

    def record(self, replica: int, hashes: Sequence[int]) -> None:
        """Note that a replica computes a prompt, so that it holds its blocks from now on."""
        kept, holders, bit = self._kept[replica], self._holders, 1 << replica
        for block in reversed(hashes[: self._most]):  # the end of a prompt is forgotten first
            if block in kept:
                kept.move_to_end(block)
            else:
                kept[block] = None
                holders[block] = holders.get(block, 0) | bit
        for _ in range(len(kept) - self._most):
            self._drop(kept.popitem(last=False)[0], bit)

    def forget(self, replica: int) -> None:
        """Note that a replica has lost its cache, as after a restart."""
        for block in self._kept[replica]:
            self._drop(block, 1 << replica)
        self._kept[replica].clear()
        self._credit[replica] = 0.0

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def numbers_of(replicas: int) -> list[int]:
    """Return the numbers of replicas that are bits, in their order."""
    if replicas.bit_count() > _FEW:
        return [number for number, bit in enumerate(reversed(f"{replicas:b}")) if bit == "1"]
    found = []
    while replicas:
        lowest = replicas & -replicas
        found.append(lowest.bit_length() - 1)
        replicas ^= lowest
    return found
