"""How many prompts a replica may have at once, from how fast it gives first tokens.

An engine computes prompts in the order of their arrival. If many come at once, as when its batch
limit rises while requests wait, the next one waits behind all of them, however urgent it is. At
the gateway the urgent one goes first. So a replica gets no more prompts than it computes in a
part of the time that the SLO allows; the others wait at the gateway.
"""

from __future__ import annotations

import math

LEAST_PROMPTS = 1
"""Prompts that a replica may always have. Simulated on 70B replicas with prompts of 8,000 tokens, a
second one that waits inside the engine costs a third of the requests that keep the SLO."""
MEMORY_S = 5.0
"""Time with prompts over which the rate is taken, s."""


class PromptPace:
    """The first tokens per second of one replica while it has prompts to compute.

    Attributes:
        prompts: Prompts that it has now.
    """

    __slots__ = ("_busy_s", "_first_tokens", "_now_s", "prompts")

    def __init__(self) -> None:
        self.prompts = 0
        self._busy_s = self._first_tokens = self._now_s = 0.0

    def take(self, now_s: float, prompts: int = 1) -> None:
        """Note that the replica gets prompts."""
        self._pass(now_s)
        self.prompts += prompts

    def begin(self, now_s: float, prompts: int) -> None:
        """Note that prompts got their first token."""
        self._pass(now_s)
        self.prompts -= prompts
        self._first_tokens += prompts

    def most(self, wait_s: float) -> float:
        """Return the most prompts that wait no longer than this, s; no limit before any began."""
        if not self._busy_s or not self._first_tokens or math.isinf(wait_s):
            return math.inf
        return max(LEAST_PROMPTS, wait_s * self._first_tokens / self._busy_s)

    def _pass(self, now_s: float) -> None:
        passed_s, self._now_s = now_s - self._now_s, now_s
        if self.prompts <= 0 or passed_s <= 0:
            return
        kept = math.exp(-passed_s / MEMORY_S)
        self._busy_s = self._busy_s * kept + passed_s
        self._first_tokens *= kept
