"""How many rows may be at a gateway now, by its answers so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

NO_FORECAST_S = 2.0
"""Pause after a refusal that names no time, s; it doubles while refusals follow each other."""
LONGEST_GUESS_S = 60.0
"""Longest such pause, s."""
FIRST_BACKOFF_S = 0.5
"""Pause after the first connection that broke, s."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows may be at a gateway.

    A gateway that answers to declared work says how many it takes. Without that, the number grows
    by one with each answer and is halved by a refusal, up to `most` (additive increase,
    multiplicative decrease, as TCP does it).

    Attributes:
        most: Most rows where the gateway does not say.
        window: Rows that it takes by its refusals so far.
        wanted: Rows that the gateway takes; None if it does not say.
        held: Rows whose answers are complete and wait for their energy only, on average.
        paused_until_s: No row is sent before, s.
        is_limit: Whether a limit of the tenant made the pause; more power does not end it.
        refusals: Refusals, or broken connections, since the last answer.
        unpaid: Why the tenant cannot pay, in the gateway's word; empty if it can. Then one row
            after each pause finds out whether it can now.
    """

    most: int
    window: float
    wanted: int | None = None
    held: float = 0.0
    paused_until_s: float = 0.0
    is_limit: bool = False
    refusals: int = 0
    unpaid: str = ""

    @classmethod
    def begin(cls, most: int) -> Pace:
        """Return the pace of a runner that knows nothing of its gateway."""
        return cls(most, float(most))

    @property
    def limit(self) -> int:
        """Most rows at the gateway, those that wait for their energy included."""
        places = int(self.window) if self.wanted is None else self.wanted
        return places + int(self.held) if places else 0

    def room(self, now_s: float, outstanding: int) -> int:
        """Return how many more rows may be sent now."""
        most = min(1, self.limit) if self.unpaid else self.limit
        return 0 if now_s < self.paused_until_s else max(0, most - outstanding)

    def answered(self) -> Pace:
        """Return the pace after an answer."""
        return replace(self, window=min(float(self.most), self.window + 1), refusals=0, unpaid="")

    def refused(
        self,
        now_s: float,
        retry_after_s: float | None,
        *,
        is_limit: bool = False,
        unpaid: str = "",
    ) -> Pace:
        """Return the pace after a refusal, which is kept until its time is over.

        Rows that were sent together and refused together halve the number once.

        Args:
            now_s: The time, s.
            retry_after_s: Time after which the gateway may have room, s; None if it does not say.
            is_limit: Whether a limit of the tenant refused the row.
            unpaid: Why its tenant cannot pay for it; empty if that is not the reason.
        """
        is_limit, unpaid = is_limit or bool(unpaid), unpaid or self.unpaid
        if now_s < self.paused_until_s:
            until_s = max(self.paused_until_s, now_s + (retry_after_s or 0.0))
            is_limit = self.is_limit or is_limit
            return replace(self, paused_until_s=until_s, is_limit=is_limit, unpaid=unpaid)
        guess_s = min(LONGEST_GUESS_S, NO_FORECAST_S * 2.0 ** min(self.refusals, 10))
        until_s = now_s + (guess_s if retry_after_s is None else retry_after_s)
        window = max(1.0, self.window / 2)
        refusals = self.refusals + 1
        return replace(
            self,
            window=window,
            paused_until_s=until_s,
            is_limit=is_limit,
            refusals=refusals,
            unpaid=unpaid,
        )

    def lost(self, now_s: float, most_s: float) -> Pace:
        """Return the pace after a connection broke, with a pause of at most `most_s`."""
        if now_s < self.paused_until_s:
            return self
        pause_s = min(most_s, FIRST_BACKOFF_S * 2.0 ** min(self.refusals, 10))
        return replace(self, paused_until_s=now_s + pause_s, refusals=self.refusals + 1)

    def told(self, wanted: int | None) -> Pace:
        """Return the pace after the gateway said how many rows it takes; None if it does not.

        If it takes rows again, the pause that a lack of power made is over before its forecast.
        """
        is_back = bool(wanted) and self.wanted == 0 and not self.is_limit
        return replace(self, wanted=wanted, paused_until_s=0.0 if is_back else self.paused_until_s)

    def holding(self, rows: float) -> Pace:
        """Return the pace with so many rows that wait for their energy only."""
        return replace(self, held=rows)
