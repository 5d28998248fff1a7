"""Which messages were seen before, and which are too old or too new."""

from __future__ import annotations

from typing import Literal

from steppe.grid.dsx.envelope import Envelope, MessageError, time_of


class ReplayGuard:
    """Ids of messages, kept for as long as the time window lets them in again.

    A message is given to it after its signature was checked, so others cannot fill it.
    """

    def __init__(self, window_s: float, started_s: float, most: int = 4096) -> None:
        """Keep no ids yet.

        Args:
            window_s: How far the time of a message may be from ours, s.
            started_s: Start of this process, s since the Unix epoch. What was sent before is
                refused: the ids that were seen then are lost.
            most: Most ids of one source that are kept.
        """
        self._window_s = window_s
        self._started_s = started_s
        self._most = most
        self._until_s: dict[str, dict[str, float]] = {}

    def check(self, envelope: Envelope, now_s: float) -> Literal["new", "seen"]:
        """Return whether a message is new, and keep its id.

        Raises:
            MessageError: It is outside the time window or from before the start of this process,
                or its source sends more than is kept.
        """
        seen = self._until_s.setdefault(envelope.source, {})
        for each in [id_ for id_, until_s in seen.items() if until_s < now_s]:
            del seen[each]
        if envelope.id in seen:
            return "seen"
        time_s = envelope.time_s
        if abs(time_s - now_s) > self._window_s:
            asked = f"a message within {self._window_s:g} s of {time_of(now_s)}"
            raise MessageError(f"time: asked for {asked}, found {envelope.time}")
        if time_s < self._started_s:
            asked = f"a message since our start at {time_of(self._started_s)}"
            raise MessageError(f"time: asked for {asked}, found {envelope.time}")
        if len(seen) >= self._most:
            asked = f"at most {self._most} messages within {2 * self._window_s:g} s"
            raise MessageError(f"{envelope.source}: asked for {asked}, found more")
        seen[envelope.id] = max(time_s, now_s) + self._window_s
        return "new"
