"""One request inside an engine."""

from __future__ import annotations

from steppe.sim.request import Request


class Sequence:
    """One request inside an engine.

    Attributes:
        request: The request.
        prompt_left: Tokens to compute before it can decode: its prompt, or everything that it
            had when it was preempted.
        output_left: Tokens still to come; out of date while it decodes.
        finish_at: Step count at which its last token comes, while it decodes.
        cached: Tokens in the KV cache; out of date once it decodes.
        most_cached: Tokens in the KV cache at its end.
        active: Whether the next step includes it.
        receipt: What its account gave it when it joined.
    """

    __slots__ = (
        "active",
        "cached",
        "finish_at",
        "most_cached",
        "output_left",
        "prompt_left",
        "receipt",
        "request",
    )

    def __init__(self, request: Request) -> None:
        arrival = request.arrival
        self.request = request
        self.prompt_left = arrival.prompt_tokens
        self.output_left = arrival.output_tokens
        self.finish_at = 0
        self.cached = 0
        self.most_cached = arrival.prompt_tokens + arrival.output_tokens - 1
        self.active = False
        self.receipt = 0.0
