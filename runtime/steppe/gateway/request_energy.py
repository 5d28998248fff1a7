"""The energy of requests: it is known a little after their end, when the meters have been read."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from steppe.energy.window import Quality, worst
from steppe.gateway.ended_requests import MOST_ENDED, RecentRequests, RequestEnergy
from steppe.gateway.request import FinishedRequest

ENERGY_HEADER = "X-Steppe-Energy"
"""Header by which a client asks for the energy of its request."""
JOULES_HEADER = "X-Steppe-Energy-Joules"
"""Header of an answer without a stream: its joules."""

_MEMORY = 0.999
"""Weight that a request keeps in the joules per token when one more ends."""


@dataclass(slots=True)
class _Sums:
    """Decaying sums over the requests for a model."""

    energy_j: float = 0.0
    tokens: float = 0.0
    source: str = Quality.COUNTER
    boundary: str = "gpu"


class EnergyBook:
    """Takes the energy of requests from the meters, and gives it to the answers that wait for it.

    Use it on one event loop; it is not safe from other threads.

    Attributes:
        ended: The last requests that have ended.
        by_priority_j: Energy of the requests that have ended so far, J, by their class.
    """

    def __init__(self, most_ended: int = MOST_ENDED) -> None:
        """Begin without requests; keep the last `most_ended` that have ended."""
        self.ended = RecentRequests(most_ended)
        self._awaited: dict[str, asyncio.Future[RequestEnergy]] = {}
        self._models: defaultdict[str, _Sums] = defaultdict(_Sums)
        self.by_priority_j: defaultdict[str, float] = defaultdict(float)

    def add(self, energies: Iterable[RequestEnergy]) -> None:
        """Note the energy of requests, and give it to the answers that wait for it."""
        for energy in energies:
            request = self.ended.settle(energy)
            if request is not None and energy.is_final:
                self._learn(request, energy)
            awaited = self._awaited.get(energy.id)
            if awaited is not None and not awaited.done():
                awaited.set_result(energy)

    def add_request(self, request: FinishedRequest) -> None:
        """Keep a request that has ended."""
        self.ended.add(request)

    def _learn(self, request: FinishedRequest, energy: RequestEnergy) -> None:
        """Count the final energy of a request in its class, and per token of its model."""
        self.by_priority_j[request.priority] += energy.energy_j
        if not request.output_tokens or request.site:  # other meters know what those took
            return
        sums = self._models[request.model]
        sums.energy_j = _MEMORY * sums.energy_j + energy.energy_j
        sums.tokens = _MEMORY * sums.tokens + request.output_tokens
        sums.source, sums.boundary = energy.source, energy.boundary

    def joules_per_token(self, model: str) -> float | None:
        """Return the mean energy per output token of recent requests for a model, J."""
        sums = self._models.get(model)
        return sums.energy_j / sums.tokens if sums is not None and sums.tokens else None

    async def wait(self, request: FinishedRequest, timeout_s: float) -> RequestEnergy | None:
        """Return the energy of a request that has ended.

        Args:
            request: The request; call this before the event loop runs anything else.
            timeout_s: Longest wait, s; then the energy is estimated from its tokens.

        Returns:
            Its energy; None if it cannot even be estimated.
        """
        awaited: asyncio.Future[RequestEnergy] = asyncio.get_running_loop().create_future()
        self._awaited[request.id] = awaited
        try:
            async with asyncio.timeout(timeout_s):
                return await awaited
        except TimeoutError:
            return self._estimate(request)
        finally:
            del self._awaited[request.id]

    def _estimate(self, request: FinishedRequest) -> RequestEnergy | None:
        per_token_j = self.joules_per_token(request.model)
        if per_token_j is None or request.output_tokens is None:
            return None
        sums = self._models[request.model]
        source = worst((sums.source, Quality.ESTIMATED))
        energy_j = per_token_j * request.output_tokens
        return RequestEnergy(request.id, energy_j, source, sums.boundary, is_final=False)
