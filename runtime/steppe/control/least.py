"""Numbers of which the least is found without a look at each of them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

BLOCK = 64
"""Numbers whose least one is kept: a change looks at so many at most, a search at the blocks."""


class LeastOf:
    """A list of numbers that keeps the least of every block.

    Attributes:
        values: The numbers; to be changed by `set` only.
    """

    __slots__ = ("_least", "values")

    def __init__(self, values: Iterable[float]) -> None:
        """Begin with these numbers."""
        self.values = list(values)
        self._least = [min(self._block(b)) for b in range(-(-len(self.values) // BLOCK))]

    @property
    def least(self) -> float:
        """The least number; infinite without any."""
        return min(self._least, default=inf)

    def set(self, index: int, value: float) -> None:
        """Change a number."""
        block, least = index // BLOCK, self._least
        before, self.values[index] = self.values[index], value
        if value <= least[block]:
            least[block] = value
        elif before == least[block]:
            least[block] = min(self._block(block))

    def first_least(self, start: int) -> int:
        """Return the index of the first least number from `start` on, or else of the first of all.

        There must be a number.
        """
        found = self.least
        block = start // BLOCK
        if start % BLOCK:
            at = self._find(found, block, start)
            if at is not None:
                return at
            block += 1
        try:
            block = self._least.index(found, block)
        except ValueError:
            block = self._least.index(found)
        return self.values.index(found, block * BLOCK)

    def _find(self, value: float, block: int, start: int) -> int | None:
        if block >= len(self._least) or self._least[block] != value:
            return None
        try:
            return self.values.index(value, start, (block + 1) * BLOCK)
        except ValueError:
            return None

    def _block(self, block: int) -> list[float]:
        return self.values[block * BLOCK : (block + 1) * BLOCK]
