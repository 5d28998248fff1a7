"""Totals of the prompts of a simulated run, as the live gateway counts them."""

from __future__ import annotations

from steppe.sim.request import Request

MEMORY = 0.995
"""Weight that the requests so far keep as another begins, as in `gateway/prompt_size.py`."""


class PromptTotals:
    """Running totals of the prompts that have arrived.

    How much of a prompt the prefix cache holds is known when its first token comes. Until then it
    counts with the share of those before it.

    Attributes:
        prompt_tokens: All of them.
        cached_tokens: Those of them that the prefix cache held.
    """

    __slots__ = ("_cached", "_counted", "_prompts", "cached_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens = self.cached_tokens = 0
        self._prompts = self._cached = 0.0
        self._counted: dict[int, int] = {}

    def arrive(self, request: Request) -> None:
        """Count a request that has arrived."""
        arrival = request.arrival
        self.prompt_tokens += arrival.prompt_tokens
        cached_tokens = arrival.cached_tokens
        if arrival.hash_ids:
            share = self._cached / self._prompts if self._prompts else 0.0
            cached_tokens = self._counted[request.number] = round(share * arrival.prompt_tokens)
        self.cached_tokens += cached_tokens

    def begin(self, requests: list[Request]) -> None:
        """Take what the cache held of the prompts of requests that have their first token."""
        if not self._counted:
            return
        for request in requests:
            counted = self._counted.pop(request.number, None)
            if counted is not None:
                self.cached_tokens += request.cached_tokens - counted
                self._prompts = MEMORY * self._prompts + request.arrival.prompt_tokens
                self._cached = MEMORY * self._cached + request.cached_tokens
