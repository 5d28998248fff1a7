"""Conversations stay where their prefix is cached, unless a move gains more than it loses.

Without pins a router of several hosts found 57 % of the prompt tokens cached, with pins 77 %
(local-operator, issue 995).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

IDLE_S = 600.0
"""A conversation without a request for so long is no longer pinned."""
HYSTERESIS = 1.5
"""A move must gain so many times the joules that it loses."""
REST_S = 30.0
"""A conversation that has moved stays for so long at least."""
MOST_PINS = 100_000


class Pin(NamedTuple):
    """Where a conversation is.

    Attributes:
        site: Name of the site.
        cached_tokens: Prompt tokens that its cache holds.
        used_s: Time of the last request, s.
        moved_s: Since when the conversation is there, s.
    """

    site: str
    cached_tokens: int
    used_s: float
    moved_s: float


def breaks(pin: Pin, gain_j: float, lost_j: float, now_s: float) -> bool:
    """Return whether a conversation should move.

    Args:
        pin: Where it is.
        gain_j: Energy from the grid that this request saves at the other site, J.
        lost_j: Energy to compute the cached prefix again there, J.
        now_s: Now, s.
    """
    return now_s - pin.moved_s >= REST_S and gain_j > 0.0 and gain_j > HYSTERESIS * lost_j


class Pins:
    """The conversations of a gateway, the longest idle first.

    Args:
        most: How many are kept; the longest idle one goes first.
    """

    def __init__(self, most: int = MOST_PINS) -> None:
        self._most = most
        self._pins: OrderedDict[str, Pin] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pins)

    def find(self, conversation: str | None, now_s: float) -> Pin | None:
        """Return where a conversation is; None if it is not pinned or idle for too long."""
        pin = None if conversation is None else self._pins.get(conversation)
        if pin is None or now_s - pin.used_s > IDLE_S:
            return None
        return pin

    def keep(self, conversation: str, site: str, cached_tokens: int, now_s: float) -> None:
        """Note that a site has served a conversation.

        Args:
            conversation: Its key.
            site: Name of the site.
            cached_tokens: Tokens of prompt and answer that its cache now holds.
            now_s: Now, s.
        """
        before = self.find(conversation, now_s)
        stayed = before is not None and before.site == site
        moved_s = before.moved_s if before is not None and stayed else now_s
        self._pins[conversation] = Pin(site, cached_tokens, now_s, moved_s)
        self._pins.move_to_end(conversation)
        self._forget(now_s)

    def drop(self, conversation: str) -> None:
        """Unpin a conversation whose site refused it or is lost."""
        self._pins.pop(conversation, None)

    def _forget(self, now_s: float) -> None:
        while self._pins:
            longest_idle = next(iter(self._pins.values()))
            if len(self._pins) <= self._most and now_s - longest_idle.used_s <= IDLE_S:
                return
            self._pins.popitem(last=False)
