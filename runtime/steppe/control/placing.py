"""How requests are placed on replicas: the rule of the gateway, live and in the simulator."""

from __future__ import annotations

QUEUE_PER_REPLICA = 2
"""Requests outstanding at a replica above its batch limit, so that a batch never runs dry."""
FRESH_WEIGHT = 16.0
"""How much a request counts that waits for its first token, beside one that decodes.

Its prompt is computed within seconds and so loads its replica far more. Without it, all that comes
goes to a replica that has just woken, and queues there for its prompt. A prompt of 1155 tokens
(mean of the Azure conversation trace) takes as much of a modelled H100 as its sequence does in
some 13 decode steps of Llama-3.1-8B, which is about a second."""


def load_of(outstanding: int, fresh: int, limit: int) -> float:
    """Return how loaded a replica is: the one with the least gets the next request.

    Args:
        outstanding: Requests that it has.
        fresh: Those of them that wait for their first token.
        limit: Most requests that it may have.
    """
    return (outstanding + FRESH_WEIGHT * fresh) / limit
