"""The prefix cache of one engine: blocks of earlier prompts, in GPU memory and in host memory.

The rules are those of vLLM. Blocks of running sequences are held; those of ended ones stay until
the memory is needed, the least recently used first, and of one prompt its end first. A prompt
reuses the leading blocks that are in GPU memory, then those that follow in host memory, which are
loaded. Host memory gets a copy of every block (vLLM's `OffloadingConnector`).

Every prompt holds its own tokens in the KV cache (`batch.py`), shared or not; this counts less free
memory than vLLM has. Output tokens are not reused: a trace gives no hashes of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class HostCache:
    """The part of a prefix cache in host memory.

    Attributes:
        tokens: Tokens that it holds.
        load_s: Time to load a token to the GPUs, s; no step runs meanwhile.
    """

    tokens: int = 0
    load_s: float = 0.0


NO_HOST_CACHE = HostCache()


class Match(NamedTuple):
    """The leading blocks of a prompt that a cache holds.

    Attributes:
        blocks: All of them.
        loaded: Those of them in host memory only.
    """

    blocks: int
    loaded: int


class PrefixCache:
    """Blocks by their hashes."""

    __slots__ = ("_free", "_held", "_host", "_host_tokens")

    def __init__(self, host_tokens: int = 0) -> None:
        """Begin empty, with room for so many tokens in host memory."""
        self._held: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        self._host: OrderedDict[int, None] = OrderedDict()
        self._host_tokens = host_tokens

    @property
    def blocks(self) -> int:
        """Blocks in GPU memory or in host memory, the larger of both."""
        return max(len(self._held) + len(self._free), len(self._host))

    def shrink(self, room: int) -> None:
        """Drop free blocks from GPU memory until at most `room` are left."""
        for _ in range(len(self._free) - max(0, room)):
            self._free.popitem(last=False)

    def match(self, hashes: tuple[int, ...]) -> Match:
        """Return how many leading blocks of a prompt can be reused."""
        held, free, host = self._held, self._free, self._host
        blocks = loaded = 0
        for block in hashes:
            if not loaded and (block in held or block in free):
                blocks += 1
            elif block in host:
                blocks += 1
                loaded += 1
            else:
                break
        return Match(blocks, loaded)

    def hold(self, hashes: tuple[int, ...]) -> None:
        """Hold blocks in GPU memory for a sequence until `release`."""
        held, free = self._held, self._free
        for block in hashes:
            held[block] = held.get(block, 0) + 1
            free.pop(block, None)

    def release(self, hashes: tuple[int, ...], *, keep: bool = True) -> None:
        """Return blocks that a sequence held; they stay until their memory is needed.

        Args:
            hashes: The blocks.
            keep: Whether they have been computed; otherwise they are gone.
        """
        held, free = self._held, self._free
        for block in reversed(hashes):
            left = held[block] - 1
            if left:
                held[block] = left
                continue
            del held[block]
            if keep:
                free[block] = None

    def store(self, hashes: tuple[int, ...], block_tokens: int) -> None:
        """Copy the blocks of a prompt to host memory."""
        host, most = self._host, self._host_tokens // block_tokens
        if not most:
            return
        for block in reversed(hashes):
            host[block] = None
            host.move_to_end(block)
        for _ in range(len(host) - most):
            host.popitem(last=False)

    def clear(self) -> None:
        """Drop everything, as the end of the process and a sleep deeper than a pause do."""
        self._held.clear()
        self._free.clear()
        self._host.clear()
