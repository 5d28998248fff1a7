"""The joules of a replica that does not step."""

from __future__ import annotations

from enum import Enum


class IdleState(Enum):
    """Why a replica does not step."""

    IDLE = "no work, or asleep, or gone"
    TRANSITION = "starts, wakes or goes to sleep"


class IdleEnergy:
    """What a replica drew while it rested, by reason."""

    __slots__ = ("_draw_w", "_idle_j", "_rest", "_since_s", "_transition_j")

    def __init__(self, now_s: float, draw_w: float) -> None:
        """Rest without work from `now_s` on, at this draw, W."""
        self._idle_j = self._transition_j = 0.0
        self._rest, self._draw_w, self._since_s = IdleState.IDLE, draw_w, now_s

    def begin(self, now_s: float) -> None:
        """Begin to rest: a run of steps has ended."""
        self._since_s = now_s

    def book(self, now_s: float) -> None:
        """Book the rest up to now."""
        energy_j = self._draw_w * (now_s - self._since_s)
        if self._rest is IdleState.IDLE:
            self._idle_j += energy_j
        else:
            self._transition_j += energy_j
        self._since_s = now_s

    def become(self, rest: IdleState, now_s: float, draw_w: float) -> None:
        """From now on rest for this reason, at this draw, W."""
        self.book(now_s)
        self._rest, self._draw_w = rest, draw_w

    def add_idle(self, energy_j: float) -> None:
        """Count joules of a step that never ended, J."""
        self._idle_j += energy_j

    def take(self) -> tuple[float, float]:
        """Return the idle and the transition joules since the last call."""
        taken = self._idle_j, self._transition_j
        self._idle_j = self._transition_j = 0.0
        return taken
