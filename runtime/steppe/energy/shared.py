"""The energy of a GPU that other processes use as well: our part of it, an estimate.

The driver counts joules for the whole board. The idle part of its draw is divided by the reserved
share, here equal parts for us and for each other process, and the active part by the time in
which each side was busy. The share found for one time is used for the next, so that adjacent
windows add up exactly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from itertools import pairwise

from steppe.energy.gpu_meters import EnergyHistory
from steppe.energy.window import EnergyWindow, Quality

_KEPT = 4096


@dataclass(frozen=True, slots=True)
class SharedUse:
    """How a GPU was used in a while.

    Attributes:
        draw_w: Its mean draw, W.
        idle_w: Its draw without work, W.
        parties: Number of processes that share it, our engine counted as one.
        own_busy: Share of the time in which our engine stepped, 0 to 1.
        other_busy: Share of the time in which the others were busy, 0 to 1.
    """

    draw_w: float
    idle_w: float
    parties: int
    own_busy: float
    other_busy: float

    @property
    def own_share(self) -> float:
        """Our part of its energy, 0 to 1."""
        busy = self.own_busy + self.other_busy
        own_active = self.own_busy / busy if busy > 0 else 1.0 / self.parties
        idle_w = min(self.idle_w, self.draw_w)
        if self.draw_w <= 0:
            return own_active
        own_w = idle_w / self.parties + (self.draw_w - idle_w) * own_active
        return own_w / self.draw_w


class SharedHistory:
    """The history of a GPU, with our part of its energy. One thread may set the share."""

    def __init__(self, whole: EnergyHistory, *, is_emulated: bool = False) -> None:
        """Begin as the only user.

        Args:
            whole: The energy of the board.
            is_emulated: Whether the label stays `emulated` whatever the share.
        """
        self._whole, self._is_emulated = whole, is_emulated
        self._lock = threading.Lock()
        self._shares: list[tuple[float, float]] = [(float("-inf"), 1.0)]

    @property
    def covered_until_s(self) -> float:
        """Time of the last reading, s."""
        return self._whole.covered_until_s

    def set_share(self, now_s: float, share: float) -> None:
        """Set our part from now on, 0 to 1; 1 while no other process uses the GPU."""
        with self._lock:
            if share != self._shares[-1][1]:
                self._shares.append((now_s, share))
            if len(self._shares) > 2 * _KEPT:
                del self._shares[:_KEPT]

    def window(self, start_s: float, end_s: float) -> EnergyWindow:
        """Return our energy between two instants, and the others' beside it.

        Raises:
            DeviceError: No reading reaches so far back.
        """
        whole = self._whole.window(start_s, end_s)
        with self._lock:
            shares = [(at_s, share) for at_s, share in self._shares if at_s < max(end_s, start_s)]
        inside = [at_s for at_s, _ in shares if at_s > start_s]
        if not inside and shares[-1][1] == 1.0:
            return whole
        own_j, others_j = 0.0, 0.0
        for begin_s, until_s in pairwise([start_s, *inside, end_s]):
            share = next(share for at_s, share in reversed(shares) if at_s <= begin_s)
            part_j = self._whole.window(begin_s, until_s).energy_j
            own_j, others_j = own_j + share * part_j, others_j + (1.0 - share) * part_j
        if others_j <= 0.0:
            return whole
        # How far off the division is cannot be known; the others' part is an allowance for it.
        return replace(
            whole,
            energy_j=own_j,
            neighbour_j=others_j,
            error_j=whole.error_j + others_j,
            quality=whole.quality if self._is_emulated else Quality.ESTIMATED,
            wrong_inside=True,
        )
