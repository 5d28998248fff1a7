"""A request on its way through the simulated fleet."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.control.admission import PRIORITIES
from steppe.report.records import RequestRecord

ENERGY_SOURCE = "modelled"


@dataclass(frozen=True, slots=True)
class SimulatedArrival:
    """A request that a client will send.

    Attributes:
        at_s: When, s since the run began.
        prompt_tokens: Prompt length, tokens.
        output_tokens: Tokens it asks for, and gets unless it is cut short.
        rank: Index of its class in `PRIORITIES`.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    rank: int = 1


class Request:
    """One request while it lives.

    Attributes:
        number: Its arrival number, from 1.
        arrival: What the client sent.
        first_s: When its first token came, s; None before.
        computed_tokens: Most tokens that an engine held of it while it computed its prompt.
        output_tokens: Tokens that it got, known when it ends.
        energy_j: What it was charged so far, J.
        replica: Index of the replica that has it, or had it last; None before.
        end_s: When it ended, s.
        finish: How it ended.
    """

    __slots__ = (
        "arrival",
        "computed_tokens",
        "end_s",
        "energy_j",
        "finish",
        "first_s",
        "number",
        "output_tokens",
        "replica",
    )

    def __init__(self, number: int, arrival: SimulatedArrival) -> None:
        self.number = number
        self.arrival = arrival
        self.first_s: float | None = None
        self.computed_tokens = self.output_tokens = 0
        self.energy_j = 0.0
        self.replica: int | None = None
        self.end_s = 0.0
        self.finish = ""

    def end(self, now_s: float, finish: str, output_tokens: int) -> None:
        """Note the end."""
        self.end_s, self.finish, self.output_tokens = now_s, finish, output_tokens

    def record(self) -> RequestRecord:
        """Return what is written down of a request that has ended."""
        arrival, first_s, tokens = self.arrival, self.first_s, self.output_tokens
        at_s = arrival.at_s
        ttft_s = None if first_s is None else first_s - at_s
        tpot_s = None
        if first_s is not None and tokens >= 2:
            tpot_s = (self.end_s - first_s) / (tokens - 1)
        return RequestRecord(
            id=f"request-{self.number}",
            tenant="default",
            priority=PRIORITIES[arrival.rank],
            arrival_s=at_s,
            ttft_s=ttft_s,
            e2e_s=self.end_s - at_s,
            tpot_s=tpot_s,
            prompt_tokens=min(self.computed_tokens, arrival.prompt_tokens),
            cached_tokens=0,
            output_tokens=tokens,
            energy_j=self.energy_j,
            energy_source=ENERGY_SOURCE,
            finish=self.finish,
            replica=None if self.replica is None else f"replica-{self.replica + 1}",
        )
