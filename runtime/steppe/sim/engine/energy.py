"""The energy of one replica: shared among its requests, or idle.

The rule is that of `energy/attribution.py`: the busy joules of a window are shared among the steps
by how long they took, and within a step among its requests by weight. `EnergyShares` applies it
without visiting each step. Sequences that only decode weigh alike, so all that decode now gain the
same: one running sum of their *share* (busy seconds of one such sequence) serves them all, and a
request is charged the difference between leaving and joining. Costs follow requests, not tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class Beside:
    """What one replica is charged beside its GPUs.

    Attributes:
        draw_w: Its part of the nodes' draw beside the GPUs and of the site's overhead, W.
        loss: Watts that the site loses for each watt of the GPUs.
    """

    draw_w: float = 0.0
    loss: float = 0.0

    def energy_j(self, gpus_j: float, span_s: float) -> float:
        """Return the energy beside GPUs that took `gpus_j` in a time, J."""
        return self.loss * gpus_j + self.draw_w * span_s


NOTHING_BESIDE = Beside()


class EnergyShares:
    """The shares of the requests of one replica.

    Attributes:
        share_s: Busy seconds of a sequence that has decoded since the run began, s.
        joules: Energy that it would have been charged in all closed windows, J.
    """

    __slots__ = ("_closed_s", "_pending", "joules", "share_s")

    def __init__(self) -> None:
        self.share_s = 0.0
        self.joules = 0.0
        self._closed_s = 0.0
        self._pending: list[tuple[Request, float]] = []

    def join(self, request: Request) -> float:
        """Begin to charge a request that decodes; return `joules` for `leave`."""
        self._pending.append((request, self._closed_s - self.share_s))
        return self.joules

    def leave(self, request: Request, joined_j: float) -> None:
        """Stop charging a request that decoded.

        Args:
            request: The request.
            joined_j: What `join` returned, J.
        """
        request.energy_j += self.joules - joined_j
        self._pending.append((request, self.share_s - self._closed_s))

    def charge(self, request: Request, share_s: float) -> None:
        """Charge a request for its part of a step, busy seconds."""
        self._pending.append((request, share_s))

    def close(self, busy_j: float, busy_s: float, share_s: float) -> None:
        """Close a window.

        Args:
            busy_j: Energy of the steps that ended in it, J.
            busy_s: Duration of these steps, s.
            share_s: `share_s` at the end of the last of them, s.
        """
        draw_w = busy_j / busy_s if busy_s > 0 else 0.0
        self.joules += draw_w * (share_s - self._closed_s)
        self._closed_s = share_s
        for request, part_s in self._pending:
            request.energy_j += draw_w * part_s
        self._pending.clear()


class IdleState(Enum):
    """Why a replica does not step."""

    IDLE = "no work, or asleep, or gone"
    TRANSITION = "starts, wakes or goes to sleep"


class IdleEnergy:
    """The energy of a replica while it does not step, by reason."""

    __slots__ = ("_draw_w", "_idle_j", "_since_s", "_state", "_transition_j")

    def __init__(self, now_s: float, draw_w: float) -> None:
        """Begin without work at `now_s`, at this draw, W."""
        self._idle_j = self._transition_j = 0.0
        self._state, self._draw_w, self._since_s = IdleState.IDLE, draw_w, now_s

    def begin(self, now_s: float) -> None:
        """Begin to count: a run of steps has ended."""
        self._since_s = now_s

    def add_until(self, now_s: float) -> None:
        """Add the energy up to now."""
        energy_j = self._draw_w * (now_s - self._since_s)
        if self._state is IdleState.IDLE:
            self._idle_j += energy_j
        else:
            self._transition_j += energy_j
        self._since_s = now_s

    def change(self, state: IdleState, now_s: float, draw_w: float) -> None:
        """Change the reason and the draw, W, from now on."""
        self.add_until(now_s)
        self._state, self._draw_w = state, draw_w

    def add_idle(self, energy_j: float) -> None:
        """Add the energy of a step that never ended, J."""
        self._idle_j += energy_j

    def take(self) -> tuple[float, float]:
        """Return the idle and the transition joules since the last call."""
        taken = self._idle_j, self._transition_j
        self._idle_j = self._transition_j = 0.0
        return taken
