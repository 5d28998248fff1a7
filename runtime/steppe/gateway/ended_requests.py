"""Requests that have ended, kept for a while so that clients can ask for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steppe.gateway.request import FinishedRequest

MOST_ENDED = 20_000
"""Requests that are kept; the oldest leave first. Each takes about 1 kB."""


@dataclass(frozen=True, slots=True)
class RequestEnergy:
    """The energy of one request.

    Attributes:
        id: Its id.
        energy_j: Energy charged to it, J.
        source: How the joules were found: `counter`, `integrated`, `estimated` or `emulated`.
        boundary: What they enclose: `gpu`, `node` or `site`.
        is_final: Whether nothing is missing. Before, a late engine step may still add a little.
        gateway: Name of the gateway that had it; empty if there is only one.
    """

    id: str
    energy_j: float
    source: str
    boundary: str
    is_final: bool
    gateway: str = ""

    def shown(self) -> dict[str, Any]:
        """Return it as clients see it, in `usage.energy`."""
        return {
            "joules": self.energy_j,
            "source": self.source,
            "boundary": self.boundary,
            "final": self.is_final,
        }


@dataclass(slots=True)
class EndedRequest:
    """A request that has ended.

    Attributes:
        request: What happened to it.
        energy: Its energy; None while the meters have not been read.
    """

    request: FinishedRequest
    energy: RequestEnergy | None = None

    def shown(self) -> dict[str, Any]:
        """Return it as clients see it."""
        request = self.request
        return {
            "id": request.id,
            "object": "steppe.request",
            "model": request.adapter or request.model,
            "asked_model": request.asked_model or request.adapter or request.model,
            "tenant": request.tenant,
            "priority": request.priority,
            "arrived_at": iso(request.arrival_epoch_s),
            "status": request.status,
            "finish": request.finish,
            "replica": request.replica,
            "site": request.site,
            "ttft_s": request.ttft_s,
            "e2e_s": request.e2e_s,
            "usage": {
                "prompt_tokens": request.prompt_tokens,
                "cached_tokens": request.cached_tokens,
                "completion_tokens": request.output_tokens,
                "energy": None if self.energy is None else self.energy.shown(),
            },
        }


class RecentRequests:
    """The last requests that have ended, by id."""

    def __init__(self, most: int = MOST_ENDED) -> None:
        """Begin without requests; keep at most `most`."""
        self._most = most
        self._by_id: OrderedDict[str, EndedRequest] = OrderedDict()

    def add(self, request: FinishedRequest) -> None:
        """Keep a request; another one with its id is forgotten."""
        self._by_id.pop(request.id, None)
        self._by_id[request.id] = EndedRequest(request)
        if len(self._by_id) > self._most:
            self._by_id.popitem(last=False)

    def settle(self, energy: RequestEnergy) -> FinishedRequest | None:
        """Note the energy of a request, and return it; None if it is not kept."""
        ended = self._by_id.get(energy.id)
        if ended is None:
            return None
        ended.energy = energy
        return ended.request

    def get(self, id_: str) -> EndedRequest | None:
        """Return a request; None if it is not kept."""
        return self._by_id.get(id_)


def iso(epoch_s: float) -> str:
    """Return a time, s since the Unix epoch, in ISO 8601 with milliseconds, UTC."""
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
