"""What tenants had at the ledger's last answers: enough, so that a request need not wait for it?"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from steppe.gateway.ledger.link import AdmissionRequest, Admitted, NotAdmitted, Verdict

PLENTY = 20
"""What a tenant has is plenty for a request if it would do for so many of its kind."""
USUAL_OUTPUT = 4096
"""Output tokens of a sequence that names no maximum, to compare requests with each other."""
MOST_KNOWN = 10_000
"""Pairs of tenant and rate that are known; the oldest ones leave."""


@dataclass(slots=True)
class _Known:
    """What a tenant has for one model and class.

    Attributes:
        tokens: Tokens that it has enough for, by the last answer; infinite without a limit.
        open_tokens: Tokens of its requests that have no answer yet.
    """

    tokens: float = 0.0
    open_tokens: int = 0


class Funds:
    """What tenants have, in tokens, by model and class.

    It is a guess: other gateways and other models take from the same account. The ledger decides.
    """

    def __init__(self) -> None:
        """Begin without knowledge: each first request waits for its answer."""
        self._known: OrderedDict[tuple[str, str, str], _Known] = OrderedDict()

    def are_plenty(self, asked: AdmissionRequest) -> bool:
        """Return whether a request may go to a replica before the ledger has answered."""
        known = self._of(asked)
        return known.tokens - known.open_tokens >= PLENTY * tokens_of(asked)

    def begin(self, asked: AdmissionRequest) -> None:
        """Note that the ledger is asked about a request."""
        self._of(asked).open_tokens += tokens_of(asked)

    def end(self, asked: AdmissionRequest, verdict: Verdict | None) -> None:
        """Note what the ledger said of it; None if it was given up before."""
        known, tokens = self._of(asked), tokens_of(asked)
        known.open_tokens = max(0, known.open_tokens - tokens)
        match verdict:
            case Admitted(free=None) | Admitted(held=0):
                known.tokens = math.inf
            case Admitted(held=held, free=int(free)):
                known.tokens = free / held * tokens
            case NotAdmitted():
                known.tokens = 0.0

    def _of(self, asked: AdmissionRequest) -> _Known:
        key = asked.tenant, asked.model, asked.priority
        known = self._known.pop(key, None) or _Known()
        self._known[key] = known
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def tokens_of(asked: AdmissionRequest) -> int:
    """Return the most tokens that a request takes, about."""
    output = USUAL_OUTPUT if asked.max_tokens is None else asked.max_tokens
    return max(1, asked.prompt_tokens + output * asked.sequences)
