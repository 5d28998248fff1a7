"""What a GPU returns to when its limits are undone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Baseline:
    """The state of a GPU without a holder; a site's own choice.

    Only GPUs whose limits are undone return to it: others are left as they are.

    Attributes:
        clock_mhz: SM clock limit, MHz; None: no limit.
        power_limit_w: Board power limit, W; None: the limit that was found before.
    """

    clock_mhz: int | None = None
    power_limit_w: float | None = None


AS_FOUND = Baseline()
"""Free clocks, and the board power limit that was found."""
