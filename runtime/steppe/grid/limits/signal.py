"""The limits of the grid as a limit of the power budget."""

from __future__ import annotations

from collections.abc import Callable

from steppe.grid.limits.limits import Limits


class LimitSignal:
    """What `PowerBudget.join` takes: the limit in force, which is never stale.

    A lost link needs no stale reading, because its default is in force then.
    """

    def __init__(self, limits: Limits, present_s: Callable[[], float]) -> None:
        """Name the limits.

        Args:
            limits: The limits.
            present_s: Reads the clock of the run, s.
        """
        self._limits, self._present_s = limits, present_s

    def limit_at(self, at_s: float) -> tuple[float, str] | None:
        """Return the limit in force at a time of the run, W, and its name; None for no limit.

        Args:
            at_s: Run time, s. Of a time ahead, what is known now; of one that has passed, the
                limit of now.
        """
        found = self._limits.in_force(max(0.0, at_s - self._present_s()))
        return None if found is None else (found.watts, found.name)
