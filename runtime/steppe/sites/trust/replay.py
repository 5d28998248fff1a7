"""A token is used once: which ones were, until they have expired.

It holds also when the clock of this host is set back: what was forgotten is remembered by the
latest end of it, and no token that ends before that is accepted again.
"""

from __future__ import annotations

import heapq

from steppe.sites.trust.token import LEEWAY_S, Token, TokenError

MOST = 200_000
"""Most tokens of one home site: some 3,000 requests a second."""


class ReplayGuard:
    """The tokens that were used."""

    def __init__(self, leeway_s: float = LEEWAY_S, most: int = MOST) -> None:
        """Begin with none.

        Args:
            leeway_s: That of `read_token`, s.
            most: Most tokens of one home site that are remembered; more are refused.
        """
        self._leeway_s, self._most = leeway_s, most
        self._used: dict[str, set[str]] = {}
        self._ends: dict[str, list[tuple[int, str]]] = {}
        self._forgotten_s: dict[str, int] = {}

    def use(self, token: Token, now_s: float) -> None:
        """Use a token.

        Args:
            token: A token of `read_token`.
            now_s: The clock that was given there, s.

        Raises:
            TokenError: It was used before, or there are too many.
        """
        home = token.home
        used, ends = self._used.setdefault(home, set()), self._ends.setdefault(home, [])
        while ends and ends[0][0] + self._leeway_s < now_s:
            end_s, request = heapq.heappop(ends)
            used.discard(request)
            self._forgotten_s[home] = max(self._forgotten_s.get(home, 0), end_s)
        if token.request in used:
            raise TokenError(f"token.jti: request {token.request} of {home} was here before")
        if token.expires_s <= self._forgotten_s.get(home, 0):
            raise TokenError("token.exp: asked for a later end; the clock here was set back")
        if len(used) >= self._most:
            raise TokenError(f"token: asked for at most {self._most} requests a minute of {home}")
        used.add(token.request)
        heapq.heappush(ends, (token.expires_s, token.request))
