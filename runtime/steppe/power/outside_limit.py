"""Limits of the site that come from outside, such as those of the grid."""

from __future__ import annotations

from typing import Protocol


class OutsideLimit(Protocol):
    """A limit of the site budget whose name changes with time; it is never stale."""

    def limit_at(self, at_s: float) -> tuple[float, str] | None:
        """Return the most that the site may draw, W, and what sets it; None for no limit.

        It is called several times per tick, from one thread, so it must not block.

        Args:
            at_s: Run time, s; of a time ahead, what is known now.
        """
        ...
