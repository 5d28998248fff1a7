"""Who is charged for a replica's joules, without looking at each step.

The rule is that of `energy/attribution.py`: the busy joules of a window are shared among the
steps by how long they took, and within a step among its requests by weight. Sequences that only
decode weigh alike, so all that decode now gain the same: one running sum of their *share* (busy
seconds of one such sequence) serves them all, and a request is charged the difference between
its leaving and its joining. Costs follow requests, not tokens.
"""

from __future__ import annotations

from steppe.sim.request import Request


class Account:
    """The shares of one replica's requests.

    Attributes:
        share_s: Busy seconds of a sequence that has decoded since the run began, s.
        joules: What it would have been charged for those of all closed windows, J.
    """

    __slots__ = ("_closed_s", "_pending", "joules", "share_s")

    def __init__(self) -> None:
        self.share_s = 0.0
        self.joules = 0.0
        self._closed_s = 0.0
        self._pending: list[tuple[Request, float]] = []

    def join(self, request: Request) -> float:
        """Begin to charge a request that decodes from now on; return its receipt for `leave`."""
        self._pending.append((request, self._closed_s - self.share_s))
        return self.joules

    def leave(self, request: Request, receipt: float) -> None:
        """Cease to charge a request that decoded."""
        request.energy_j += self.joules - receipt
        self._pending.append((request, self.share_s - self._closed_s))

    def charge(self, request: Request, share_s: float) -> None:
        """Charge a request for its part of a step, busy seconds."""
        self._pending.append((request, share_s))

    def close(self, busy_j: float, busy_s: float, share_s: float) -> None:
        """Close a window.

        Args:
            busy_j: Energy of the steps that ended in it, J.
            busy_s: How long they took, s.
            share_s: `share_s` at the end of the last of them, s.
        """
        draw_w = busy_j / busy_s if busy_s > 0 else 0.0
        self.joules += draw_w * (share_s - self._closed_s)
        self._closed_s = share_s
        for request, part_s in self._pending:
            request.energy_j += draw_w * part_s
        self._pending.clear()
