"""The energy that requests take at other sites, estimated until it is settled with them.

What a site owes another one is known when a period has been settled, up to an hour later. Limits of
a tenant in joules cannot wait for that: they count what the other site shows per token.
"""

from __future__ import annotations

from steppe.sites.peer import SiteTry, TryOutcome

MOST = 100_000
"""So many requests are kept until their energy here is known; the first ones are dropped."""
_UJ_PER_J = 1e6


class EnergyElsewhere:
    """Estimates by request, J."""

    def __init__(self, most: int = MOST) -> None:
        """Begin without requests; keep at most `most`."""
        self._most = most
        self._by_request: dict[str, float] = {}

    def note(self, request: str, peer: SiteTry, outcome: TryOutcome) -> None:
        """Add a try of a request at another site."""
        energy_uj = outcome.output_tokens * peer.uj_per_token
        energy_uj += outcome.prompt_tokens * peer.prompt_uj_per_token
        if energy_uj <= 0:
            return
        before_j = self._by_request.pop(request, 0.0)
        self._by_request[request] = before_j + energy_uj / _UJ_PER_J
        if len(self._by_request) > self._most:
            del self._by_request[next(iter(self._by_request))]

    def take(self, request: str) -> float:
        """Return what a request took at other sites, J, and forget it."""
        return self._by_request.pop(request, 0.0)
